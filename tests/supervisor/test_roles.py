"""Which processes are run: by what the configuration listens on, or one role alone. Real ones."""

import asyncio
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client import Client
from tests.config.command import ROOT, sluicegate
from tests.fakes.milter_mta import MTA
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import OnlyMilter, Process, free_port
from tests.supervisor.test_metrics import numbers, until
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
# SMFIC_OPTNEG of an MTA that can do everything, protocol 6: its length, command, version, actions, steps.
NEGOTIATION = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
BOTH = """
[[listener]]
protocol = "milter"
address = "unix:{first}"
"""
# The stack of a thread, in octets, where nobody says anything else.
_USUAL = 8 * 1024 * 1024
WITHOUT_PYMILTER = 'raise ImportError("libmilter.so.1.0.1: cannot open shared object file")\n'


def negotiates(path: Path) -> bool:
    """Whether somebody there speaks the milter protocol."""
    with socket.socket(socket.AF_UNIX) as mta:
        mta.settimeout(10)
        mta.connect(str(path))
        mta.sendall(NEGOTIATION)
        return mta.recv(5)[4:] == b"O"


def is_listening(path: Path) -> bool:
    """Whether whoever connects may hope to be accepted."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED


async def begin(mta: MTA) -> None:
    """A client, and its transaction up to the beginning of the content."""
    await mta.greet()
    await mta.mail(b"<s@a.example>")
    assert (await mta.rcpt(f"<{U1}>".encode())).goes_on


async def is_milter(path: Path) -> bool:
    return await asyncio.to_thread(negotiates, path)


async def is_mail_taken(port: int) -> bool:
    async with Client(port) as client:
        return (await client.deliver(MESSAGE, U1)).code == 250


async def test_where_every_listener_is_a_milter_there_is_no_smtp_worker(tmp_path: Path):
    with OnlyMilter(tmp_path, "", workers=2) as running:
        assert f"ready milter:unix:{running.path}\n" in running.log
        assert (len(running.children("milter")), len(running.children("journal"))) == (2, 1)
        assert not running.children("smtp")
        assert await is_milter(running.path)
        running.send(signal.SIGTERM)
        assert await asyncio.to_thread(running.exit_status) == 0
        assert not running.children()
        assert "Traceback" not in running.log


async def test_what_an_mta_has_begun_outlives_a_reload_and_the_end(tmp_path: Path):
    with OnlyMilter(tmp_path, "") as running:
        (before,) = running.children("milter")
        async with MTA.connect(str(running.path)) as first:
            await begin(first)
            running.send(signal.SIGHUP)
            await eventually(lambda: "the new configuration is in force" in running.log)
            async with MTA.connect(str(running.path)) as second:
                await begin(second)
                running.send(signal.SIGTERM)
                # libmilter looks up every five seconds.
                await eventually(lambda: not is_listening(running.path), 30)
                assert before in running.children("milter")
                for mta in (first, second):
                    assert mta.delivered(await mta.message(MESSAGE)).recipients == (U1.encode(),)
        assert await asyncio.to_thread(running.exit_status) == 0
        assert not running.children()
        assert [record["verdict"] for record in running.records()] == ["accepted", "accepted"]
        assert "Traceback" not in running.log


async def test_every_milter_has_processes_of_its_own(mta: FakeMTA, tmp_path: Path):
    process = Process(tmp_path, mta.address, workers=1)
    first, second = tmp_path / "first", tmp_path / "second"
    process.extra = BOTH.format(first=first) + BOTH.format(first=second)
    with process as running:
        assert (len(running.children("smtp")), len(running.children("milter"))) == (1, 2)
        assert await is_milter(first)
        assert await is_milter(second)
        assert await is_mail_taken(running.port)


async def test_a_milter_process_that_dies_is_replaced_and_that_is_counted(tmp_path: Path):
    process, metrics = OnlyMilter(tmp_path, ""), free_port()
    process.extra = f'[metrics]\naddress = "127.0.0.1:{metrics}"\n'
    with process as running:
        (died,) = running.children("milter")
        os.kill(died, signal.SIGKILL)
        await eventually(lambda: [pid for pid in running.children("milter") if pid != died])
        assert await is_milter(running.path)
        restarts = ("sluicegate_worker_restarts_total", "died")
        await until(metrics, lambda found: found.get(restarts) == 1)


async def test_a_reload_brings_a_milter_and_takes_it_away_again(running: Process, mta: FakeMTA):
    path = running.directory / "milter"
    running.configure(BOTH.format(first=path))
    running.send(signal.SIGHUP)
    await eventually(lambda: running.log.count("the new configuration is in force") == 1)
    assert len(running.children("milter")) == 1
    assert await is_milter(path)
    running.configure()
    running.send(signal.SIGHUP)
    await eventually(lambda: running.log.count("the new configuration is in force") == 2)
    # A process that ends has no command line any more before it has closed its sockets.
    await eventually(lambda: not running.children("milter") and not is_listening(path))
    assert await is_mail_taken(running.port)


async def test_one_unit_for_each_role(mta: FakeMTA, tmp_path: Path):
    """The same file for all of them: nobody takes another one's address, or shows another one's numbers."""
    metrics, path = free_port(), tmp_path / "milter"
    units = [Process(tmp_path, mta.address) for _ in range(3)]
    for unit, role in zip(units, ("smtp", "milter", "journal"), strict=True):
        unit.role = role
        unit.port = units[0].port
        unit.extra = BOTH.format(first=path) + f'[metrics]\naddress = "127.0.0.1:{metrics}"\n'
        unit._log = tmp_path / f"log-{role}"
    with units[0] as smtp, units[1] as milter, units[2] as journal:
        assert f"ready smtp:127.0.0.1:{smtp.port}\n" in smtp.log
        assert f"ready milter:unix:{path}\n" in milter.log
        assert "ready\n" in journal.log
        assert (len(smtp.children("smtp")), len(smtp.children("metrics")), len(smtp.children())) == (1, 1, 2)
        assert (len(milter.children("milter")), len(milter.children())) == (1, 1)
        assert (len(journal.children("journal")), len(journal.children())) == (1, 1)
        assert await is_milter(path)
        assert await is_mail_taken(smtp.port)
        assert ("sluicegate_decisions_total", "accepted", "relay", "accepted") in await numbers(metrics)
        await eventually(journal.records)


@pytest.mark.parametrize("role", ["smtp", "milter"])
def test_a_role_that_nobody_listens_for_is_refused(role: str, tmp_path: Path):
    kind, wanted = (OnlyMilter, '"smtp" or "lmtp"') if role == "smtp" else (Process, '"milter"')
    process = kind(tmp_path, "127.0.0.1:10025")
    process.configure()
    done = sluicegate(tmp_path, "run", "--role", role, "--config", str(process.file))
    problem = f"none is {wanted}, so there is nothing to do for --role {role}"
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert done.stderr == f"{process.file}: [[listener]] protocol: {problem}\n"


# Without pymilter


def without_pymilter(process: Process, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command on a machine on which pymilter does not load."""
    module = process.directory / "modules" / "milter.py"
    module.parent.mkdir(exist_ok=True)
    module.write_text(WITHOUT_PYMILTER)
    return subprocess.run(
        [sys.executable, "-B", "-m", "gateway", *arguments, "--config", str(process.file)],
        env={**os.environ, "PYTHONPATH": f"{module.parent}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_where_pymilter_is_missing_a_milter_is_refused_in_one_line(command: str, tmp_path: Path):
    process = OnlyMilter(tmp_path, "")
    process.configure()
    done = without_pymilter(process, command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (os.EX_CONFIG, "", 1)
    assert done.stderr.startswith(f'{process.file}: [[listener]] protocol: "milter" needs pymilter')
    assert "pip install 'sluicegate[milter]'" in done.stderr
    assert "libmilter.so.1.0.1: cannot open shared object file" in done.stderr


def test_where_nobody_listens_for_an_mta_pymilter_is_not_missed(tmp_path: Path):
    process = Process(tmp_path, "127.0.0.1:10025")
    process.configure()
    assert without_pymilter(process, "check-config").returncode == 0
    process.configure(BOTH.format(first=tmp_path / "milter"))
    message = tmp_path / "message"
    message.write_bytes(MESSAGE)
    assert without_pymilter(process, "scan", str(message)).returncode == 0


# Threads


def test_threads_of_a_milter_take_little_memory():
    """Private memory by which 16 sleeping threads make a process grow, of what counts in RLIMIT_DATA."""
    script = (
        "import re, sys, threading\n"
        "from gateway.roles.milter import give_threads_small_stacks\n"
        "def size(): return int(re.search(r'VmData:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "if sys.argv[1] == 'small': give_threads_small_stacks()\n"
        "before, event = size(), threading.Event()\n"
        "for _ in range(16): threading.Thread(target=event.wait).start()\n"
        "print((size() - before) // 16)\n"
        "event.set()\n"
    )
    small, usual = (
        int(
            subprocess.run(
                [sys.executable, "-c", script, which],
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (_USUAL, _USUAL)),
                capture_output=True,
                check=True,
            ).stdout
        )
        for which in ("small", "usual")
    )
    assert small < 1536 < usual
