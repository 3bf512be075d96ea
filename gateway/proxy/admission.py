"""Who is let in: how many connections at once, in all, from one client and from one network.

The workers count in memory they share. Each writes only to cells of its own and adds up everybody's,
so there is no lock, and a worker that dies takes nothing with it: the next one begins with clean counts.
Two workers that look at the same instant may both let one in where there was room for one. That costs
a connection, and is cheaper than a lock on every accept.

Who has behaved is remembered there too, as the minute in which the downstream last took a message of
theirs. Each worker again writes only its own cells and reads everybody's; an aligned cell is written
whole, and what a reader may see of a race is the minute before or after. Such a client may use the
reserve, a tenth on top of all connections. Strangers that share both cells with it may as well, which
takes a place in the reserve and nothing else; the places are keyed, so nobody can look for such cells.
"""

import enum
import functools
import hashlib
import mmap
import os
import secrets
import time
from collections.abc import Iterator, Sequence

from gateway.proxy.descriptors import Descriptors
from gateway.smtp.networks import Networks
from gateway.smtp.session import IPAddress

# A client is counted in two of these; the smaller count is taken, so that sharing one does no harm.
_SLOTS = 16_384
_CLIENTS, _NETWORKS, _BEHAVED, _TOTAL = 0, _SLOTS, 2 * _SLOTS, 3 * _SLOTS
_CELLS = _TOTAL + 1
_CELL_SIZE = 4
_KEY_SIZE = 16
# Clients whose cells need not be found out again for each connection and message.
_REMEMBERED = 4096
# What one customer usually has to itself, and what is usually in one hand.
_CLIENT_OCTETS = {4: 4, 6: 8}
_NETWORK_OCTETS = {4: 3, 6: 6}
# Minutes for which a client that has delivered mail is remembered.
_MEMORY = 24 * 60
# The part of all connections that such clients get on top of them.
_RESERVE = 10
# Beyond this part of all connections those who say nothing have to make room.
_CROWDED = 0.9
# How many clients' worth a network gets unless somebody says otherwise, and what it gets at least.
_CLIENTS_OF_A_NETWORK, _LEAST_OF_A_NETWORK = 5, 100
_NOBODY = Networks()


def share_memory(workers: int, listeners: int) -> int:
    """The descriptor of memory for so many workers and listeners, to be inherited by the workers."""
    descriptor = os.memfd_create("connections")
    os.ftruncate(descriptor, _KEY_SIZE + workers * listeners * _CELLS * _CELL_SIZE)
    os.pwrite(descriptor, secrets.token_bytes(_KEY_SIZE), 0)
    return descriptor


class Limit(enum.Enum):
    """What keeps a client out, in words for the operator."""

    IN_ALL = "max_connections"
    PER_CLIENT = "max_connections_per_client"
    PER_NETWORK = "max_connections_per_network"
    DESCRIPTORS = "file descriptors of the worker (RLIMIT_NOFILE)"


class ConnectionCounts:
    """All workers' open connections on one listener."""

    def __init__(self, descriptor: int, worker: int, workers: int, listener: int) -> None:
        memory = memoryview(mmap.mmap(descriptor, 0))
        self._key = bytes(memory[:_KEY_SIZE])
        cells = memory[_KEY_SIZE:].cast("I")
        first = listener * workers
        rows = [cells[(first + row) * _CELLS : (first + row + 1) * _CELLS] for row in range(workers)]
        self._rows: Sequence[memoryview] = rows
        self._own = rows[worker]
        # What a predecessor knew of those who have behaved is as true as before.
        for cell in (*range(_BEHAVED), _TOTAL):
            self._own[cell] = 0

    def change(self, client: IPAddress, by: int) -> None:
        """Count a connection in or out."""
        for cell in {*self._client_cells(client), *self._network_cells(client), _TOTAL}:
            self._own[cell] += by

    def in_all(self) -> int:
        """Connections open on this listener."""
        return sum(row[_TOTAL] for row in self._rows)

    def of(self, client: IPAddress) -> int:
        """Connections open on this listener from this client."""
        return self._count(self._client_cells(client))

    def of_network(self, client: IPAddress) -> int:
        """Connections open on this listener from this client and its neighbours."""
        return self._count(self._network_cells(client))

    def remember(self, client: IPAddress) -> None:
        """This client has delivered mail."""
        for cell in self._client_cells(client):
            self._own[_BEHAVED + cell] = _minute()

    def has_behaved(self, client: IPAddress) -> bool:
        """Whether this client has delivered mail within the last day, as far as is known."""
        since = max(_minute() - _MEMORY, 1)
        cells = self._client_cells(client)
        return all(any(row[_BEHAVED + cell] >= since for row in self._rows) for cell in cells)

    def _count(self, cells: tuple[int, int]) -> int:
        return min(sum(row[cell] for row in self._rows) for cell in cells)

    def _client_cells(self, client: IPAddress) -> tuple[int, int]:
        return _cells(self._key, client)[0]

    def _network_cells(self, client: IPAddress) -> tuple[int, int]:
        return _cells(self._key, client)[1]


