"""One process of a role: started, watched, replaced.

A process that dies is started again at once; one that keeps dying is started again more and more slowly.
One that shows no life is killed. One that is no longer well, and says so, is replaced while it finishes.
Where a policy was under way when it died, the journal gets a record of that.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway import bulletin
from gateway.config import Config
from gateway.metrics.ledger import Counter
from gateway.postmortem import record_death
from gateway.roles import WORKERS, briefing
from gateway.roles.control import READY, REFUSED, UNWELL

START_TIMEOUT = 60.0
# How long a process may show no life, and for how long a policy may compute on top of that.
SILENCE = 15.0
_LAST_WORDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE, _LIVED_WELL = 0.1, 5.0, 10.0

# One call in a traceback by faulthandler.
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')

_log = structlog.get_logger()


class StartError(Exception):
    """A process did not come up; the text is why, in one line, `status` what to exit with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Seat:
    """What one process has to itself: arguments, inherited descriptors, and where it says what it is at."""

    arguments: Sequence[str] = ()
    descriptors: Sequence[int] = ()
    bulletin: int | None = None


@dataclass(slots=True)
class _Running:
    """A process on its seat. `end` is what we did to it, if anything, `complaint` why it wants to go."""

    process: asyncio.subprocess.Process
    seat: Seat
    end: str = ""
    complaint: str = ""
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())


