"""The `milter` role: one process that an MTA asks, on one socket the supervisor bound.

The only module beside its tests that knows `gateway.milter`, and it imports what needs pymilter and libmilter
only where there is such a listener: nothing else of the gateway needs them.
"""

import asyncio
import ctypes
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from gateway.config import Config, ConfigError
from gateway.config.schema import ListenerSection
from gateway.hearing.service import Service
from gateway.listening import cannot_listen
from gateway.milter.presence import why_missing
from gateway.roles.control import Control
from gateway.roles.worker import (
    GRACE,
    Desk,
    Tools,
    limit_memory,
    raise_descriptor_limit,
    warm_up,
    working,
)

# Seconds for which MTAs go on with the configuration of their session after a reload. No session of theirs is
# silent for as long, so that within as many seconds again each has heard that it is over.
RETIREMENT = 600.0
# Octets; enough for callbacks into the interpreter. Each of the usual 8 MiB would count against [gateway]
# worker_memory, and libmilter has as many threads as there are MTA sessions waiting for an answer.
_STACK = 1024 * 1024
# More than pthread_attr_t has in any C library.
_ATTRIBUTES = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Whom it serves: the number of its listener among the milters', and the bound socket."""

    number: int
    bound: socket.socket


async def serve(config: Config, desk: Desk, place: Place, control: Control) -> None:
    """Serve until told to stop, then drain.

    Raises ConfigError where the configuration cannot be put together, or something has to be installed.
    """
    check_presence(config)
    from gateway.milter.server import Server

    give_threads_small_stacks()
    raise_descriptor_limit()
    limit_memory(config.gateway.worker_memory)
    listener = config.listeners("milter")[place.number]
    async with working(config, desk, control) as tools:
        await warm_up(tools.assembly)
        server = Server(_service(tools, listener))
        try:
            await server.start(place.bound)
        except OSError as error:
            raise cannot_listen(listener.address, error).in_file(config.file) from None
        control.say_ready()
        await control.wait_for_end()
        await _until_stop(control, server.retire(RETIREMENT))
        await server.drain(GRACE)


async def _until_stop(control: Control, work: Coroutine[Any, Any, None]) -> None:
    """Do that, until it is done or there is no more time."""
    stopping = asyncio.create_task(control.wait_for_stop())
    working_on = asyncio.create_task(work)
    await asyncio.wait({stopping, working_on}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, working_on):
        task.cancel()


def check_presence(config: Config) -> None:
    """Raises ConfigError where a listener is a milter's, and pymilter or libmilter cannot be loaded."""
    missing = why_missing() if config.listeners("milter") else ""
    if missing:
        raise ConfigError("[[listener]]", "protocol", f'"milter" {missing}', config.file)


def give_threads_small_stacks() -> None:
    """All threads made from now on, those of C libraries too, where the C library lets one say so."""
    library = ctypes.CDLL(None)
    if hasattr(library, "pthread_setattr_default_np"):
        attributes = ctypes.create_string_buffer(_ATTRIBUTES)
        library.pthread_attr_init(attributes)
        library.pthread_attr_setstacksize(attributes, ctypes.c_size_t(_STACK))
        library.pthread_setattr_default_np(attributes)
        library.pthread_attr_destroy(attributes)


def _service(tools: Tools, listener: ListenerSection) -> Service:
    assembly = tools.assembly
    gateway = assembly.config.gateway
    return Service(
        hostname=gateway.hostname,
        listener=listener.address,
        profiles=assembly.profiles,
        recorder=tools.recorder,
        store=tools.store,
        quarantine=tools.quarantine,
        speak=gateway.speak,
        deadline=gateway.deadline,
        max_message_size=gateway.max_message_size,
    )
