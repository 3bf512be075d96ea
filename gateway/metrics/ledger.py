"""What happens, counted: numbers in shared memory, which every process adds to and one process shows.

The memory is divided into slots. A slot has one writer at a time, so there is no lock; it outlives its
writer, and the next one goes on counting where that one was killed, so nothing is counted backwards. The
number of series is bounded: beyond it the last label of a new one is `other`.
"""

import math
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

OTHER = "other"

_MAX_SERIES = 2048
_MAX_OF_ONE_NAME = 500
_MAX_LABEL = 48
_NUMBER, _KEY = 8, 256
# The first number is how many series there are.
_KEYS = (1 + _MAX_SERIES) * _NUMBER
_SLOT = 1 << 20
assert _KEYS + _MAX_SERIES * _KEY <= _SLOT


class Counter(Protocol):
    """What takes counts."""

    def add(self, name: str, labels: tuple[str, ...], amount: float = 1.0) -> None:
        """Add to the series of this name with these values of its labels."""


class Uncounted:
    """Takes counts and forgets them."""

    def add(self, name: str, labels: tuple[str, ...], amount: float = 1.0) -> None:
        """Nothing."""


class Ledger:
    """All slots, in the process that hands them out to writers."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("ledger")
        self._free: list[int] = []
        self._slots = 0

    def take(self) -> int:
        """The number of a slot that nobody writes to."""
        if self._free:
            return self._free.pop()
        self._slots += 1
        os.ftruncate(self.descriptor, self._slots * _SLOT)
        return self._slots - 1

    def give_back(self, slot: int) -> None:
        """Its writer is gone. What it has counted stays."""
        self._free.append(slot)


class Tally:
    """The writer of a slot."""

    def __init__(self, descriptor: int, slot: int) -> None:
        self._memory = memoryview(mmap.mmap(descriptor, _SLOT, offset=slot * _SLOT))
        self._numbers = self._memory[:_KEYS].cast("d")
        self._places: dict[tuple[str, tuple[str, ...]], int] = {}
        self._counts: dict[str, int] = {}
        self._series = _count(self._memory)
        for place, name, labels in _series(bytes(self._memory)):
            self._places[name, labels] = place
            self._counts[name] = self._counts.get(name, 0) + 1

    def add(self, name: str, labels: tuple[str, ...], amount: float = 1.0) -> None:
        """Add to the series of this name with these values of its labels."""
        place = self._places.get((name, labels))
        if place is None:
            place = self._place(name, labels)
            if place is None:
                return
        self._numbers[place] += amount

    def _place(self, name: str, labels: tuple[str, ...]) -> int | None:
        """Where a series is that these labels do not lead to yet; None if there is no more room."""
        labels = tuple(label.encode("ascii", "backslashreplace").decode()[:_MAX_LABEL] for label in labels)
        if self._counts.get(name, 0) >= _MAX_OF_ONE_NAME:
            labels = (*labels[:-1], OTHER)
        key = msgspec.json.encode((name, *labels))
        place = self._places.get((name, labels))
        if place is not None or len(key) > _KEY or self._series >= _MAX_SERIES:
            return place
        self._series = place = self._series + 1
        start = _KEYS + (place - 1) * _KEY
        # Whole, for a writer that was killed right here may have left a longer one.
        self._memory[start : start + _KEY] = key.ljust(_KEY, b"\0")
        # Only now, so that whoever reads finds no half of a key.
        self._numbers[0] = place
        self._places[name, labels] = place
        self._counts[name] = self._counts.get(name, 0) + 1
        return place


def totals(descriptor: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """The sums of all slots by name and labels, at this moment."""
    sums: dict[tuple[str, tuple[str, ...]], float] = {}
    for slot in range(os.fstat(descriptor).st_size // _SLOT):
        memory = os.pread(descriptor, _SLOT, slot * _SLOT)
        numbers: Sequence[float] = memoryview(memory[:_KEYS]).cast("d")
        for place, name, labels in _series(memory):
            if math.isfinite(numbers[place]):
                sums[name, labels] = sums.get((name, labels), 0.0) + numbers[place]
    return sums


def _series(memory: bytes) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Place, name and labels of each series in a slot; what makes no sense is passed over.

    Its writer ran other people's code, and may have gone mad before it died.
    """
    for place in range(1, _count(memory) + 1):
        start = _KEYS + (place - 1) * _KEY
        try:
            name, *labels = msgspec.json.decode(memory[start : start + _KEY].rstrip(b"\0"), type=list[str])
        except (msgspec.DecodeError, ValueError):
            continue
        yield place, name, tuple(labels)


def _count(memory: bytes | memoryview) -> int:
    """How many series a slot has."""
    number = memoryview(memory[:_NUMBER]).cast("d")[0]
    return int(number) if 0 <= number <= _MAX_SERIES else 0
