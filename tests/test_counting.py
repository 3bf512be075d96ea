"""Counting what goes by on its way to the journal."""

from typing import Any

import pytest

from gateway.journal.record import Record
from gateway.journal.writer import JournalFull
from gateway.metrics.counting import CountingWriter
from gateway.metrics.ledger import Ledger, Tally, totals
from tests.journal.records import make_record

FINDINGS = {
    "VirusReport": {"unavailable": "down", "source": "clamav", "elapsed": 0.1},
    "SpamReport": {"skipped": "too large", "source": "spamassassin", "elapsed": 0.1},
    "Listings": {"total": 0, "zones": {}, "source": "dnsbl", "elapsed": 0.1},
}
OPINIONS = {
    "strict": {"verdict": None, "mode": "enforce", "reason": "policy-error", "detail": "x"},
    "trial": {"verdict": "would-tempfail", "mode": "warn", "reason": "policy-error", "detail": "x"},
    "content": {"verdict": None, "mode": "enforce"},
}


class Journal:
    """Takes records, or is full."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        if self.is_full:
            raise JournalFull
        self.records.append(record)


def counted(journal: Journal, **fields: Any) -> dict[tuple[str, ...], float]:
    ledger = Ledger()
    writer = CountingWriter(journal, Tally(ledger.descriptor, ledger.take()))
    assert writer.is_full == journal.is_full
    writer.write(make_record(**fields))
    return {(name, *labels): value for (name, labels), value in totals(ledger.descriptor).items()}


def test_a_decision_is_handed_on_and_counted():
    journal = Journal()
    assert counted(journal) == {("decisions", "rejected", "end-of-data", "spam-score"): 1.0}
    assert [record.reason for record in journal.records] == ["spam-score"]


def test_mail_that_passed_unscanned_is_counted_for_each_that_did_not_look():
    fields = {"verdict": "accepted", "evidence": FINDINGS, "opinions": OPINIONS}
    sources = {key[1] for key in counted(Journal(), **fields) if key[0] == "messages_unscanned"}
    assert sources == {"clamav", "spamassassin", "strict"}


def test_mail_that_was_refused_has_not_passed():
    assert len(counted(Journal(), evidence=FINDINGS, opinions=OPINIONS)) == 1


def test_what_is_not_recorded_is_not_counted():
    with pytest.raises(JournalFull):
        counted(Journal(is_full=True))
