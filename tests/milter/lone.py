"""One milter process without a supervisor: `python -m tests.milter.lone ADDRESS DIRECTORY GRACE`.

ADDRESS is a path, or a port of 127.0.0.1. Says "ready", then answers each line on standard input with one:
"nodelay" with the TCP_NODELAY of every connection that it has, "drain" with "drained" and "retire" with
"retired" when that is over. GRACE is for both.
It accepts all mail. libmilter can be begun once in a process, hence this.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from gateway.hearing.service import Service
from gateway.journal.layout import Layout
from gateway.journal.writer import JournalWriter
from gateway.milter.server import Server
from gateway.pipeline import Pipeline
from gateway.profiles import Profile, Profiles
from gateway.quarantine.store import Quarantine
from gateway.recorder import Recorder
from gateway.spool import Store
from tests.milter.asked import HOSTNAME


def bind(address: str) -> socket.socket:
    if address.isdigit():
        bound = socket.socket()
        bound.bind(("127.0.0.1", int(address)))
    else:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(address)
    return bound


def service(directory: Path) -> Service:
    layout = Layout(directory)
    layout.spool.mkdir(parents=True)
    return Service(
        hostname=HOSTNAME,
        listener="lone",
        profiles=Profiles(Profile(Pipeline([], [])), []),
        recorder=Recorder(JournalWriter(layout.spool), HOSTNAME),
        store=Store(directory),
        quarantine=Quarantine(directory),
    )


def options() -> Iterator[int]:
    """TCP_NODELAY of every socket that is connected."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as found:
            found.getpeername()
            yield found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def main() -> None:
    address, directory, grace = sys.argv[1:]
    server = Server(service(Path(directory)))
    await server.start(bind(address))
    answer = "ready"
    while answer:
        print(answer, flush=True)
        match (await asyncio.to_thread(sys.stdin.readline)).strip():
            case "nodelay":
                answer = f"nodelay {list(options())}"
            case "drain":
                await server.drain(float(grace))
                answer = "drained"
            case "retire":
                await server.retire(float(grace))
                answer = "retired"
            case _:
                answer = ""


if __name__ == "__main__":
    asyncio.run(main())
