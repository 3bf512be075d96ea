"""From a thread into an event loop and back in time, whatever that loop does."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.milter.crossing import Crossing, NoAnswer
from gateway.milter.link import Link
from gateway.milter.transaction import GO_ON
from gateway.recorder import Recorder
from tests.milter.lone import service
from tests.waiting import soon

# Seconds: of somebody who is to get an answer, and of somebody who is to get none.
PATIENT, IMPATIENT = 30.0, 0.05


class Loop:
    """An event loop in a thread of its own. `blocked` keeps it from turning."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._release: Callable[[], None] = lambda: None

    def block(self) -> Callable[[], None]:
        """Until what is returned is called, or the end."""
        entered, released = threading.Event(), threading.Event()

        def stand() -> None:
            entered.set()
            released.wait(PATIENT)

        self.loop.call_soon_threadsafe(stand)
        assert entered.wait(PATIENT)
        self._release = released.set
        return released.set

    def tasks(self) -> int:
        """How many tasks there are, by now."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(PATIENT)

    def stop(self) -> None:
        """End it."""
        self._release()
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(PATIENT)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


@pytest.fixture
def turning() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


async def answer(value: int) -> int:
    return value


async def fail() -> int:
    raise LookupError("told so")


def test_an_answer_comes_back(turning: Loop):
    assert Crossing(turning.loop, PATIENT).ask(answer(5)) == 5


def test_an_exception_comes_back(turning: Loop):
    with pytest.raises(LookupError, match="told so"):
        Crossing(turning.loop, PATIENT).ask(fail())


def test_a_time_out_that_is_the_answer_is_no_missing_answer(turning: Loop):
    async def time_out() -> int:
        raise TimeoutError("a neighbour's")

    with pytest.raises(TimeoutError, match="a neighbour's"):
        Crossing(turning.loop, PATIENT).ask(time_out())


def test_who_waits_too_long_hears_so_and_the_work_is_given_up(turning: Loop):
    cancelled = threading.Event()

    async def never() -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        raise AssertionError

    with pytest.raises(NoAnswer, match=r"nothing within 0\.05 s"):
        Crossing(turning.loop, IMPATIENT).ask(never())
    assert cancelled.wait(PATIENT)
    soon(lambda: turning.tasks() == 0)


def test_a_loop_that_does_not_turn_is_not_waited_for(turning: Loop):
    begun = threading.Event()

    async def begin() -> int:
        begun.set()
        return 1

    release = turning.block()
    with pytest.raises(NoAnswer):
        Crossing(turning.loop, IMPATIENT).ask(begin())
    release()
    # What was given up by then is not begun any more.
    soon(lambda: turning.tasks() == 0)
    assert not begun.is_set()


def test_an_answer_that_comes_in_the_last_moment_counts(turning: Loop, monkeypatch: pytest.MonkeyPatch):
    """The work was done, and perhaps recorded, before anybody could give it up."""
    crossing = Crossing(turning.loop, IMPATIENT)
    begin = crossing._begin

    def begin_and_be_late(work: object) -> object:
        future = begin(work)
        result = future.result

        def late(patience: float | None = None) -> object:
            if patience is None:
                return result()
            result(PATIENT)
            raise TimeoutError

        future.result = late
        return future

    monkeypatch.setattr(crossing, "_begin", begin_and_be_late)
    assert crossing.ask(answer(5)) == 5
    with pytest.raises(LookupError, match="told so"):
        crossing.ask(fail())


def test_what_is_told_is_carried_out_in_order_before_what_is_asked(turning: Loop):
    crossing, done = Crossing(turning.loop, PATIENT), list[int]()

    async def do(number: int) -> int:
        done.append(number)
        return number

    for number in range(100):
        crossing.tell(do(number))
    assert crossing.ask(do(100)) == 100
    assert done == list(range(101))


@pytest.mark.parametrize("method", ["ask", "tell"])
def test_a_loop_that_is_closed_answers_nothing(turning: Loop, method: str):
    turning.stop()
    with pytest.raises(NoAnswer, match="closed"):
        getattr(Crossing(turning.loop, PATIENT), method)(answer(5))


@pytest.mark.parametrize("is_begun", [False, True], ids=["never begun", "begun"])
def test_content_that_nobody_answers_for_is_given_back(
    turning: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_begun: bool
):
    crossing, serving = Crossing(turning.loop, PATIENT), service(tmp_path)
    link = Link(serving, crossing, keeps_blanks=True)
    link.connect("c.example", ("192.0.2.1", 25_000), {}.get)
    assert link.mail([b"<a@example.net>"], {}.get) is GO_ON
    assert link.rcpt([b"<b@our.example>"], {}.get) is GO_ON
    link.header("Subject", b" x")
    link.end_of_header()
    link.body(b"Hello\r\n" * 1000)
    assert serving.store.in_all > 7000
    monkeypatch.setattr(crossing, "_patience", IMPATIENT)
    if is_begun:
        entered, released = threading.Event(), threading.Event()

        def passed(*_: object) -> None:
            entered.set()
            released.wait(PATIENT)

        monkeypatch.setattr(Recorder, "passed", passed)
        release = released.set
    else:
        release = turning.block()
    with pytest.raises(NoAnswer):
        link.end_of_message({}.get)
    assert not is_begun or entered.wait(PATIENT)
    release()
    soon(lambda: serving.store.in_all == 0)
    soon(lambda: turning.tasks() == 0)
