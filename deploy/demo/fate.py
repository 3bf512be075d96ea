"""What became of a message: sends one, reads its record and the mailbox, compares with what was expected."""

import re
import time
from dataclasses import dataclass
from typing import Any

from .client import Client, Reply
from .front import Front
from .messages import Sample

_FIELD = re.compile(rb"^([!-9;-~]+):.*\r\n(?:[ \t].*\r\n)*", re.MULTILINE)
_REFERENCE = re.compile(rb"^X-Sluicegate-Reference: (\S+)\r\n", re.MULTILINE)

# What Postfix's trace and delivery and the gateway may put on top of a message.
_OURS = re.compile(
    rb"Return-Path|X-Original-To|Delivered-To|Received|Authentication-Results"
    rb"|X-Spam-(?:Flag|Score|Status)|X-Virus-Scanned|X-Sluicegate-(?:Unscanned|Reference)"
)


@dataclass(frozen=True)
class Fate:
    """The decisive reply, the seconds from greeting to there, the record, what the mailbox got.

    `received` is None where nothing was delivered; `differences` is empty where all is as expected.
    """

    sample: Sample
    reply: Reply
    seconds: float
    record: dict[str, Any]
    received: bytes | None
    differences: tuple[str, ...]

    @property
    def arrived_whole(self) -> bool:
        """Whether the message was delivered byte for byte, below fields that may stand on top of it."""
        return self.received is not None and is_whole(self.received, self.sample.content)


def is_whole(received: bytes, content: bytes) -> bool:
    """Whether `received` is `content` below nothing but trace fields and the gateway's own."""
    if not received.endswith(content):
        return False
    # A mailbox line is made a field by what the gateway puts directly before it.
    added = received[: len(received) - len(content)].removesuffix(b"X-Mailbox-Line: ")
    # Postfix ends the header section where the sender forgot to.
    names = _FIELD.findall(added)
    return not _FIELD.sub(b"", added).strip(b"\r\n") and all(_OURS.fullmatch(name) for name in names)


def try_out(front: Front, sample: Sample) -> Fate:
    """Send the sample to whoever has the port and gather all there is to see of it."""
    expected, started = front.expected(sample), time.monotonic()
    with Client(front.port, sample.source) as client:
        reply = client.send(sample.content, [sample.recipient])[-1]
        seconds = time.monotonic() - started
    received = front.postfix.message(reply.queue_id) if reply.queue_id else None
    reference = reply.reference or _reference_in(received)
    record = front.gateway.record(reference) if reference else {}
    return Fate(expected, reply, seconds, record, received, _differences(expected, reply, record, received))


def _reference_in(received: bytes | None) -> str | None:
    found = _REFERENCE.search(received or b"")
    return found[1].decode() if found else None


def _differences(
    sample: Sample, reply: Reply, record: dict[str, Any], received: bytes | None
) -> tuple[str, ...]:
    seen = {
        "code": reply.code,
        "stage": record.get("stage"),
        "reason": record.get("reason"),
        "policy": record.get("policy"),
        "delivered": received is not None,
        "whole": received is None or is_whole(received, sample.content),
    }
    expected = {
        "code": sample.code,
        "stage": sample.stage,
        "reason": sample.reason,
        "policy": sample.policy,
        "delivered": sample.code == 250,
        "whole": True,
    }
    return tuple(
        f"{key}: {seen[key]} instead of {expected[key]}" for key in seen if seen[key] != expected[key]
    )
