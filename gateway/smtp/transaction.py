"""What is judged: a snapshot of one mail transaction at one stage (RFC 5321 section 3.3)."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.session import Session


class Stage(enum.Enum):
    """When a policy is asked, in the order of the dialogue."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    END_OF_DATA = "end-of-data"

    def is_before(self, other: "Stage") -> bool:
        """True if this stage comes earlier in the dialogue than the other."""
        return _ORDER[self] < _ORDER[other]


_ORDER = {stage: number for number, stage in enumerate(Stage)}
# What is judged before a recipient is named.
BEFORE_RCPT = (Stage.CONNECT, Stage.HELO, Stage.MAIL)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Session, envelope and message as they stand at `stage`.

    Before MAIL the envelope, and before the end of data the message, is `None`: a policy is only
    asked at a stage where what it reads is there. `trace` is what will stand on top of the relayed
    message whatever is decided: the Received field, and the border between it and the content;
    empty before the end of data.
    """

    stage: Stage
    session: Session
    # Typed as present because every stage from MAIL on has one, and a policy says at which it is asked.
    envelope: Envelope = None  # type: ignore[assignment]
    message: Message = None  # type: ignore[assignment]
    trace: bytes = b""


def before_recipients(session: Session, envelope: Envelope) -> Iterator[Transaction]:
    """What the stages `BEFORE_RCPT` look at, one after the other."""
    yield Transaction(Stage.CONNECT, replace(session, helo_name=None, esmtp=False, lmtp=False))
    yield Transaction(Stage.HELO, session)
    yield Transaction(Stage.MAIL, session, replace(envelope, recipients=()))
