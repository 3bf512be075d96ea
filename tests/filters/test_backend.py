"""Addresses, fail-over, and what becomes of sockets."""

import asyncio
import logging

import pytest

from filters import backend
from filters.backend import Pool, connect, explain
from filters.base import FilterError, TooLarge
from filters.testing.server import BlackHole, Conversation, FakeServer, Nobody, hang, mute, say_early
from gateway.smtp.breaker import BEHIND, BEHIND_BRIEFLY, COSTLY, FIRST_PAUSE, TOLERATED
from gateway.smtp.endpoint import Endpoint

A, B, C = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """A question that fails at the addresses it is told to, and remembers whom it was put to.

    With a clock, each failure takes a while.
    """

    def __init__(self, *failing: str, clock: Clock | None = None) -> None:
        self.failing = set(failing)
        self.clock = clock
        self.order: list[str] = []

    async def __call__(self, endpoint: Endpoint) -> str:
        self.order.append(str(endpoint))
        if str(endpoint) in self.failing:
            if self.clock:
                self.clock.now += COSTLY
            raise FilterError("broken")
        return "well"

    def take_order(self) -> list[str]:
        order, self.order = self.order, []
        return order


async def test_the_first_address_is_asked_first() -> None:
    asked = Asked()
    pool = Pool([A, B])
    for _ in range(3):
        assert await pool.ask(asked) == "well"
    assert asked.order == [A, A, A]


async def test_the_address_with_fewer_questions_under_way_is_preferred() -> None:
    pool = Pool([A, B])
    release = asyncio.Event()
    order = []

    async def wait(endpoint: Endpoint) -> None:
        order.append(str(endpoint))
        await release.wait()

    questions = []
    for _ in range(4):
        questions.append(asyncio.create_task(pool.ask(wait)))
        await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*questions)
    assert order == [A, B, A, B]


async def test_a_failed_address_is_asked_last_for_a_while() -> None:
    clock = Clock()
    asked = Asked(A, clock=clock)
    pool = Pool([A, B], clock)
    await pool.ask(asked)
    assert asked.take_order() == [A, B]
    await pool.ask(asked)
    assert asked.take_order() == [B]
    clock.now += BEHIND
    await pool.ask(asked)
    assert asked.take_order() == [A, B]


async def test_an_address_that_failed_at_once_is_asked_first_again_soon() -> None:
    clock, asked = Clock(), Asked(A)
    pool = Pool([A, B], clock)
    for seconds, order in ((0.0, [A, B]), (0.0, [B]), (BEHIND_BRIEFLY, [A, B])):
        clock.now += seconds
        await pool.ask(asked)
        assert asked.take_order() == order


async def test_an_address_that_is_well_again_is_forgiven() -> None:
    clock, asked = Clock(), Asked(A)
    pool = Pool([A, B], clock)
    await pool.ask(asked)
    asked.failing = {B}
    await pool.ask(asked)
    assert asked.take_order() == [A, B, B, A]
    await pool.ask(asked)
    assert asked.take_order() == [A]


async def test_all_are_tried_when_all_have_failed() -> None:
    asked = Asked(A, B, C)
    pool = Pool([A, B, C])
    for _ in range(2):
        with pytest.raises(FilterError, match=f"{A}: broken; {B}: broken; {C}: broken"):
            await pool.ask(asked)
    assert asked.order == [A, B, C] * 2


async def fail_often(pool: Pool, asked: Asked, times: int = TOLERATED) -> str:
    """What the last of so many questions came to."""
    for _ in range(times):
        with pytest.raises(FilterError) as caught:
            await pool.ask(asked)
    return str(caught.value)


