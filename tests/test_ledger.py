"""Counting in shared memory: nothing is lost with a writer, counts backwards, or grows for ever."""

import os
import struct

import pytest

from gateway.metrics.ledger import Ledger, Tally, totals


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_what_several_writers_count_is_added_up(ledger: Ledger):
    one, another = (Tally(ledger.descriptor, ledger.take()) for _ in range(2))
    one.add("calls", ("spam", "reject"))
    one.add("calls", ("spam", "reject"))
    one.add("seconds", ("spam",), 0.25)
    another.add("calls", ("spam", "reject"), 3)
    another.add("calls", ("virus", "none"))
    assert totals(ledger.descriptor) == {
        ("calls", ("spam", "reject")): 5.0,
        ("calls", ("virus", "none")): 1.0,
        ("seconds", ("spam",)): 0.25,
    }


def test_the_next_writer_of_a_slot_goes_on_where_the_last_one_ended(ledger: Ledger):
    slot = ledger.take()
    Tally(ledger.descriptor, slot).add("calls", ("spam",))
    successor = Tally(ledger.descriptor, slot)
    successor.add("calls", ("spam",))
    successor.add("calls", ("virus",))
    assert totals(ledger.descriptor) == {("calls", ("spam",)): 2.0, ("calls", ("virus",)): 1.0}


def test_a_writer_killed_over_a_new_series_leaves_nothing_of_it(ledger: Ledger):
    slot = ledger.take()
    Tally(ledger.descriptor, slot).add("a-long-name", ("with-a-long-label",))
    # It had written the key, and not yet that there is one more.
    os.pwrite(ledger.descriptor, bytes(8), slot << 20)
    Tally(ledger.descriptor, slot).add("short", ("x",))
    assert totals(ledger.descriptor).keys() == {("short", ("x",))}
    Tally(ledger.descriptor, slot)


@pytest.mark.parametrize("count", [2.0, 2048.0, 1e300, -1.0, float("nan"), float("inf")])
def test_a_slot_whose_writer_went_mad_does_no_harm(ledger: Ledger, count: float):
    slot = ledger.take()
    Tally(ledger.descriptor, slot).add("calls", ("spam",))
    os.pwrite(ledger.descriptor, struct.pack("d", count), slot << 20)
    os.pwrite(ledger.descriptor, struct.pack("d", count), (slot << 20) + 2 * 8)
    os.pwrite(ledger.descriptor, b"[]", (slot << 20) + (1 + 2048) * 8 + 256)
    assert totals(ledger.descriptor) in ({}, {("calls", ("spam",)): 1.0})
    successor = Tally(ledger.descriptor, slot)
    successor.add("calls", ("virus",))
    successor.add("calls", ("spam",))
    assert totals(ledger.descriptor).keys() <= {("calls", ("spam",)), ("calls", ("virus",))}


def test_a_slot_is_used_again_with_what_was_counted_in_it(ledger: Ledger):
    slot = ledger.take()
    Tally(ledger.descriptor, slot).add("calls", ("spam",))
    ledger.give_back(slot)
    assert ledger.take() == slot
    assert ledger.take() != slot
    assert totals(ledger.descriptor) == {("calls", ("spam",)): 1.0}


def test_beyond_so_many_series_the_last_label_is_other(ledger: Ledger):
    slot = ledger.take()
    tally = Tally(ledger.descriptor, slot)
    for number in range(600):
        tally.add("decisions", ("rejected", f"reason-{number}"))
    tally.add("decisions", ("rejected", "reason-7"))
    # A successor knows as much.
    Tally(ledger.descriptor, slot).add("decisions", ("rejected", "quite-new"))
    sums = totals(ledger.descriptor)
    assert len(sums) == 501
    assert sums["decisions", ("rejected", "other")] == 101.0
    assert sums["decisions", ("rejected", "reason-7")] == 2.0
    assert sum(sums.values()) == 602.0


def test_a_full_slot_takes_no_new_series_and_keeps_the_old_ones(ledger: Ledger):
    tally = Tally(ledger.descriptor, ledger.take())
    for number in range(3000):
        tally.add(f"name-{number}", ("x",))
    tally.add("name-0", ("x",))
    sums = totals(ledger.descriptor)
    assert len(sums) == 2048
    assert sums["name-0", ("x",)] == 2.0


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("x" * 1000, "x" * 48),
        ("\u00e4" * 1000, "\\xe4" * 12),
        ("\x00", "\x00"),
        ('"\\\n', '"\\\n'),
        ("\udcff", "\\udcff"),
    ],
    ids=ascii,
)
def test_any_label_can_be_counted(ledger: Ledger, label: str, shown: str):
    tally = Tally(ledger.descriptor, ledger.take())
    tally.add("decisions", (label, label, label))
    tally.add("decisions", (label, label, label))
    assert totals(ledger.descriptor) == {("decisions", (shown, shown, shown)): 2.0}
