"""Load from smtp-source, the sink behind it, and what a group of processes used meanwhile."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.daemons import LOOPBACK, ChildDaemon, DaemonError, dialogue, find_program, free_port

_TICK = os.sysconf("SC_CLK_TCK")
_LIMIT = 600.0  # seconds for one run of smtp-source; nothing here takes that long unless it hangs
_SETTLING = 10.0  # seconds to wait for what the group does behind the mail


@dataclass(frozen=True)
class Load:
    """What smtp-source sends: so many messages of so many octets over so many parallel connections."""

    messages: int
    size: int
    connections: int
    reuse: bool = False  # all messages of a parallel session over one connection


@dataclass(frozen=True)
class Result:
    """Messages per second, and milliseconds of CPU per message by the name of the process."""

    rate: float
    cpu: dict[str, float]


class Sink(ChildDaemon):
    """smtp-sink, which takes everything and keeps nothing."""

    name = "smtp-sink"

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{LOOPBACK}:{self.port}"

    def configure(self) -> None:
        """It has no configuration."""

    def command(self) -> Sequence[str]:
        """With a long queue of connections; it refuses to run as root."""
        return ["smtp-sink", *(["-u", "nobody"] if os.getuid() == 0 else []), self.address, "1000"]

    def is_ready(self) -> bool | None:
        """It greets."""
        return dialogue(self.port, b"").startswith(b"220 ") or None


def measure(load: Load, target: str, group: int) -> Result:
    """Send the load to `target` (host:port) and watch the process group. Raises DaemonError if refused."""
    before, started = cpu_seconds(group), time.monotonic()
    send(load, target)
    elapsed = time.monotonic() - started
    after = settled(lambda: cpu_seconds(group))
    used = {name: (after[name] - before.get(name, 0.0)) * 1000 / load.messages for name in after}
    return Result(load.messages / elapsed, used)


def send(load: Load, target: str) -> None:
    """Send the load. Raises DaemonError if a message is refused or if it takes for ever."""
    command = [find_program("smtp-source"), *(["-d"] if load.reuse else [])]
    command += ["-s", str(load.connections), "-m", str(load.messages), "-l", str(load.size)]
    command += ["-f", "anna@example.org", "-t", "b@example.com", target]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LIMIT)
    except subprocess.CalledProcessError as error:
        raise DaemonError(f"smtp-source to {target}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise DaemonError(f"smtp-source to {target} took more than {_LIMIT:.0f} s") from error


def cpu_seconds(group: int) -> dict[str, float]:
    """User and system time of the processes of the group, and of children that they saw end, by name."""
    used: dict[str, float] = {}
    for pid, fields in _processes(group):
        name = _name(pid)
        used[name] = used.get(name, 0.0) + sum(map(int, fields[11:15])) / _TICK
    return used


def peak_memory(group: int) -> dict[str, float]:
    """The largest resident sets ever of the processes of the group, in MiB, by name."""
    peaks: dict[str, float] = {}
    for pid, _ in _processes(group):
        name = _name(pid)
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        peaks[name] = peaks.get(name, 0.0) + (int(found[1]) / 1024 if found else 0.0)
    return peaks


def process_ids(group: int) -> list[int]:
    """The living processes of the group."""
    return [pid for pid, _ in _processes(group)]


def settled(read: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The CPU seconds that `read` tells of once nobody works any more: much is done behind the mail."""
    deadline = time.monotonic() + _SETTLING
    used = read()
    while time.monotonic() < deadline:
        time.sleep(0.2)
        earlier, used = used, read()
        if used == earlier:
            break
    return used


def _processes(group: int) -> Iterator[tuple[int, list[str]]]:
    """The living processes of a group with the fields of /proc/PID/stat behind the name (proc(5))."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # gone in between
        if int(fields[2]) == group:
            yield int(directory.name), fields


def _name(pid: int) -> str:
    """The role of one of the gateway's processes, else the program."""
    role = re.search(rb"\0gateway\.roles\0([^\0]+)", Path(f"/proc/{pid}/cmdline").read_bytes())
    return role[1].decode() if role else Path(f"/proc/{pid}/comm").read_text().strip()