class Child:
    """One process of a role, started again whenever it ends by itself.

    With two seats it can be replaced while it finishes; the seats are used in turns.
    """

    def __init__(
        self, role: str, config: Config, counter: Counter, seats: Sequence[Seat] = (Seat(),)
    ) -> None:
        self._role = role
        self._config = config
        self._counter = counter
        self._seats = list(seats)
        self._silence = SILENCE + config.gateway.policy_time
        self._running: _Running | None = None
        self._alive: set[asyncio.subprocess.Process] = set()
        self._watching: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._is_stopping = False

    def expect_end(self) -> None:
        """From now on it may end, and is not started again."""
        self._is_stopping = True

    async def start(self) -> None:
        """Return when it works. Raises StartError when it does not."""
        self._running = await self._start(self._seats[0])
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Ask it to finish and wait until it has."""
        self.hurry()
        await self._wait()

    async def retire(self) -> None:
        """Tell it that a successor is there, and wait until it has finished in its own time."""
        self.expect_end()
        for process in self._alive:
            _signal(process, signal.SIGUSR2)
        await self._wait()

    def hurry(self) -> None:
        """Ask it to finish, now at the latest."""
        self.expect_end()
        for process in self._alive:
            _end(process)

    async def _wait(self) -> None:
        for task in (self._watching, self._leaving):
            if task is not None:
                await task

    async def _start(self, seat: Seat) -> _Running:
        if seat.bulletin is not None:
            bulletin.clean(seat.bulletin)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # not from the current directory: it may have a folder named "policies"
            "-m",
            "gateway.roles",
            self._role,
            "--config",
            str(self._config.file),
            *seat.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=seat.descriptors,
        )
        self._alive.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(briefing.pack(self._config))
        if self._is_stopping:
            # It was asked for while this one was not there yet.
            _end(process)
        reason = ""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                first_words = await process.stdout.readline()
        except TimeoutError:
            first_words = b""
            await _kill(process)
            reason = f"the {self._role} process did not come up within {START_TIMEOUT:g} s"
        if first_words == READY:
            return _Running(process, seat)
        status = await process.wait()
        self._alive.discard(process)
        if first_words:
            reason = _in_one_line(first_words.removeprefix(REFUSED))
        else:
            reason = (reason or f"the {self._role} process died ({_in_words(status)})") + self._where(seat)
        # A signal's number is no status to exit with.
        raise StartError(status if status > 0 else os.EX_SOFTWARE, reason)

    def _where(self, seat: Seat) -> str:
        """The file and line of a plugin that the interpreter's last words name, as a part of a sentence."""
        words = "" if seat.bulletin is None else bulletin.read_traceback(seat.bulletin)
        # As faulthandler writes them.
        paths = {_in_ascii(source.path): source.path for source in self._config.plugins or ()}
        places = (f"{paths[file]}:{line}" for file, line in _FRAME.findall(words) if file in paths)
        place = next(places, "")
        return f"; it was at {place}" if place else ""

    async def _watch(self) -> None:
        pause = 0.0
        while True:
            assert self._running is not None
            if await self._is_to_be_replaced(self._running):
                await self._replace(self._running)
                continue
            lived = asyncio.get_running_loop().time() - self._running.started
            pause = _FIRST_PAUSE if lived > _LIVED_WELL else min(pause * 2 + _FIRST_PAUSE, _LONGEST_PAUSE)
            self._examine(self._running)
            if not self._is_stopping:
                self._count_restart("silent" if self._running.end else "died")
                status = self._running.process.returncode
                _log.error("a process died and is started again", role=self._role, status=status)
                await asyncio.sleep(pause)
            if self._is_stopping:
                return
            try:
                self._running = await self._start(self._running.seat)
            except (StartError, OSError) as error:
                _log.error("a process does not come up", role=self._role, error=str(error))
                # No memory or no process left, or it ended at once: that is no life well lived.
                self._running.started = asyncio.get_running_loop().time()

    async def _is_to_be_replaced(self, running: _Running) -> bool:
        """Wait until it asks for that, and says why, or ends.

        It is killed if its event loop no longer turns.
        """
        process = running.process
        assert process.stdout is not None
        while process.returncode is None:
            try:
                async with asyncio.timeout(self._silence):
                    said = await process.stdout.read(4096)
                    if UNWELL in said:
                        running.complaint = _in_one_line(said.partition(UNWELL)[2].partition(b"\n")[0])
                        return True
                    if not said:
                        await process.wait()
            except TimeoutError:
                running.end = "showed no life and was killed"
                _log.error("a process shows no life and is killed", role=self._role, pid=process.pid)
                await _kill(process)
        self._alive.discard(process)
        return False

    async def _replace(self, old: _Running) -> None:
        """Have another one go on, while the old one finishes."""
        if self._is_stopping or len(self._seats) < 2 or self._leaving is not None:
            return
        _log.warning(
            "a process is not well and is replaced",
            role=self._role,
            pid=old.process.pid,
            reason=old.complaint,
        )
        try:
            self._running = await self._start(next(seat for seat in self._seats if seat is not old.seat))
        except (StartError, OSError) as error:
            _log.error("a process does not come up", role=self._role, error=str(error))
            # The old one goes on meanwhile, and asks again.
            await asyncio.sleep(_LONGEST_PAUSE)
            return
        self._count_restart("unwell")
        _end(old.process)
        self._leaving = asyncio.create_task(self._let_finish(old))

    async def _let_finish(self, old: _Running) -> None:
        while await self._is_to_be_replaced(old):
            pass
        self._examine(old)
        self._leaving = None

    def _examine(self, dead: _Running) -> None:
        """Find out what it died of, and write that down."""
        if dead.seat.bulletin is None:
            return
        notice, traceback = bulletin.read(dead.seat.bulletin), bulletin.read_traceback(dead.seat.bulletin)
        end = dead.end or f"died ({_in_words(dead.process.returncode)})"
        if notice is None:
            if traceback:
                _log.error("the last words of a process", role=self._role, end=end, traceback=traceback)
            return
        _log.error("it died in a policy", role=self._role, end=end, policy=notice.policy)
        self._counter.add("policy_errors", (notice.policy, "killed"))
        gateway = self._config.gateway
        record_death(notice, end, traceback, gateway.hostname, Path(gateway.state_directory))

    def _count_restart(self, cause: str) -> None:
        if self._role in WORKERS:
            self._counter.add("worker_restarts", (cause,))


def _end(process: asyncio.subprocess.Process) -> None:
    """Tell it that it is time to finish; a signal alone reaches one that is not up yet."""
    assert process.stdin is not None
    process.stdin.close()
    _signal(process, signal.SIGTERM)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End it, having had it say where it is (faulthandler, on SIGABRT)."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGABRT)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            await process.wait()
            return
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _in_one_line(words: bytes) -> str:
    """What a process says of itself, fit to be shown."""
    text = words.strip().decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "?" for each in text)


def _in_ascii(path: str) -> str:
    return path.encode("ascii", "backslashreplace").decode("ascii")


def _in_words(status: int | None) -> str:
    if status is not None and status < 0:
        return signal.strsignal(-status) or f"signal {-status}"
    return f"exit status {status}"
