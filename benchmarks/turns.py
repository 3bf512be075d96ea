"""Contestants in turns: what each made of the same load in each round, and how they compare.

A ratio is that of two figures of one round, and the median of all rounds counts: whatever else the machine
does meets neighbours alike.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploy.demo.client import Client
from deploy.demo.daemons import EICAR, LOOPBACK, DaemonError
from deploy.demo.messages import message

from .contestants import GTUBE, Arena, Contestant
from .load import Load, cpu_seconds, send, settled


@dataclass(frozen=True)
class Usage:
    """Messages per second, and milliseconds of CPU per message of the milters and of those around them."""

    rate: float
    milters: float
    scanners: float
    postfix: float

    @property
    def together(self) -> float:
        """Milliseconds of all of them."""
        return self.milters + self.scanners + self.postfix


Figure = Callable[[Usage], float]
Rounds = Mapping[str, Sequence[Usage]]


def median(rounds: Sequence[Usage], figure: Figure) -> float:
    """The median of one figure."""
    return statistics.median(map(figure, rounds))


def ratio(rounds: Sequence[Usage], others: Sequence[Usage], figure: Figure) -> float | None:
    """The median of the rounds' ratios; `None` where the others have nothing to compare with."""
    pairs = [(figure(one), figure(other)) for one, other in zip(rounds, others, strict=True)]
    if any(not other for _, other in pairs):
        return None
    return statistics.median(one / other for one, other in pairs)


def check(arena: Arena) -> None:
    """Whether everybody refuses what it is there for, and nothing else.

    Raises DaemonError: what does not look at the mail has no figures that count.
    """
    for kind, body in (("clean", b"Hello"), ("virus", EICAR), ("spam", GTUBE)):
        for each in arena.contestants:
            with Client(each.port) as client:
                reply = client.send(message(kind, body + b"\r\n"), ["b@example.com"])[-1]
            expected = 550 if kind in each.finds else 250
            if reply.code != expected:
                raise DaemonError(f"{each.name} is told {reply.code} {reply.text} for a message: {kind}")


def in_turns(arena: Arena, load: Load, rounds: int, tell: Callable[[str], None]) -> Rounds:
    """All rounds of all contestants. Raises DaemonError where a message is refused."""
    done: dict[str, list[Usage]] = {each.name: [] for each in arena.contestants}
    for number in range(1, rounds + 1):
        for each in arena.contestants:
            tell(f"round {number} of {rounds}: {each.name}")
            done[each.name].append(_measure(arena, each, load))
    return done


def _measure(arena: Arena, contestant: Contestant, load: Load) -> Usage:
    """Its turn, and a little before that to wake up everybody."""
    target = f"{LOOPBACK}:{contestant.port}"
    send(Load(load.connections, load.size, load.connections, load.reuse), target)
    before, started = settled(lambda: dict(_used(arena, contestant))), time.monotonic()
    send(load, target)
    elapsed = time.monotonic() - started
    after = settled(lambda: dict(_used(arena, contestant)))
    used = {kind: (after[kind] - before[kind]) * 1000 / load.messages for kind in after}
    return Usage(load.messages / elapsed, **used)


def _used(arena: Arena, contestant: Contestant) -> Iterator[tuple[str, float]]:
    """CPU seconds so far."""
    groups = {"milters": contestant.milters, "scanners": arena.scanners, "postfix": [arena.postfix]}
    for kind, leaders in groups.items():
        yield kind, sum(sum(cpu_seconds(leader).values()) for leader in leaders)