class Admission:
    """The limits of one listener. `descriptors` are the worker's, for all its listeners.

    `per_network` is five times `per_client` where it is None, but not less than 100. Peers in `exempt`
    bring other people's connections: they count in all and for nobody's share, and may use the reserve
    for whom they bring.
    """

    def __init__(
        self,
        counts: ConnectionCounts,
        in_all: int,
        per_client: int,
        per_network: int | None = None,
        descriptors: Descriptors | None = None,
        exempt: Networks = _NOBODY,
    ) -> None:
        self._counts = counts
        self._in_all = in_all
        self._per_client = per_client
        self._per_network = per_network or max(per_client * _CLIENTS_OF_A_NETWORK, _LEAST_OF_A_NETWORK)
        self._descriptors = descriptors or Descriptors()
        self._exempt = exempt

    @property
    def is_crowded(self) -> bool:
        """Whether so many are connected that those who say nothing have to make room."""
        return self._counts.in_all() >= self._in_all * _CROWDED

    def admit(self, client: IPAddress) -> Limit | None:
        """Count a connection in, unless it is one too many: then the limit that says so."""
        limit = next(self._limits(client), None)
        if limit is None and not self._descriptors.take_for_connection():
            limit = Limit.DESCRIPTORS
        if limit is None:
            self._counts.change(client, 1)
        return limit

    def release(self, client: IPAddress) -> None:
        """Count a connection out that was admitted."""
        self._counts.change(client, -1)
        self._descriptors.give_back_connection()

    def remember(self, client: IPAddress) -> None:
        """The downstream has taken a message from this client."""
        self._counts.remember(client)

    def _limits(self, client: IPAddress) -> Iterator[Limit]:
        is_exempt = client in self._exempt
        in_all = self._counts.in_all()
        if in_all >= self._in_all:
            is_full = in_all >= self._in_all + self._in_all // _RESERVE
            if is_full or not (is_exempt or self._counts.has_behaved(client)):
                yield Limit.IN_ALL
        if is_exempt:
            return
        if self._counts.of(client) >= self._per_client:
            yield Limit.PER_CLIENT
        if self._counts.of_network(client) >= self._per_network:
            yield Limit.PER_NETWORK


@functools.lru_cache(maxsize=_REMEMBERED)
def _cells(key: bytes, client: IPAddress) -> tuple[tuple[int, int], tuple[int, int]]:
    """The cells of the client, and those of its network."""
    octets = client.packed
    return (
        _places(key, _CLIENTS, octets[: _CLIENT_OCTETS[client.version]]),
        _places(key, _NETWORKS, octets[: _NETWORK_OCTETS[client.version]]),
    )


def _places(key: bytes, table: int, octets: bytes) -> tuple[int, int]:
    """Two cells of a table, independent of each other."""
    hashed = int.from_bytes(hashlib.blake2b(octets, digest_size=8, key=key).digest(), "big")
    return table + hashed % _SLOTS, table + (hashed >> 32) % _SLOTS


def _minute() -> int:
    # One clock for all processes of the machine; beyond 0, which is what clean memory says.
    return int(time.monotonic() // 60) + 1
