"""The Received field: RFC 5321 section 4.4, with the protocol names of RFC 3848 and RFC 6531."""

import functools
import re
from datetime import datetime
from email.utils import format_datetime

from gateway.smtp.address import Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import Session

# What a client claims to be called is copied into a structured field: nothing in it may be taken
# for a comment, a quoted string or the end of a clause.
_UNSAFE = re.compile(r"[^A-Za-z0-9.:\[\]_-]")


def received_field(
    session: Session, hostname: str, reference: str, envelope: Envelope, when: datetime
) -> bytes:
    """The field as it will stand on top of the message, folded, CRLF included."""
    address = session.client_address.compressed
    literal = f"[IPv6:{address}]" if session.client_address.version == 6 else f"[{address}]"
    helo = _UNSAFE.sub("?", session.helo_name or "unknown")
    name = _UNSAFE.sub("?", session.client_name or "unknown")
    lines = [
        f"Received: from {helo} ({name} {literal})",
        f"by {hostname} (Sluicegate) with {_protocol(session, envelope)} id {reference}",
    ]
    # More than one recipient is nobody's business but the sender's (RFC 5321 section 7.6).
    if len(envelope.recipients) == 1:
        lines[-1] += _for(envelope.recipients[0], envelope.is_internationalized)
    return ("\r\n\t".join(lines) + f";\r\n\t{_date(when.replace(microsecond=0))}\r\n").encode("utf-8")


def _for(recipient: Path, is_internationalized: bool) -> str:
    is_sayable = recipient.is_ascii or is_internationalized
    return f"\r\n\tfor <{recipient}>" if recipient.domain and is_sayable else ""


@functools.lru_cache(maxsize=4)
def _date(second: datetime) -> str:
    """RFC 5322 section 3.3; the same for every message of a second."""
    return format_datetime(second)


def _protocol(session: Session, envelope: Envelope) -> str:
    if not session.esmtp:
        return "SMTP"
    is_utf8 = envelope.is_internationalized
    base = "LMTP" if session.lmtp else "SMTP" if is_utf8 else "ESMTP"
    return (
        ("UTF8" if is_utf8 else "")
        + base
        + ("S" if session.tls else "")
        + ("A" if session.authenticated else "")
    )
