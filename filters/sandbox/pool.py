"""The outside of the sandbox: a few worker processes, each asked one thing at a time.

A worker that dies, hangs, answers too much or something else than it was asked for is killed, its
question fails, and the next one gets a fresh worker. Nothing in here knows what is asked.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filters.base import FilterError

MAX_ANSWER = 4_194_304
# What a long life may leave behind in a process ends with it.
MAX_QUESTIONS = 200
_ROOT = Path(__file__).parents[2]
# The same code as outside, whatever is installed; texts are UTF-8; nothing else of our environment.
_ENVIRONMENT = {"PYTHONPATH": str(_ROOT), "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """How a worker is started: never from the current directory."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """What a worker finds in its environment."""
    return dict(_ENVIRONMENT)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said; `is_last` if it will say no more."""

    octets: bytes
    is_last: bool


class Sandbox:
    """Workers that run `module` with `arguments`, at most `workers` of them, started when needed."""

    def __init__(self, module: str, arguments: Sequence[str], workers: int) -> None:
        self._command = command(module, arguments)
        self._slots = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def ask(self, size: int, content: Iterable[bytes], seconds: float) -> bytes:
        """The answer to `size` octets of content. Raises FilterError if there is none in time."""
        async with self._slot(seconds) as until:
            worker = await self._take()
            try:
                answer = await worker.ask(size, content, until - asyncio.get_running_loop().time())
            except BaseException:
                self._end(worker)
                raise
            self._give_back(worker, answer)
            return answer.octets

    async def greet(self, seconds: float) -> bytes:
        """What a worker says of itself when it starts. Raises FilterError if it does not start."""
        async with self._slot(seconds):
            worker = await self._take()
            self._idle.append(worker)
            return worker.greeting

    @contextlib.asynccontextmanager
    async def _slot(self, seconds: float) -> AsyncIterator[float]:
        """Room for one worker, and until when. Raises FilterError if what is done there takes longer."""
        until = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(until) as limit, self._slots:
                yield until
        except TimeoutError:
            if not limit.expired():
                raise
            raise FilterError(f"no answer within {seconds:.3g} s") from None

    async def close(self) -> None:
        """End all workers."""
        while self._idle:
            self._end(self._idle.pop())
        await asyncio.gather(*self._ending)

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that wait for a question, the one that is asked next last."""
        return [worker.process.pid for worker in self._idle if worker.process.returncode is None]

    async def _take(self) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            if worker.process.returncode is None:
                return worker
            self._end(worker)
        return await self._start()

    async def _start(self) -> "_Worker":
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
            # What is typed at a terminal is for the gateway, which ends its workers itself.
            start_new_session=True,
            limit=MAX_ANSWER,
        )
        worker = _Worker(process)
        try:
            worker.greeting = await worker.read_line()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _give_back(self, worker: "_Worker", answer: Answer) -> None:
        if answer.is_last or worker.questions >= MAX_QUESTIONS:
            self._end(worker)
        else:
            self._idle.append(worker)

    def _end(self, worker: "_Worker") -> None:
        """Kill it at once; that it is gone is noticed later."""
        ending = asyncio.create_task(worker.end())
        worker.kill()
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Worker:
    """One process; its lines are read strictly."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.greeting = b""
        self.questions = 0

    async def ask(self, size: int, content: Iterable[bytes], seconds: float) -> Answer:
        self.questions += 1
        token = secrets.token_hex(8)
        question = {"token": token, "size": size, "seconds": seconds}
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
            for piece in content:
                self.process.stdin.write(piece)
                await self.process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise FilterError(await self._obituary()) from None
        # An answer to another question, said too early or too late, is told by its token.
        said, state, answer = (*(await self.read_line()).split(b" ", 2), b"", b"")[:3]
        if said != token.encode() or state not in {b"more", b"last"}:
            raise FilterError("a worker answered something else than it was asked")
        return Answer(answer, state == b"last")

    async def read_line(self) -> bytes:
        """One whole line, without its end. Raises FilterError if there is none."""
        assert self.process.stdout is not None
        try:
            line = await self.process.stdout.readline()
        except ValueError:
            raise FilterError(f"a worker answered with more than {MAX_ANSWER} octets") from None
        if not line.endswith(b"\n"):
            raise FilterError(await self._obituary())
        return line[:-1]

    async def _obituary(self) -> str:
        """Of a worker that has closed its side: it ends now, if it has not yet."""
        self.kill()
        status = await self.process.wait()
        how = signal.Signals(-status).name if status < 0 else f"with status {status}"
        return f"a worker ended before it had answered ({how})"

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.process.returncode is None:
                os.kill(self.process.pid, signal.SIGKILL)

    async def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()
