"""Plugins that change while the gateway runs: put to work whole, or not at all. Real processes."""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
_LONG = 30.0
IN_FORCE = "the new configuration is in force"
STAYS = "the old one stays"
SAME = "the plugins are the same as before"

POLICY = """\
from policies import Evidence, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.{stage})
def mine(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject("{reason}", text="{reason}")
"""


class Gateway(Process):
    """With a policy of its own in `plugins/mine.py`, in `order` behind `recipients`."""

    def configure(self, extra: str = "", port: int | None = None) -> None:
        super().configure(f'directory = "{self.directory}/plugins"\n{extra}', port)
        self.file.write_text(self.file.read_text().replace('["recipients"]', '["recipients", "mine"]'))

    def write(self, reason: str, stage: str = "END_OF_DATA") -> None:
        """Another policy, all at once, as a careful administrator would."""
        new = self.directory / "mine.py"
        new.write_text(POLICY.format(stage=stage, reason=reason))
        new.rename(self.plugin)

    @property
    def plugin(self) -> Path:
        return self.directory / "plugins" / "mine.py"

    def count(self, words: str) -> int:
        """How many lines of the log have these words."""
        return sum(words in line for line in self.log.splitlines())


@pytest.fixture
def gateway(mta: FakeMTA, tmp_path: Path) -> Gateway:
    (tmp_path / "plugins").mkdir()
    gateway = Gateway(tmp_path, mta.address)
    gateway.write("first")
    return gateway


@pytest.fixture
def started(gateway: Gateway) -> Iterator[Gateway]:
    with gateway:
        yield gateway


async def verdict(gateway: Gateway) -> str:
    """The reason with which a message is refused."""
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1)
        assert answer.code == 550
        return str(answer).split()[2]


async def said(gateway: Gateway, words: str, times: int = 1) -> None:
    """Wait until the log has these words so many times. A new worker takes its time on a busy machine."""
    await eventually(lambda: gateway.count(words) == times, _LONG)


async def becomes(gateway: Gateway, reason: str) -> None:
    """Wait until messages are refused with this reason: the old worker may take one more client."""
    async with asyncio.timeout(_LONG):
        while True:
            # It has sent the client away.
            with contextlib.suppress(AssertionError):
                if await verdict(gateway) == reason:
                    return


async def test_a_changed_policy_is_put_to_work_and_sessions_keep_what_they_began_with(started: Gateway):
    assert await verdict(started) == "first"
    (before,) = started.children("smtp")
    async with Client(started.port) as busy:
        await busy.open(U1)
        assert (await busy.ask("DATA")).code == 354
        started.write("second")
        await said(started, IN_FORCE)
        await becomes(started, "second")
        busy.say(MESSAGE, b".\r\n")
        assert str(await busy.reply()).split()[2] == "first"
    await eventually(lambda: before not in started.children("smtp"))
    assert 'cause="changed plugins"' in started.log.replace("'", '"')


async def test_without_descriptors_for_both_the_old_one_goes_on(started: Gateway):
    """Room for this many more, up to where the new one nearly comes up."""
    room = max(map(int, os.listdir(f"/proc/{started.pid}/fd"))) + 1
    before = started.children()
    for times, more in enumerate((1, 3, 5, 7), 1):
        resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (room + more, 1024))
        started.send(signal.SIGHUP)
        await said(started, STAYS, times)
    assert await verdict(started) == "first"
    resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    await eventually(lambda: started.children() == before)
    started.write("second")
    started.send(signal.SIGHUP)
    await said(started, IN_FORCE)


async def test_a_bad_change_changes_nothing_is_said_once_and_can_be_mended(started: Gateway):
    before = started.children()
    started.plugin.write_text("\nfrom policies import Stge\n")
    await said(started, STAYS)
    assert f"{started.plugin}:2: ImportError: cannot import name 'Stge'" in started.log
    os.utime(started.plugin)
    await said(started, SAME)
    assert await verdict(started) == "first"
    assert started.children() == before
    started.write("second")
    await said(started, IN_FORCE)
    await becomes(started, "second")
    assert started.count(STAYS) == 1


@pytest.mark.parametrize("how", ["none", "unreadable"])
async def test_a_directory_that_cannot_be_read_changes_nothing(started: Gateway, how: str):
    plugins = started.directory / "plugins"
    if how == "none":
        plugins.rename(started.directory / "away")
    else:
        (plugins / "more.py").symlink_to("nowhere")
    await said(started, STAYS)
    assert ("no such directory" if how == "none" else "more.py: cannot be read: No such file") in started.log
    assert await verdict(started) == "first"
    if how == "none":
        (started.directory / "away").rename(plugins)
        started.write("second")
    else:
        (plugins / "more.py").unlink()
        started.write("second")
    await said(started, IN_FORCE)
    await becomes(started, "second")


async def test_a_worker_that_is_started_again_runs_what_was_validated(gateway: Gateway):
    gateway.extra = 'reload = "signal"\n'
    with gateway as started:
        started.plugin.write_text("nonsense(")
        (worker,) = started.children("smtp")
        os.kill(worker, signal.SIGKILL)
        await eventually(lambda: started.children("smtp") not in ([], [worker]))
        assert await verdict(started) == "first"
        assert "nonsense" not in started.log


async def test_what_is_to_wait_for_a_signal_waits_for_one(gateway: Gateway):
    gateway.extra = 'reload = "signal"\n'
    with gateway as started:
        started.write("second")
        assert await verdict(started) == "first"
        started.send(signal.SIGHUP)
        await said(started, IN_FORCE)
        await becomes(started, "second")
        assert "changed plugins" not in started.log


async def test_the_configuration_file_is_read_at_a_signal_only(started: Gateway):
    before = started.file.read_text()
    started.file.write_text("nonsense")
    started.write("second")
    await said(started, IN_FORCE)
    await becomes(started, "second")
    started.send(signal.SIGHUP)
    await said(started, STAYS)
    started.file.write_text(before)
    started.write("third")
    await said(started, IN_FORCE, 2)
    await becomes(started, "third")


async def test_what_is_put_back_is_in_force_and_the_same_mistake_is_said_again(started: Gateway):
    for number in (1, 2):
        started.plugin.write_text("nonsense(")
        await said(started, STAYS, number)
        started.write("first")
        await said(started, SAME, number)
    assert started.count(IN_FORCE) == 0
    assert await verdict(started) == "first"


async def test_the_end_does_not_wait_for_a_look(started: Gateway):
    started.write("second")
    started.send(signal.SIGTERM)
    assert await asyncio.to_thread(started.exit_status) == 0
    assert "Traceback" not in started.log


# Before the first client


FILTER = """\
import asyncio
from pathlib import Path

from filters import Filter, Finding


class Nothing(Finding): ...


class Slow(Filter):
    name = "slow"
    finds = Nothing

    def __init__(self, *, file: str) -> None:
        self._file = Path(file)

    async def find(self, tx):
        return Nothing()

    async def probe(self):
        self._file.write_text("asked")
        {then}
"""


@pytest.mark.parametrize(
    "then", ["return 'well'", "raise RuntimeError", "await asyncio.Event().wait()", "raise SystemExit"]
)
async def test_a_worker_asks_its_neighbours_first_and_serves_whatever_they_say(gateway: Gateway, then: str):
    asked = gateway.directory / "asked"
    gateway.extra = f'[filters.slow]\nfile = "{asked}"\n'
    (gateway.directory / "plugins" / "slow.py").write_text(FILTER.format(then=then))
    with gateway as started:
        assert asked.read_text() == "asked"
        assert await verdict(started) == "first"
        assert "Traceback" not in started.log
