"""Who is let in: how many connections at once, in all and from one client, whichever worker has them.

The workers count in memory they share. Each writes only to cells of its own and adds up everybody's,
so there is no lock, and a worker that dies takes nothing with it: the next one begins with clean cells.
"""

import mmap
import os
import zlib
from collections.abc import Sequence

from gateway.smtp.session import IPAddress

# A client is counted in two of these; the smaller count is taken, so that sharing one does no harm.
_SLOTS = 16_384
_CELLS = _SLOTS + 1
_TOTAL = _SLOTS
_CELL_SIZE = 4
# What one customer usually has to itself.
_IPV6_PREFIX_OCTETS = 8


def share_memory(workers: int, listeners: int) -> int:
    """The descriptor of memory for so many workers and listeners, to be inherited by the workers."""
    descriptor = os.memfd_create("connections")
    os.ftruncate(descriptor, workers * listeners * _CELLS * _CELL_SIZE)
    return descriptor


class ConnectionCounts:
    """All workers' open connections on one listener."""

    def __init__(self, descriptor: int, worker: int, workers: int, listener: int) -> None:
        cells = memoryview(mmap.mmap(descriptor, 0)).cast("I")
        first = listener * workers
        rows = [cells[(first + row) * _CELLS : (first + row + 1) * _CELLS] for row in range(workers)]
        self._rows: Sequence[memoryview] = rows
        self._own = rows[worker]
        for cell in range(_CELLS):
            self._own[cell] = 0

    def change(self, client: IPAddress, by: int) -> None:
        """Count a connection in or out."""
        for slot in {*_slots(client), _TOTAL}:
            self._own[slot] += by

    def in_all(self) -> int:
        """Connections open on this listener."""
        return sum(row[_TOTAL] for row in self._rows)

    def of(self, client: IPAddress) -> int:
        """Connections open on this listener from this client."""
        return min(sum(row[slot] for row in self._rows) for slot in _slots(client))


class Admission:
    """The limits of one listener."""

    def __init__(self, counts: ConnectionCounts, in_all: int, per_client: int) -> None:
        self._counts = counts
        self._in_all = in_all
        self._per_client = per_client

    def admit(self, client: IPAddress) -> bool:
        """Count a connection in, unless it is one too many."""
        if self._counts.in_all() >= self._in_all or self._counts.of(client) >= self._per_client:
            return False
        self._counts.change(client, 1)
        return True

    def release(self, client: IPAddress) -> None:
        """Count a connection out that was admitted."""
        self._counts.change(client, -1)


def _slots(client: IPAddress) -> tuple[int, int]:
    octets = client.packed[:_IPV6_PREFIX_OCTETS]
    return zlib.crc32(octets) % _SLOTS, zlib.crc32(octets, 1) % _SLOTS
