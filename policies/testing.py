"""For the tests of policies: whole transactions and evidence from the few facts a test is about.

A policy is a function, so its test is a table:

    @pytest.mark.parametrize(("score", "reason"), [(7.9, None), (8.0, "spam-score")])
    def test_what_the_score_leads_to(score, reason):
        verdict = spam(transaction(), evidence(SpamReport(score)))
        assert (verdict and verdict.reason) == reason

Every fact has a default; everything built here is as frozen as what the gateway passes. No I/O, and
no test framework is needed. `Judge` and `ReadMessage` are the types of the fixtures `judge` and `eml`, which
pytest has wherever Sluicegate is installed.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Protocol

from filters.evidence import Evidence, Finding
from gateway.smtp.address import parse_address
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.session import MTA, TLS, Session
from gateway.smtp.transaction import Stage, Transaction
from policies.policy import Policy
from policies.verdict import Verdict

_CHUNK = 65_536


class Judge(Protocol):
    """Asks a policy as the gateway would, in a test."""

    def __call__(
        self, policy: Policy, tx: Transaction, /, *findings: Finding, **options: object
    ) -> Verdict | None:
        """The policy's verdict on `tx` with these findings and options.

        Options are written as in the configuration file: a list where the policy takes a tuple. The
        test fails where the gateway would not have asked, or would not have taken the verdict.
        """


class ReadMessage(Protocol):
    """Reads a message from a file beside the test."""

    def __call__(self, name: str, /) -> Message:
        """The message as received: every line ends with CRLF, whatever is in the file."""


class MemoryContent:
    """Octets held in memory: a `gateway.smtp.message.Content`."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    @property
    def size(self) -> int:
        """Number of octets."""
        return len(self._octets)

    @property
    def digest(self) -> str:
        """SHA-256 of the octets, in hexadecimal."""
        return hashlib.sha256(self._octets).hexdigest()

    def head(self, limit: int) -> bytes:
        """The first `limit` octets."""
        return self._octets[:limit]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The octets from `start` on, in pieces of at most 64 KiB."""
        for at in range(start, len(self._octets), _CHUNK):
            yield self._octets[at : at + _CHUNK]


def session(
    *,
    client_address: str = "192.0.2.1",
    client_port: int = 40_000,
    client_name: str | None = None,
    helo_name: str | None = "client.example.net",
    esmtp: bool = True,
    tls: TLS | None = None,
    authenticated: str | None = None,
    listener: str = "127.0.0.1:25",
    mta: MTA | None = None,
) -> Session:
    """A client connection. Raises ValueError where `client_address` is no IP address."""
    return Session(
        client_address=ip_address(client_address),
        client_port=client_port,
        listener=listener,
        client_name=client_name,
        helo_name=helo_name,
        esmtp=esmtp,
        tls=tls,
        authenticated=authenticated,
    )


def message(
    *,
    header: Mapping[str, str] | None = None,
    body: str = "Hello\r\n",
    content: bytes | None = None,
) -> Message:
    """A message of these header fields and this body, or of exactly the octets in `content`."""
    if content is None:
        fields = {"From": "sender@example.net", "Subject": "Hello"} if header is None else header
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        content = f"{lines}\r\n{body}".encode()
    return Message(MemoryContent(content))


_SESSION = session()
_MESSAGE = message()


def transaction(
    *,
    stage: Stage = Stage.END_OF_DATA,
    session: Session = _SESSION,
    reverse_path: str = "sender@example.net",
    recipients: Sequence[str] = ("recipient@example.com",),
    recipient: str = "recipient@example.com",
    parameters: Mapping[str, str | None] | None = None,
    message: Message = _MESSAGE,
    trace: bytes = b"",
) -> Transaction:
    """A transaction as a policy meets it at `stage`: what comes later in the dialogue is not there.

    Addresses are written without angle brackets; the null reverse-path is "". `recipient` is the one
    in question at `Stage.RCPT`, where `recipients` are those accepted before it. Raises PathError for
    what is no address.
    """
    if stage.is_before(Stage.MAIL):
        return Transaction(stage, session)
    envelope = Envelope(
        parse_address(reverse_path),
        () if stage is Stage.MAIL else tuple(parse_address(each) for each in recipients),
        parse_address(recipient) if stage is Stage.RCPT else None,
        dict(parameters or {}),
    )
    if stage.is_before(Stage.END_OF_DATA):
        return Transaction(stage, session, envelope)
    return Transaction(stage, session, envelope, message, trace)


def evidence(*findings: Finding) -> Evidence:
    """What the filters found. A policy may only ask for what it names in `needs`."""
    return Evidence(findings)
