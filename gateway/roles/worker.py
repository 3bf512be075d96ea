"""What the workers of every role share: the things that judge mail, and what keeps one of them well.

A worker has its own event loop and filters. It shares with others the listening sockets, the directory
that records go to, and the room for content.
"""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.assembly import Assembly, assemble
from gateway.bulletin import Bulletin
from gateway.config import Config
from gateway.config.schema import GatewaySection
from gateway.joining import THROWN
from gateway.journal.layout import Layout
from gateway.journal.writer import JournalWriter
from gateway.metrics.counting import CountingWriter
from gateway.metrics.ledger import Tally
from gateway.pipeline import FilterSetting
from gateway.quarantine.store import Quarantine, quarantine_directory
from gateway.recorder import Recorder
from gateway.roles.control import Control
from gateway.spool import Store, content_directory
from gateway.watch import Watch

# How long a session in the middle of something may go on after SIGTERM.
GRACE = 30.0
_FLUSH_INTERVAL = 1.0
_HEALTH_INTERVAL = 1.0
# The part of its memory beyond which a worker is to be replaced, before there is none left.
_WELL_FED = 0.75
_MIB = 1024 * 1024
# How long neighbours may keep a worker from its first client.
_FIRST_PROBE = 1.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker has from the supervisor: the descriptor of its bulletin, and its part of the ledger.

    `workers` is how many share the room for content, those of other roles among them.
    """

    workers: int
    bulletin: int
    ledger: int
    slot: int


@dataclass(frozen=True, slots=True)
class Tools:
    """What all sessions of a worker share, whatever they speak."""

    assembly: Assembly
    recorder: Recorder
    store: Store
    quarantine: Quarantine


@contextlib.asynccontextmanager
async def working(config: Config, desk: Desk, control: Control) -> AsyncIterator[Tools]:
    """A worker's tools, closed again in the right order. Raises ConfigError."""
    gateway = config.gateway
    state = Path(gateway.state_directory)
    tally = Tally(desk.ledger, desk.slot)
    watch = _watch(gateway, desk, tally, control)
    assembly = assemble(config, watch)
    writer = JournalWriter(Layout(state).spool)
    try:
        async with chores(
            _flush_now_and_then(writer),
            assembly.files.keep_reloading(),
            _say_when_unwell(watch, gateway, control),
        ):
            watch.start()
            yield Tools(
                assembly,
                Recorder(CountingWriter(writer, tally), gateway.hostname),
                _store(gateway, desk.workers),
                Quarantine(quarantine_directory(state)),
            )
    finally:
        watch.close()
        await assembly.close()
        writer.close()


@contextlib.asynccontextmanager
async def chores(*endless: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What goes on beside everything else, for as long as that lasts."""
    tasks = [asyncio.create_task(each) for each in endless]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def warm_up(assembly: Assembly, *further: Coroutine[Any, Any, None]) -> None:
    """What the first client would wait for: what a first question to each filter needs, and what is given.

    It need not succeed. Whatever is wrong with a neighbour, mail will tell.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_PROBE):
            await asyncio.gather(*further, *(_probe(setting) for setting in assembly.filters))


async def _probe(setting: FilterSetting) -> None:
    with contextlib.suppress(*THROWN):
        await setting.filter.probe()


def _store(gateway: GatewaySection, workers: int) -> Store:
    """A worker's share of the room for content, in which one message at least has its place."""
    share = max(gateway.max_spool_size // workers, gateway.max_message_size)
    return Store(content_directory(Path(gateway.state_directory)), share)


def _watch(gateway: GatewaySection, desk: Desk, tally: Tally, control: Control) -> Watch:
    board = Bulletin(desk.bulletin)
    board.take_tracebacks()
    return Watch(board, tally, gateway.policy_time, gateway.policy_memory, control.say_alive)


async def _say_when_unwell(watch: Watch, gateway: GatewaySection, control: Control) -> None:
    """Have somebody else go on once memory has gone where it does not come back from."""
    while True:
        await asyncio.sleep(_HEALTH_INTERVAL)
        if watch.overeater or watch.resident > gateway.worker_memory * _WELL_FED:
            control.say_unwell(_complaint(watch, gateway.worker_memory))


def _complaint(watch: Watch, limit: int) -> str:
    memory = f"it has {watch.resident // _MIB} MiB of memory of {limit // _MIB}"
    return f"{memory}; policy {watch.overeater!r} took too much" if watch.overeater else memory


async def _flush_now_and_then(writer: JournalWriter) -> None:
    """Bring records to a disk that was full, even when no new ones come."""
    while True:
        await asyncio.sleep(_FLUSH_INTERVAL)
        writer.flush()


def raise_descriptor_limit() -> int:
    """As many sockets and files as the administrator allows; how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def limit_memory(octets: int) -> None:
    """What a process may have of its own, so that one that eats without end meets MemoryError.

    Private memory (RLIMIT_DATA), and not the address space, of which threads reserve far more than they use.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = octets if hard == resource.RLIM_INFINITY else min(octets, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
