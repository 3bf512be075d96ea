"""Counts decisions, and mail that passed unscanned, as their records go by."""

from collections.abc import Iterator

from gateway.journal.record import Record
from gateway.metrics.ledger import Counter
from gateway.recorder import RecordWriter


class CountingWriter:
    """A writer of records in front of another one. What that one does not take does not count."""

    def __init__(self, writer: RecordWriter, counter: Counter) -> None:
        self._writer = writer
        self._counter = counter

    @property
    def is_full(self) -> bool:
        """True when another record could not be kept."""
        return self._writer.is_full

    def write(self, record: Record) -> None:
        """Hand one record on. Raises JournalFull."""
        self._writer.write(record)
        self._counter.add("decisions", (record.verdict, record.stage, record.reason))
        if record.verdict == "accepted":
            for source in unscanned_by(record):
                self._counter.add("messages_unscanned", (source,))


def unscanned_by(record: Record) -> Iterator[str]:
    """The filters that gave no finding about this mail, and the enforced policies that failed."""
    for found in record.evidence.values():
        if "unavailable" in found or "skipped" in found:
            yield str(found["source"])
    for policy, opinion in record.opinions.items():
        if opinion["mode"] == "enforce" and opinion.get("reason") == "policy-error":
            yield policy