async def test_an_address_that_keeps_failing_is_not_asked_and_the_question_fails_at_once(caplog) -> None:
    clock = Clock()
    asked = Asked(A, clock=clock)
    pool = Pool(A, clock)
    await fail_often(pool, asked)
    assert await fail_often(pool, asked) == f"{A}: given up on for 1.0 s more after: broken"
    assert asked.take_order() == [A] * TOLERATED
    clock.now += FIRST_PAUSE
    asked.failing = set()
    assert await pool.ask(asked) == "well"
    assert await pool.ask(asked) == "well"
    assert [record.message for record in caplog.records] == [
        f"{A} is given up on for 1.0 s more after: broken",
        f"{A} is asked as usual again",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_one_question_at_a_time_tries_an_address_again() -> None:
    clock = Clock()
    asked = Asked(A, B, clock=clock)
    pool = Pool([A, B], clock)
    await fail_often(pool, asked)
    clock.now += FIRST_PAUSE
    asked.take_order()
    held = asyncio.Event()

    async def wait(endpoint: Endpoint) -> str:
        asked.order.append(str(endpoint))
        await held.wait()
        return "late"

    probes = [asyncio.create_task(pool.ask(wait)) for _ in range(2)]
    await asyncio.sleep(0)
    assert asked.take_order() == [A, B]
    text = await fail_often(pool, asked, 1)
    assert text == f"{A}: being tried again after: broken; {B}: being tried again after: broken"
    held.set()
    assert await asyncio.gather(*probes) == ["late", "late"]
    asked.failing = set()
    assert await pool.ask(asked) == "well"


async def test_a_probe_that_nobody_waits_for_any_more_gives_its_place_back() -> None:
    clock = Clock()
    asked = Asked(A, clock=clock)
    pool = Pool(A, clock)
    await fail_often(pool, asked)
    clock.now += FIRST_PAUSE
    probe = asyncio.create_task(pool.ask(lambda _: asyncio.Event().wait()))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    asked.failing = set()
    assert await pool.ask(asked) == "well"


async def test_who_fails_at_once_is_asked_for_ever() -> None:
    asked = Asked(A)
    pool = Pool(A, Clock())
    await fail_often(pool, asked, 20)
    assert len(asked.take_order()) == 20
    asked.failing = set()
    assert await pool.ask(asked) == "well"


async def test_an_address_that_hangs_leaves_the_next_one_time_to_answer() -> None:
    order = []

    async def hang_at_a(endpoint: Endpoint) -> str:
        order.append(str(endpoint))
        if str(endpoint) == A:
            await asyncio.Event().wait()
        return "well"

    pool = Pool([A, B], Clock())
    assert await pool.ask(hang_at_a, 0.2) == "well"
    assert await pool.ask(hang_at_a, 0.2) == "well"
    assert order == [A, B, B]


async def test_an_address_for_which_no_time_is_left_is_not_blamed() -> None:
    clock = Clock()
    pool = Pool([A, B], clock)
    order = []

    async def take_all(endpoint: Endpoint) -> str:
        order.append(str(endpoint))
        if str(endpoint) == A:
            clock.now += 30.0
            raise FilterError("broken")
        return "well"

    with pytest.raises(FilterError, match=f"{A}: broken; {B}: no time left"):
        await pool.ask(take_all)
    assert order == [A]
    assert await pool.ask(take_all) == "well"
    assert order == [A, B]


async def test_only_so_many_questions_are_put_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(backend, "MAX_CONCURRENT", 2)
    pool = Pool(A)
    under_way, most = 0, 0

    async def count(endpoint: Endpoint) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    await asyncio.gather(*(pool.ask(count) for _ in range(10)))
    assert most == 2


async def test_waiting_for_ones_turn_is_bounded_as_well(monkeypatch) -> None:
    monkeypatch.setattr(backend, "MAX_CONCURRENT", 1)
    pool = Pool(A)
    first = asyncio.create_task(pool.ask(lambda _: asyncio.Event().wait()))
    await asyncio.sleep(0)
    with pytest.raises(FilterError, match=r"no answer within 0\.0\d+ s"):
        await pool.ask(Asked(), 0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_too_large_is_an_answer_and_no_failure() -> None:
    order = []

    async def refuse(endpoint: Endpoint) -> None:
        order.append(str(endpoint))
        raise TooLarge("too large")

    pool = Pool([A, B])
    for _ in range(2):
        with pytest.raises(TooLarge, match=f"{A}: too large"):
            await pool.ask(refuse)
    assert order == [A, A]


@pytest.mark.parametrize(("seconds", "preferred"), [(backend.PATIENCE, B), (backend.PATIENCE / 2, A)])
async def test_a_question_cancelled_late_counts_against_the_address(seconds: float, preferred: str) -> None:
    clock = Clock()
    pool = Pool([A, B], clock)

    async def never(endpoint: Endpoint) -> None:
        await asyncio.Event().wait()

    question = asyncio.create_task(pool.ask(never))
    await asyncio.sleep(0)
    clock.now += seconds
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    asked = Asked()
    await pool.ask(asked)
    assert asked.order == [preferred]


async def test_each_address_is_probed() -> None:
    assert await Pool([A, B]).ask_each(Asked()) == f"{A}: well; {B}: well"
    with pytest.raises(FilterError, match=f"{A}: broken; {B}: well"):
        await Pool([A, B]).ask_each(Asked(A))


@pytest.mark.parametrize(
    "address", ["", "localhost", "127.0.0.1:x", "::1:783", "unix:relative", "127.0.0.1:70000"]
)
def test_a_bad_address_is_refused_with_the_allowed_forms(address: str) -> None:
    with pytest.raises(ValueError, match='allowed: "host:port", "\\[v6-address\\]:port" or "unix:/path"'):
        Pool(address)


def test_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        Pool([])


def test_an_address_given_twice_is_one_address() -> None:
    assert len(Pool([A, A]).endpoints) == 1


async def test_a_refused_connection_is_an_os_error() -> None:
    with Nobody() as nobody, pytest.raises(OSError) as caught:
        async with connect(Endpoint.parse(nobody.address)):
            pass
    assert explain(caught.value) == "connection refused"


async def test_a_missing_socket_is_an_os_error(tmp_path) -> None:
    with pytest.raises(OSError) as caught:
        async with connect(Endpoint(path=str(tmp_path / "none"))):
            pass
    assert explain(caught.value) == "no such file or directory"


async def test_an_unknown_name_is_explained() -> None:
    with pytest.raises(OSError) as caught:
        async with connect(Endpoint("does-not-exist.invalid", 1)):
            pass
    assert explain(caught.value).startswith("name not found")


async def test_a_swallowed_connection_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(backend, "CONNECT_TIMEOUT", 0.05)
    with BlackHole() as hole, pytest.raises(FilterError, match=r"no connection within 0\.05 s"):
        async with connect(Endpoint.parse(hole.address)):
            pass


async def test_a_host_name_is_connected_to() -> None:
    async with FakeServer(say_early(b"hello")) as fake:
        port = fake.address.partition(":")[2]
        async with connect(Endpoint.parse(f"localhost:{port}")) as connection:
            assert await connection.receive(100) == b"hello"


async def test_leaving_the_block_closes_the_socket() -> None:
    async def fail_in_the_middle(fake: FakeServer) -> None:
        async with connect(Endpoint.parse(fake.address)) as connection:
            await connection.send([b"hello ", b"you"])
            await fake.wait_for_connections(1)
            raise KeyError

    async with FakeServer(hang) as fake:
        with pytest.raises(KeyError):
            await fail_in_the_middle(fake)
        assert await fake.last.has_left()
        assert fake.last.received == b"hello you"


async def test_an_answer_given_before_everything_was_sent_can_be_read() -> None:
    async with FakeServer(say_early(b"enough", after=100_000)) as fake:
        for _ in range(50):
            async with connect(Endpoint.parse(fake.address)) as connection:
                await connection.send(bytes(131_072) for _ in range(200))
                assert connection.is_cut
                assert await connection.receive(100) == b"enough"


async def test_an_answer_over_the_limit_is_not_read_on() -> None:
    async with FakeServer(say_early(bytes(100_000))) as fake, connect(Endpoint.parse(fake.address)) as talk:
        with pytest.raises(FilterError, match="more than 4096 octets"):
            await talk.receive(4096)


async def test_no_answer_is_an_error() -> None:
    async with FakeServer(mute) as fake, connect(Endpoint.parse(fake.address)) as talk:
        with pytest.raises(FilterError, match="closed without an answer"):
            await talk.receive(4096)


async def test_answers_are_told_apart() -> None:
    async with (
        FakeServer(say_early(b"one\r\ntwo\r\nthree")) as fake,
        connect(Endpoint.parse(fake.address)) as talk,
    ):
        assert await talk.receive_until(b"\r\n", 100) == b"one\r\n"
        assert talk.has_more
        assert await talk.receive_until(b"\r\n", 100) == b"two\r\n"
        with pytest.raises(FilterError, match="answered 'three' and closed"):
            await talk.receive_until(b"\r\n", 100)
        assert await talk.receive(100) == b"three"


async def test_an_end_may_come_in_pieces() -> None:
    def dawdle(talk: Conversation) -> None:
        for piece in (b"one\r", b"\n", b"\r", b"\n"):
            talk.say(piece)
            talk.read_exactly(1)

    async with FakeServer(dawdle) as fake, connect(Endpoint.parse(fake.address)) as talk:
        await talk.send([b"1234"])
        assert await talk.receive_until(b"\r\n\r\n", 100) == b"one\r\n\r\n"
        assert not talk.has_more


async def test_what_comes_along_behind_the_end_does_not_count() -> None:
    def pause(talk: Conversation) -> None:
        talk.say(b"one\r")
        talk.read_exactly(1)
        talk.say(b"\n" + bytes(100_000))

    async with FakeServer(pause) as fake, connect(Endpoint.parse(fake.address)) as talk:
        await talk.send([b"1"])
        assert await talk.receive_until(b"\r\n", 10) == b"one\r\n"


@pytest.mark.parametrize(("octets", "error"), [(bytes(100_000), "more than 4096 octets"), (b"", "^closed$")])
async def test_an_answer_without_the_end_is_an_error(octets: bytes, error: str) -> None:
    async with FakeServer(say_early(octets)) as fake, connect(Endpoint.parse(fake.address)) as talk:
        with pytest.raises(FilterError, match=error):
            await talk.receive_until(b"\r\n", 4096)
