"""`sluicegate run` as a process of its own, and a look at its children."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.waiting import soon

_CONFIGURATION = """\
[gateway]
hostname = "mx.our.example"
state_directory = "{state}"
workers = {workers}

[[listener]]
address = "127.0.0.1:{port}"
{listener}
[[relay]]
domains = ["our.example"]
address = ["{downstream}"]

[policies]
order = [{order}]
{plugins}
"""
_START = 30.0


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """The supervisor, in a process group of its own; killed with all its children at the end.

    `listener` are further keys of its listener, `order` its policies, `plugins` their directory, `role` the
    only one it is to run.
    """

    def __init__(
        self, directory: Path, downstream: str, workers: int = 1, descriptors: int | None = None
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.file = directory / "sluicegate.toml"
        self.listener = ""
        self.order = ["recipients"]
        self.plugins: Path | None = None
        self._downstream = downstream
        self._workers = workers
        # More of the configuration file, for the start.
        self.extra = ""
        self.role = ""
        self._descriptors = descriptors
        self._log = directory / "log"

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._process.pid

    def configure(self, extra: str = "", port: int | None = None) -> None:
        """Write the configuration file."""
        text = _CONFIGURATION.format(
            state=self.directory / "state",
            workers=self._workers,
            port=port or self.port,
            listener=self.listener,
            downstream=self._downstream,
            order=", ".join(f'"{name}"' for name in self.order),
            plugins=f'directory = "{self.plugins}"' if self.plugins else "",
        )
        self.file.write_text(text + extra)

    def __enter__(self) -> Self:
        self.configure(self.extra)
        self.start()
        return self

    def start(self) -> None:
        """Start it, or start it again; return when it serves."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", *self._only(), "--config", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._limit_descriptors,
            )
        soon(lambda: "ready" in self.log or self._process.poll() is not None, _START)
        assert self._process.poll() is None, self.log

    def _only(self) -> list[str]:
        return ["--role", self.role] if self.role else []

    def __exit__(self, *_: object) -> None:
        for pid in (self.pid, *self.children()):
            if self._process.poll() is None or pid != self.pid:
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _limit_descriptors(self) -> None:
        """In the new process: RLIMIT_NOFILE as an administrator would have set it."""
        if self._descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._descriptors, self._descriptors))

    def send(self, number: signal.Signals) -> None:
        """A signal to the supervisor alone."""
        self._process.send_signal(number)

    def send_group(self, number: signal.Signals) -> None:
        """A signal to everything, as a terminal sends it."""
        os.killpg(self.pid, number)

    def exit_status(self, seconds: float = 15.0) -> int:
        """Its exit status, waited for."""
        return self._process.wait(seconds)

    def children(self, role: str = "") -> list[int]:
        """The processes it has started (of that role) that still run."""
        return sorted(
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _belongs(entry, self.pid) and role in _command(entry)
        )

    def records(self) -> list[dict[str, Any]]:
        """Everything in the journal."""
        command = f"log --config {self.file} --json --limit 100000"
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *command.split()], capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


class OnlyMilter(Process):
    """A gateway whose only listener is a milter's, on the Unix socket `path`, without a relay."""

    @property
    def path(self) -> Path:
        return self.directory / "milter"

    def configure(self, extra: str = "", port: int | None = None) -> None:
        """Write the configuration file."""
        super().configure(extra, port)
        before, _, rest = self.file.read_text().partition("[[listener]]\n")
        listener = f'[[listener]]\nprotocol = "milter"\naddress = "unix:{self.path}"\n'
        self.file.write_text(before + listener + "[policies]\n" + rest.partition("[policies]\n")[2])


def _belongs(entry: Path, session: int) -> bool:
    """Whether a process that is no corpse belongs to that session, the leader excepted."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[3] == str(session) and fields[0] not in "ZX" and entry.name != str(session)


def _command(entry: Path) -> list[str]:
    try:
        return [*(entry / "cmdline").read_bytes().decode().split("\0"), ""]
    except OSError:
        return []
