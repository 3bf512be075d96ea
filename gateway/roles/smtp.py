"""The `smtp` role: one process that serves connections on sockets the supervisor bound.

It has its own connection pools beside what every worker has. What it shares with other workers of its kind
is the listening sockets, and memory to count connections in.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Config, ConfigError
from gateway.config.schema import ListenerSection
from gateway.listening import cannot_listen
from gateway.proxy.admission import Admission, ConnectionCounts
from gateway.proxy.certificate import Certificate
from gateway.proxy.descriptors import Descriptors, backlog_within
from gateway.proxy.server import Server
from gateway.proxy.service import ProxyService
from gateway.relay.capabilities import Capabilities
from gateway.relay.pool import Pool
from gateway.roles.control import Control
from gateway.roles.worker import (
    GRACE,
    Desk,
    Tools,
    chores,
    limit_memory,
    raise_descriptor_limit,
    warm_up,
    working,
)
from gateway.smtp.content import BareNewline
from gateway.smtp.networks import Networks


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker shares with others: bound sockets, in the order of their listeners, and memory.

    `seat` is its row among the `seats` of the connection counts.
    """

    sockets: Sequence[socket.socket]
    counts: int
    seat: int
    seats: int

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


async def serve(config: Config, desk: Desk, place: Place, control: Control) -> None:
    """Serve until told to stop, then drain.

    Raises ConfigError where the configuration cannot be put together.
    """
    limit = raise_descriptor_limit()
    limit_memory(config.gateway.worker_memory)
    listeners = config.listeners("smtp")
    async with working(config, desk, control) as tools, _relaying(tools) as relaying:
        descriptors = Descriptors.within(limit, in_use=len(os.listdir("/proc/self/fd")))
        servers = [
            Server(
                _service(tools, relaying, listener, descriptors),
                place.admission(number, listener, descriptors),
            )
            for number, listener in enumerate(listeners)
        ]
        for server, listener, bound in zip(servers, listeners, place.sockets, strict=True):
            try:
                await server.start(bound, backlog_within(limit))
            except OSError as error:
                raise cannot_listen(listener.address, error).in_file(config.file) from None
        control.say_ready()
        await control.wait_for_end()
        await asyncio.gather(*(server.drain(GRACE) for server in servers))


@dataclass(frozen=True, slots=True)
class _Relaying:
    """What leads to downstreams, and what they can do."""

    pool: Pool
    capabilities: Capabilities


@contextlib.asynccontextmanager
async def _relaying(tools: Tools) -> AsyncIterator[_Relaying]:
    gateway = tools.assembly.config.gateway
    pool = Pool(gateway.hostname)
    capabilities = Capabilities(pool, tools.assembly.router, gateway.max_message_size)
    try:
        await warm_up(tools.assembly, capabilities.probe())
        async with chores(capabilities.keep_probing()):
            yield _Relaying(pool, capabilities)
    finally:
        pool.close()


def _service(
    tools: Tools, relaying: _Relaying, listener: ListenerSection, descriptors: Descriptors
) -> ProxyService:
    assembly = tools.assembly
    gateway = assembly.config.gateway
    return ProxyService(
        hostname=gateway.hostname,
        listener=listener.address,
        profiles=assembly.profiles,
        router=assembly.router,
        pool=relaying.pool,
        recorder=tools.recorder,
        capabilities=relaying.capabilities,
        store=tools.store,
        quarantine=tools.quarantine,
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
