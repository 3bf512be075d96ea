"""The `smtp` role: one process that serves connections on sockets the supervisor bound.

It has its own event loop, filters and connection pools; the only things it shares with other
workers are the listening sockets and the directory that records go to.
"""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.assembly import Assembly, assemble
from gateway.bulletin import Bulletin
from gateway.config import Config, ConfigError
from gateway.config.schema import GatewaySection, ListenerSection
from gateway.joining import THROWN
from gateway.journal.layout import Layout
from gateway.journal.writer import JournalWriter
from gateway.listening import cannot_listen
from gateway.metrics.counting import CountingWriter
from gateway.metrics.ledger import Tally
from gateway.pipeline import FilterSetting
from gateway.proxy.admission import Admission, ConnectionCounts
from gateway.proxy.certificate import Certificate
from gateway.proxy.descriptors import Descriptors, backlog_within
from gateway.proxy.server import Server
from gateway.proxy.service import ProxyService
from gateway.quarantine.store import Quarantine, quarantine_directory
from gateway.recorder import Recorder
from gateway.relay.capabilities import Capabilities
from gateway.relay.pool import Pool
from gateway.roles.control import Control
from gateway.smtp.content import BareNewline
from gateway.smtp.networks import Networks
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
class Place:
    """What a worker shares with others: bound sockets, in the order of `config.listener`, and memory.

    `seat` is its row among the `seats` of the connection counts, `slot` its part of the ledger. The
    bulletin is its own, for the supervisor to read.
    """

    sockets: Sequence[socket.socket]
    counts: int
    seat: int
    seats: int
    workers: int
    bulletin: int
    ledger: int
    slot: int

    def admission(self, number: int, listener: ListenerSection, descriptors: Descriptors) -> Admission:
        """The limits of the listener of this number."""
        return Admission(
            ConnectionCounts(self.counts, self.seat, self.seats, number),
            listener.max_connections,
            listener.max_connections_per_client,
            listener.max_connections_per_network,
            descriptors,
            Networks((*listener.proxy_protocol, *listener.xclient)),
        )


async def serve(config: Config, place: Place, control: Control) -> None:
    """Serve until told to stop, then drain.

    Raises ConfigError where the configuration cannot be put together.
    """
    limit = _raise_descriptor_limit()
    _limit_memory(config.gateway.worker_memory)
    async with _working(config, place, control) as shared:
        descriptors = Descriptors.within(limit, in_use=len(os.listdir("/proc/self/fd")))
        servers = [
            Server(_service(shared, listener, descriptors), place.admission(number, listener, descriptors))
            for number, listener in enumerate(config.listener)
        ]
        for server, listener, bound in zip(servers, config.listener, place.sockets, strict=True):
            try:
                await server.start(bound, backlog_within(limit))
            except OSError as error:
                raise cannot_listen(listener.address, error).in_file(config.file) from None
        control.say_ready()
        await control.wait_for_stop()
        await asyncio.gather(*(server.drain(GRACE) for server in servers))


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all listeners of a worker share."""

    assembly: Assembly
    recorder: Recorder
    pool: Pool
    capabilities: Capabilities
    store: Store


@contextlib.asynccontextmanager
async def _working(config: Config, place: Place, control: Control) -> AsyncIterator[_Shared]:
    """What all listeners share, closed again in the right order."""
    tally = Tally(place.ledger, place.slot)
    watch = _watch(config.gateway, place, tally, control)
    assembly = assemble(config, watch)
    layout = Layout(Path(config.gateway.state_directory))
    writer = JournalWriter(layout.spool)
    pool = Pool(config.gateway.hostname)
    capabilities = Capabilities(pool, assembly.router, config.gateway.max_message_size)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_PROBE):
            await _warm_up(assembly, capabilities)
    chores = [
        asyncio.create_task(each)
        for each in (
            _flush_now_and_then(writer),
            capabilities.keep_probing(),
            assembly.files.keep_reloading(),
            _say_when_unwell(watch, config.gateway, control),
        )
    ]
    try:
        recorder = Recorder(CountingWriter(writer, tally), config.gateway.hostname)
        watch.start()
        yield _Shared(assembly, recorder, pool, capabilities, _store(config.gateway, place.workers))
    finally:
        watch.close()
        for chore in chores:
            chore.cancel()
        pool.close()
        await assembly.close()
        writer.close()


async def _warm_up(assembly: Assembly, capabilities: Capabilities) -> None:
    """What the first client would wait for: what downstreams can do, and what a first question needs.

    It need not succeed. Whatever is wrong with a neighbour, mail will tell.
    """
    probes = [_probe(setting) for setting in assembly.filters]
    await asyncio.gather(capabilities.probe(), *probes)


async def _probe(setting: FilterSetting) -> None:
    with contextlib.suppress(*THROWN):
        await setting.filter.probe()


def _store(gateway: GatewaySection, workers: int) -> Store:
    """A worker's share of the room for content, in which one message at least has its place."""
    share = max(gateway.max_spool_size // workers, gateway.max_message_size)
    return Store(content_directory(Path(gateway.state_directory)), share)


def _service(shared: _Shared, listener: ListenerSection, descriptors: Descriptors) -> ProxyService:
    assembly = shared.assembly
    gateway = assembly.config.gateway
    return ProxyService(
        hostname=gateway.hostname,
        listener=listener.address,
        profiles=assembly.profiles,
        router=assembly.router,
        pool=shared.pool,
        recorder=shared.recorder,
        capabilities=shared.capabilities,
        store=shared.store,
        quarantine=Quarantine(quarantine_directory(Path(gateway.state_directory))),
        speak=gateway.speak,
        deadline=gateway.deadline,
        max_message_size=gateway.max_message_size,
        bare_newline=BareNewline(listener.bare_newline),
        certificate=_certificate(assembly.config, listener),
        tls_implicit=listener.tls_implicit,
        lmtp=listener.protocol == "lmtp",
        descriptors=descriptors,
        proxy_protocol=Networks(listener.proxy_protocol),
        xclient=Networks(listener.xclient),
    )


def _certificate(config: Config, listener: ListenerSection) -> Certificate | None:
    if not listener.tls_certificate:
        return None
    try:
        return Certificate(Path(listener.tls_certificate), Path(listener.tls_key))
    except OSError as error:
        problem = f'"{listener.tls_certificate}" with its key cannot be used: {error.strerror or error}'
        raise ConfigError("[[listener]]", "tls_certificate", problem, config.file) from None


def _watch(gateway: GatewaySection, place: Place, tally: Tally, control: Control) -> Watch:
    board = Bulletin(place.bulletin)
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


def _raise_descriptor_limit() -> int:
    """As many sockets and files as the administrator allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _limit_memory(octets: int) -> None:
    """What a process may have of its own, so that one that eats without end meets MemoryError.

    Private memory (RLIMIT_DATA), and not the address space, of which threads reserve far more than they use.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = octets if hard == resource.RLIM_INFINITY else min(octets, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
