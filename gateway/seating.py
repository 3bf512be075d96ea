"""Which workers a configuration needs, and where they sit: what they inherit, where each of them may write.

Each worker has two seats in everything they share, so that a successor can sit down while it finishes. The
SMTP workers share all SMTP and LMTP listeners. A milter's socket has as many workers to itself, for libmilter
serves one socket in a process.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence

from gateway import bulletin
from gateway.child import Seat
from gateway.config import Config, ConfigError
from gateway.config.schema import ListenerSection, MetricsSection, Role
from gateway.metrics.ledger import Ledger
from gateway.proxy.admission import share_memory
from gateway.roles import ROLES, WORKERS

# Of each worker: its own, and its successor's.
_SEATS = 2

Crew = tuple[Role, list[list[Seat]]]


def roles_of(config: Config, only: str | None = None) -> tuple[str, ...]:
    """The roles to run: those that the configuration needs, or `only` one of them. Raises ConfigError."""
    idle = {role for role in WORKERS if not config.listeners(role)}
    if only in idle:
        wanted = '"milter"' if only == "milter" else '"smtp" or "lmtp"'
        problem = f"none is {wanted}, so there is nothing to do for --role {only}"
        raise ConfigError("[[listener]]", "protocol", problem, config.file)
    return tuple(role for role in ROLES if role not in idle and only in (role, None))


def listeners_of(config: Config, roles: Sequence[str]) -> list[ListenerSection]:
    """The listeners that these roles serve, in configured order."""
    return [listener for listener in config.listener if listener.role in roles]


def metrics_of(config: Config, roles: Sequence[str]) -> list[MetricsSection]:
    """`[metrics]`, if there is such a section and it is for whoever runs these roles to show it.

    Of several supervisors one can have the address: that with the SMTP workers, or with a milter's where
    there are none.
    """
    shower = next(role for role in WORKERS if config.listeners(role))
    return [config.metrics] if config.metrics is not None and shower in roles else []


class Seating:
    """The seats of one generation of workers, of some roles, on these sockets by their listeners' addresses.

    Raises OSError where there is no memory to share.
    """

    def __init__(
        self, config: Config, roles: Sequence[str], sockets: Mapping[str, socket.socket], ledger: Ledger
    ) -> None:
        self._config = config
        self._roles = roles
        self._sockets = sockets
        self._ledger = ledger
        self._count = config.gateway.workers or len(os.sched_getaffinity(0))
        self._slots: list[int] = []
        self._bulletins: list[int] = []
        self._counts = share_memory(_SEATS * self._count, len(config.listeners("smtp")))
        try:
            self.crews: tuple[Crew, ...] = tuple(self._crews())
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Give back whatever the workers shared. None of them may be left."""
        for descriptor in (self._counts, *self._bulletins):
            os.close(descriptor)
        for slot in self._slots:
            self._ledger.give_back(slot)

    def _crews(self) -> Iterator[Crew]:
        """Each role with the seats of its workers, those of one listener or one set of listeners together."""
        if "smtp" in self._roles:
            yield "smtp", [self._smtp(number) for number in range(self._count)]
        if "milter" in self._roles:
            for listener in range(len(self._config.listeners("milter"))):
                yield "milter", [self._milter(listener) for _ in range(self._count)]

    def _smtp(self, number: int) -> list[Seat]:
        """The seats of the SMTP worker of this number: two of the rows that connections are counted in."""
        sockets = [self._sockets[listener.address].fileno() for listener in self._config.listeners("smtp")]
        shared = [
            f"--sockets={','.join(map(str, sockets))}",
            f"--counts={self._counts}",
            f"--seats={_SEATS * self._count}",
        ]
        rows = range(number, _SEATS * self._count, self._count)
        return [self._seat([*shared, f"--seat={row}"], [*sockets, self._counts]) for row in rows]

    def _milter(self, number: int) -> list[Seat]:
        """The seats of one worker of the milter of this number."""
        bound = self._sockets[self._config.listeners("milter")[number].address].fileno()
        own = [f"--sockets={bound}", f"--listener={number}"]
        return [self._seat(own, [bound]) for _ in range(_SEATS)]

    def _seat(self, own: list[str], descriptors: list[int]) -> Seat:
        self._slots.append(self._ledger.take())
        self._bulletins.append(bulletin.share_memory())
        ledger, board = self._ledger.descriptor, self._bulletins[-1]
        arguments = [
            f"--workers={self._sharers}",
            f"--ledger={ledger}",
            f"--slot={self._slots[-1]}",
            f"--bulletin={board}",
        ]
        return Seat([*own, *arguments], [*descriptors, ledger, board], board)

    @property
    def _sharers(self) -> int:
        """How many workers share the state directory, those that another supervisor starts among them."""
        milters = len(self._config.listeners("milter"))
        return self._count * (milters + bool(self._config.listeners("smtp")))
