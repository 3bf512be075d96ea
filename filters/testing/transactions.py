"""Transactions to ask filters about."""

import hashlib
import ipaddress
from collections.abc import Iterator

from gateway.smtp.address import NULL_PATH, parse_forward_path
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage, Transaction

_CHUNK = 131_072


class HeldContent:
    """Content that is simply there: a `gateway.smtp.message.Content`."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)
        self.digest = hashlib.sha256(octets).hexdigest()

    def head(self, limit: int) -> bytes:
        return self._octets[:limit]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        for at in range(start, self.size, _CHUNK):
            yield self._octets[at : at + _CHUNK]


def session(client: str = "192.0.2.1") -> Session:
    return Session(ipaddress.ip_address(client), 4321, "127.0.0.1:25", helo_name="mail.example.net")


def at_connect(client: str) -> Transaction:
    return Transaction(Stage.CONNECT, session(client))


def at_rcpt(recipient: str) -> Transaction:
    path, rest = parse_forward_path(f"<{recipient}>".encode())
    assert not rest
    return Transaction(Stage.RCPT, session(), Envelope(NULL_PATH, recipient=path))


def at_end_of_data(content: bytes = b"Subject: x\r\n\r\nHello\r\n", trace: bytes = b"") -> Transaction:
    message = Message(HeldContent(content))
    return Transaction(Stage.END_OF_DATA, session(), Envelope(NULL_PATH), message, trace)
