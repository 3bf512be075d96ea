"""The pool of workers, with workers that do as they please; and what a confined process cannot do."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from filters.base import FilterError
from filters.sandbox.pool import MAX_ANSWER, MAX_QUESTIONS, Sandbox, command, environment
from tests.waiting import eventually

TIMEOUT = 30.0


@asynccontextmanager
async def sandbox(how: str, workers: int = 1) -> AsyncIterator[Sandbox]:
    pool = Sandbox("tests.fakes.unruly_worker", [how], workers)
    try:
        yield pool
    finally:
        await pool.close()


async def ask(pool: Sandbox, content: bytes = b"question", timeout: float = TIMEOUT) -> bytes:
    return await pool.ask(len(content), [content], timeout)


def exists(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_worker_is_used_again():
    async with sandbox("repeat") as pool:
        assert [await ask(pool, b"one"), await ask(pool, b"two")] == [b"one", b"two"]
        (first,) = pool.process_ids
        assert await ask(pool) == b"question"
        assert pool.process_ids == [first]
    assert not exists(first)


async def test_as_many_workers_as_there_may_be():
    async with sandbox("repeat", workers=2) as pool:
        asked = [f"{number}".encode() for number in range(10)]
        assert await asyncio.gather(*(ask(pool, each) for each in asked)) == asked
        assert 1 <= len(pool.process_ids) <= 2


async def test_large_content_goes_through_in_pieces():
    async with sandbox("repeat") as pool:
        assert await pool.ask(3_000_000, [b"x" * 100_000] * 30, TIMEOUT) == b"x" * 3_000_000


async def test_a_worker_that_has_had_enough_is_replaced():
    async with sandbox("repeat-last") as pool:
        assert await ask(pool) == b"question"
        assert pool.process_ids == []
        assert await ask(pool) == b"question"


async def test_a_worker_is_replaced_after_so_many_questions():
    async with sandbox("repeat") as pool:
        for _ in range(MAX_QUESTIONS - 1):
            await ask(pool)
        assert pool.process_ids
        await ask(pool)
        assert pool.process_ids == []


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("die", "ended before it had answered \\(with status 3\\)"),
        ("die-in-the-answer", "ended before it had answered \\(with status 3\\)"),
        ("long", f"answered with more than {MAX_ANSWER} octets"),
        ("endless", f"answered with more than {MAX_ANSWER} octets"),
        ("wrong-token", "something else than it was asked"),
        ("early", "something else than it was asked"),
        ("no-state", "something else than it was asked"),
        ("wrong-state", "something else than it was asked"),
        ("empty", "something else than it was asked"),
        ("nothing", "ended before it had answered"),
        ("unheard-of", "ended before it had answered"),
    ],
)
async def test_what_is_no_answer_is_an_error_and_ends_the_worker(how: str, error: str):
    async with sandbox(how) as pool:
        for _ in range(2):
            with pytest.raises(FilterError, match=error):
                await ask(pool)
            assert pool.process_ids == []


async def test_a_worker_that_leaves_while_it_is_being_sent_to():
    async with sandbox("leave") as pool:
        with pytest.raises(FilterError, match="ended before it had answered"):
            await pool.ask(100_000_000, [b"x" * 100_000] * 1000, TIMEOUT)


@pytest.mark.parametrize("how", ["hang", "mute"])
async def test_silence_is_given_up(how: str):
    async with sandbox(how) as pool:
        with pytest.raises(FilterError, match=r"no answer within 0\.5 s"):
            await pool.ask(10_000_000, [b"x" * 10_000_000], 0.5)
        assert pool.process_ids == []


async def test_a_worker_that_stands_still_is_replaced():
    async with sandbox("repeat") as pool:
        await ask(pool)
        (still,) = pool.process_ids
        os.kill(still, signal.SIGSTOP)
        with pytest.raises(FilterError, match=r"no answer within 0\.5 s"):
            await ask(pool, timeout=0.5)
        assert await ask(pool) == b"question"
        await eventually(lambda: not exists(still))


async def test_a_worker_that_is_killed_in_the_middle_is_replaced():
    async with sandbox("repeat") as pool:
        await ask(pool)
        (killed,) = pool.process_ids
        os.kill(killed, signal.SIGSTOP)
        asking = asyncio.create_task(ask(pool))
        await eventually(lambda: not pool.process_ids)
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(FilterError, match="SIGKILL"):
            await asking
        assert await ask(pool) == b"question"


async def test_a_worker_that_was_killed_between_two_questions_is_nobodys_error():
    async with sandbox("repeat") as pool:
        await ask(pool)
        (killed,) = pool.process_ids
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: not pool.process_ids)
        assert await ask(pool) == b"question"
        assert pool.process_ids != [killed]


async def test_whoever_waits_no_longer_takes_the_worker_along():
    async with sandbox("repeat") as pool:
        await ask(pool)
        (left,) = pool.process_ids
        os.kill(left, signal.SIGSTOP)
        asking = asyncio.create_task(ask(pool))
        await eventually(lambda: not pool.process_ids)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await eventually(lambda: not exists(left))
        assert await ask(pool) == b"question"


async def test_content_that_cannot_be_read_takes_the_worker_along():
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the content was given back")

    async with sandbox("repeat") as pool:
        with pytest.raises(ValueError, match="given back"):
            await pool.ask(8, broken(), TIMEOUT)
        assert pool.process_ids == []
        assert await ask(pool) == b"question"


async def test_a_greeting():
    async with sandbox("repeat") as pool:
        assert await pool.greet(TIMEOUT) == b"hello"
        assert len(pool.process_ids) == 1


async def test_a_worker_that_does_not_greet_is_given_up():
    async with sandbox("mute") as pool:
        with pytest.raises(FilterError, match=r"no answer within 0\.5 s"):
            await pool.greet(0.5)


def test_nothing_of_our_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET", "x")
    assert set(environment()) == {"PYTHONPATH", "LC_ALL", "PYTHONDONTWRITEBYTECODE"}


# Confinement


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        ("open('/etc/passwd')", "PermissionError"),
        ("open('/proc/self/mem', 'wb')", "PermissionError"),
        ("open('/tmp/x', 'w')", "PermissionError"),
        ("os.listdir('/')", "PermissionError"),
        ("os.stat('/')", "PermissionError"),
        ("os.unlink('/nowhere')", "PermissionError"),
        ("os.memfd_create('x')", "PermissionError"),
        ("os.pipe()", "PermissionError"),
        ("socket.socket()", "PermissionError"),
        ("socket.socketpair()", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("os.execv('/bin/true', ['true'])", "PermissionError"),
        ("os.kill(os.getppid(), 0)", "PermissionError"),
        ("resource.setrlimit(resource.RLIMIT_CPU, (1, 1))", "ValueError"),
        ("threading.Thread(target=print).start()", "RuntimeError"),
        ("bytearray(1_000_000_000)", "MemoryError"),
        ("importlib.import_module('wave')", "ModuleNotFoundError"),
        ("len(bytearray(1_000_000))", "1000000"),
        ("os.read(0, 5)", "b'hello'"),
    ],
)
def test_a_confined_process_can_do_nothing_but_compute(attempt: str, told: str):
    program = (
        "import importlib, os, resource, socket, sys, threading\n"
        "from filters.sandbox.confinement import confine, limit_resources\n"
        "limit_resources(300_000_000, 60)\n"
        "assert confine() == 'confined by seccomp'\n"
        f"try: said = repr({attempt})\n"
        "except BaseException as error: said = type(error).__name__\n"
        "os.write(1, said.encode())\n"
        "os._exit(0)\n"
    )
    interpreter = command("x", [])[:2]
    done = subprocess.run(
        [*interpreter, "-c", program], input=b"hello", env=environment(), capture_output=True, check=False
    )
    assert done.stdout.decode() == told, done.stderr.decode()


def test_a_confined_process_is_killed_where_it_computes_too_long():
    program = (
        "from filters.sandbox.confinement import confine, limit_resources\n"
        "limit_resources(300_000_000, 1)\n"
        "confine()\n"
        "while True: pass\n"
    )
    interpreter = command("x", [])[:2]
    done = subprocess.run([*interpreter, "-c", program], env=environment(), check=False)
    assert -done.returncode in {signal.SIGXCPU, signal.SIGKILL}
