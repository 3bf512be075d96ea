"""A supervisor in the test's own process, less patient than in life, with policies that misbehave."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from gateway.supervisor import Supervisor
from tests.client import Client
from tests.supervisor.process import Process
from tests.waiting import eventually, soon

_POLICIES = """
import ctypes, itertools, os, re, signal, time
from policies import Stage, accept, policy

HOARD = []

def loops():
    while True:
        pass

def backtracks():
    re.match("(a+)+$", "a" * 50 + "b")

def sleeps():
    time.sleep(1000)

def gives_in_and_makes_something_up():
    try:
        loops()
    except BaseException:
        return accept("whatever")

def never_gives_in():
    while True:
        try:
            loops()
        except BaseException:
            pass

def stays_in_c():
    sum(itertools.repeat(1))

def grows():
    for _ in range(128):
        HOARD.append(b"x" * 1048576)
    loops()

def grabs():
    bytearray(8 * 2**30)

def exits():
    os._exit(3)

def crashes():
    ctypes.string_at(0)

def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def behaves():
    return None

@policy(at=Stage.END_OF_DATA)
def content(tx, evidence):
    return globals()[tx.message.header("Subject")]()
"""
U1 = "u1@our.example"


class Watched:
    """`async with Watched(...)`: two workers on `port`, or a milter's on the socket of its process."""

    def __init__(
        self, directory: Path, downstream: str, workers: int = 2, kind: type[Process] = Process
    ) -> None:
        self.process = kind(directory, downstream, workers)
        self.port = self.process.port
        (directory / "policies").mkdir()
        (directory / "policies" / "content.py").write_text(_POLICIES)
        self.configure()

    def configure(self, gateway: str = "", more: str = "") -> None:
        """Write the file; `gateway` are keys of that section, `more` are sections."""
        self.process.configure(more)
        text = self.process.file.read_text()
        directory = self.process.file.parent / "policies"
        text = text.replace(
            'order = ["recipients"]', f'order = ["recipients", "content"]\ndirectory = "{directory}"'
        )
        keys = "policy_time = 1\npolicy_memory = 67108864\nworker_memory = 1073741824\n"
        self.process.file.write_text(text.replace("[gateway]\n", f"[gateway]\n{keys}{gateway}"))

    async def __aenter__(self) -> Self:
        ready = asyncio.Event()
        self._supervisor = Supervisor(self.process.file)
        self._running = asyncio.create_task(self._supervisor.run(lambda _: ready.set()))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._running, waiting}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._supervisor._stopping.set()
        await self._running

    def reload(self) -> None:
        """As by SIGHUP."""
        self._supervisor._reloading.set()

    def workers(self) -> set[int]:
        """Process numbers of the workers there are."""
        return {pid for pid in _children() if {"smtp", "milter"} & set(_command(pid))}

    @contextlib.contextmanager
    def without(self, worker: int) -> Iterator[None]:
        """While this one is stopped, another one takes connections."""
        os.kill(worker, signal.SIGSTOP)
        try:
            soon(lambda: _state(worker)[0] == "T")
            yield
        finally:
            os.kill(worker, signal.SIGCONT)

    async def records(self, count: int) -> list[dict[str, Any]]:
        """All records, once there are so many."""
        command = [sys.executable, "-m", "gateway", "log", "--config", str(self.process.file), "--json"]

        def read() -> list[dict[str, Any]]:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = [json.loads(line) for line in done.stdout.splitlines()]
            return found if len(found) >= count else []

        return await eventually(read, 30)


async def in_the_middle(client: Client) -> None:
    """A transaction up to the beginning of the content."""
    await client.open(U1)
    assert (await client.ask("DATA")).code == 354


def content(subject: str) -> bytes:
    return b"Subject: %s\r\n\r\nx\r\n.\r\n" % subject.encode()


def _children() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                state, parent = _state(int(entry.name))
                if parent == str(os.getpid()) and state not in "ZX":
                    yield int(entry.name)


def _state(pid: int) -> list[str]:
    """A process's state, and its parent."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]


def _command(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return []
