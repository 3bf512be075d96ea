"""Records for tests, and what a journal holds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.journal.record import (
    ClientRecord,
    MessageRecord,
    Record,
    ReplyRecord,
    decode,
    encode,
    new_reference,
    timestamp,
)


def make_record(subject: str | None = "hello", *, age: float = 0.0, **fields: Any) -> Record:
    """A record of a message refused as spam `age` seconds ago, with the named fields instead."""
    defaults: dict[str, Any] = {
        "reference": new_reference(),
        "time": timestamp(datetime.now(UTC) - timedelta(seconds=age)),
        "node": "mx.test",
        "listener": "127.0.0.1:25",
        "verdict": "rejected",
        "stage": "end-of-data",
        "spoken": "end-of-data",
        "reason": "spam-score",
        "policy": "spam",
        "detail": "9.1 BAYES_99",
        "reply": ReplyRecord(550, "5.7.1", "Message refused: it looks like spam"),
        "client": ClientRecord("192.0.2.7", 40001, "mail.sender.example", "helo.sender.example"),
        "reverse_path": "Someone@Sender.example",
        "recipients": ["b@example.com"],
        "message": MessageRecord(1234, "0" * 64, "<1@sender.example>", subject, "A <a@sender.example>"),
    }
    return Record(**{**defaults, **fields})


def subjects(records: list[Record]) -> list[str | None]:
    """The subjects, by which tests tell records apart."""
    return [record.message.subject if record.message else None for record in records]


def spooled(directory: Path) -> list[str | None]:
    """The subjects of everything in the spool; fails on anything that is no record."""
    lines = b"".join(path.read_bytes() for path in sorted(directory.iterdir())).splitlines()
    return subjects([decode(line) for line in lines])


def put(directory: Path, name: str, *records: Record, tail: bytes = b"") -> Path:
    """A spool file whose writer is gone."""
    path = directory / f"{name}.jsonl"
    path.write_bytes(b"".join(map(encode, records)) + tail)
    return path
