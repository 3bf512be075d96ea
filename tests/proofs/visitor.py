"""A client that can tell an end from a reply: `tests.client`, from an address of its own."""

import ssl
from dataclasses import dataclass

from tests.client import Answer, Client
from tests.proofs.mailbox import FIRST_FIELD, digest


class CutOff(Exception):
    """The connection ended where a reply was due."""


@dataclass(frozen=True)
class Letter:
    """A message and its envelope. `content` begins with its Message-ID; its dots are not stuffed yet."""

    identity: str
    content: bytes
    recipients: tuple[str, ...]
    sender: str = "s@a.example"

    @property
    def stuffed(self) -> bytes:
        """As it goes over the wire, without the end of data (RFC 5321 section 4.5.2)."""
        return (b"\r\n" + self.content).replace(b"\r\n.", b"\r\n..")[2:]

    @property
    def digest(self) -> str:
        """As a mailbox remembers it."""
        return digest(self.content)


def letter(identity: str, body: bytes, *recipients: str, sender: str = "s@a.example") -> Letter:
    """A letter with a small header section; `body` ends with CRLF."""
    head = FIRST_FIELD + identity.encode() + b"\r\nFrom: <s@a.example>\r\nSubject: proof\r\n\r\n"
    return Letter(identity, head + body, recipients or ("u1@our.example",), sender)


class Visitor(Client):
    """One connection; whoever waits for a reply that cannot come any more gets CutOff."""

    def __init__(self, port: int, source: str, source_port: int = 0) -> None:
        super().__init__(port, source=source, source_port=source_port, greet=False)

    @property
    def port(self) -> int:
        """Its own."""
        return int(self._writer.get_extra_info("sockname")[1])

    async def line(self) -> str:
        try:
            line = await super().line()
        except (ConnectionError, ssl.SSLError):
            raise CutOff from None
        if not line and self._reader.at_eof():
            raise CutOff
        return line

    async def send(self, octets: bytes) -> None:
        try:
            await super().send(octets)
        except ConnectionError:
            raise CutOff from None

    async def greeting(self) -> Answer:
        """The banner."""
        return await self.reply()
