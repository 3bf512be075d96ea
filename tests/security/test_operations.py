"""What the operator does, or the machine, that must not become an accident."""

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from gateway.config import ConfigError, load
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.security.battery import MESSAGE
from tests.supervisor.process import Process
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
BAD_CONFIGS = sorted((ROOT / "tests" / "bad_configs").glob("*/sluicegate.toml"))


def is_refused(file: Path) -> bool:
    try:
        load(file)
    except ConfigError:
        return True
    return False


async def test_no_wrong_key_gets_in_by_a_reload(running: Process, mta: FakeMTA):
    """Each that the supervisor finds, in turn: one line that says why, and everything as it was."""
    before = running.children()
    bad = [file for file in BAD_CONFIGS if is_refused(file)]
    assert len(bad) > 30
    for number, file in enumerate(bad, 1):
        shutil.copyfile(file, running.file)
        running.send(signal.SIGHUP)
        await eventually(lambda number=number: running.log.count("the old one stays") == number)
    assert running.children() == before
    async with Client(running.port) as client:
        assert (await client.deliver(MESSAGE, "u1@our.example")).code == 250
    assert "Traceback" not in running.log


def largest_core(pid: int) -> list[str]:
    """What a process may leave behind: now, and at most."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    return limits.partition("Max core file size")[2].split()[:2]


async def test_no_core_dump_has_mail_in_it(running: Process):
    assert len(running.children()) == 2
    for pid in running.children():
        await eventually(lambda pid=pid: largest_core(pid) == ["0", "0"])


def test_nobody_reads_our_memory():
    """PR_GET_DUMPABLE; whose answer another process cannot be asked for."""
    script = (
        "import ctypes; from gateway.roles.__main__ import leave_no_dumps;"
        "prctl = ctypes.CDLL(None).prctl; before = prctl(3); leave_no_dumps(); print(before, prctl(3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "1 0\n"


async def test_a_worker_that_aborts_leaves_nothing_behind(running: Process):
    (worker,) = running.children("smtp")
    os.kill(worker, signal.SIGABRT)
    await eventually(lambda: [pid for pid in running.children("smtp") if pid != worker])
    assert not list(running.directory.rglob("core*"))


# Where the time of day is what is wanted: in records, trace fields, names of files and ages of records.
WALL_CLOCK = {
    "gateway/cli/log.py",
    "gateway/journal/index.py",
    "gateway/journal/keeper.py",
    "gateway/journal/record.py",
    "gateway/journal/writer.py",
    "gateway/proxy/transaction.py",
    "gateway/scanning.py",
    # dnspython keeps the ends of answers' lives that way; the most that a wrong clock does is ask again.
    "filters/resolver.py",
}
CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("date", "today"),
}


def test_no_deadline_is_a_time_of_day():
    """A clock that is set must not time anybody out, or keep anybody waiting."""
    users = set()
    for package in ("gateway", "filters", "policies"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
                    users.add(str(file.relative_to(ROOT)))
    assert users <= WALL_CLOCK
