"""Connections kept between messages."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import gateway.relay.pool
from filters.testing.server import Nobody
from gateway.relay.client import ClientConnection, DownstreamError
from gateway.relay.pool import Pool
from gateway.smtp.breaker import BEHIND_BRIEFLY, COSTLY, FIRST_PAUSE, TOLERATED
from gateway.smtp.endpoint import Endpoint
from tests.fakes.mta import FakeMTA, Gate, drop, hang, reset, say, say_and_drop
from tests.waiting import eventually


class Clock:
    """The pool's clock, which stands still unless a test puts it ahead."""

    ahead = 0.0

    def __call__(self) -> float:
        return self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(clock: Clock) -> AsyncIterator[Pool]:
    pool = Pool("mx.our.example", clock)
    yield pool
    pool.close()


@pytest.fixture
def endpoint(mta: FakeMTA) -> Endpoint:
    return Endpoint.parse(mta.address)


async def test_what_is_released_is_taken_again_the_last_first(pool: Pool, endpoint: Endpoint):
    first, second = await pool.open([endpoint], "may"), await pool.open([endpoint], "may")
    pool.release(first)
    pool.release(second)
    assert pool.take_kept([endpoint], "may") is second
    assert pool.take_kept([endpoint], "may") is first
    assert pool.take_kept([endpoint], "may") is None
    first.quit()
    second.quit()


async def test_an_idle_connection_is_said_goodbye_to(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.relay.pool, "MAX_IDLE", 0.05)
    pool.release(await pool.open([endpoint], "may"))
    await eventually(lambda: mta.heard("QUIT"))
    assert pool.take_kept([endpoint], "may") is None


async def test_no_more_are_kept_than_allowed(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.relay.pool, "MAX_KEPT", 1)
    connections = [await pool.open([endpoint], "may") for _ in range(3)]
    for connection in connections:
        pool.release(connection)
    await eventually(lambda: len(mta.heard("QUIT")) == 2)
    assert pool.take_kept([endpoint], "may") is connections[0]
    connections[0].quit()


async def test_a_connection_that_closed_is_not_taken(pool: Pool, endpoint: Endpoint):
    connection = await pool.open([endpoint], "may")
    pool.release(connection)
    connection.abort("for the test")
    assert pool.take_kept([endpoint], "may") is None


async def test_a_reset_connection_is_kept_once_that_is_confirmed(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA
):
    connection = await pool.open([endpoint], "may")
    pool.reset(connection)
    assert pool.take_kept([endpoint], "may") is None
    assert await eventually(lambda: pool.take_kept([endpoint], "may")) is connection
    connection.quit()


async def test_a_reset_nobody_confirms_ends_the_connection(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.relay.pool, "RESET_TIMEOUT", 0.05)
    mta.script["RSET"] = say()
    connection = await pool.open([endpoint], "may")
    pool.reset(connection)
    assert await mta.last.has_left()
    assert not connection.is_open


async def test_an_address_that_was_down_is_asked_last_for_a_while(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA, clock: Clock
):
    async with FakeMTA({"banner": [say("421 4.3.2 No service")]}) as flaky:
        both = [Endpoint.parse(flaky.address), endpoint]
        (await pool.open(both, "may")).quit()
        (await pool.open(both, "may")).quit()
        assert (flaky.connections, mta.connections) == (1, 2)
        clock.ahead = BEHIND_BRIEFLY
        (await pool.open(both, "may")).quit()
        assert (flaky.connections, mta.connections) == (2, 2)


async def give_up_on(pool: Pool, endpoint: Endpoint, clock: Clock) -> None:
    """Fail as often as it takes, and as slowly."""

    async def opening(connection: ClientConnection) -> None:
        clock.ahead += COSTLY
        connection.abort("for the test")
        raise DownstreamError(f"{endpoint}: too slow")

    for _ in range(TOLERATED):
        with pytest.raises(DownstreamError, match="too slow"):
            await pool.begin([endpoint], "may", opening)


async def test_an_address_that_keeps_failing_is_left_in_peace(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA, clock: Clock
):
    await give_up_on(pool, endpoint, clock)
    for tls in ("may", "off"):
        with pytest.raises(
            DownstreamError, match=rf"^{endpoint}: given up on for 1\.0 s more after: too slow$"
        ):
            await pool.open([endpoint], tls)
    assert mta.connections == TOLERATED
    clock.ahead += FIRST_PAUSE
    for _ in range(2):
        (await pool.open([endpoint], "may")).quit()


AT_ONCE = {
    "421": say("421 4.3.2 No service"),
    "554": say("554 5.3.2 No service"),
    "drop": drop,
    "reset": reset,
    "garbage": say("whatever"),
    "half": say_and_drop("220-mta.test"),
}


@pytest.mark.parametrize("act", AT_ONCE.values(), ids=AT_ONCE)
async def test_who_fails_at_once_is_asked_for_ever(pool: Pool, endpoint: Endpoint, mta: FakeMTA, act):
    mta.script["banner"] = [act] * 10
    for _ in range(10):
        with pytest.raises(DownstreamError):
            await pool.open([endpoint], "may")
    (await pool.open([endpoint], "may")).quit()


async def test_a_probe_that_is_given_up_gives_its_place_back(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA, clock: Clock
):
    await give_up_on(pool, endpoint, clock)
    mta.script["banner"] = [hang]
    clock.ahead += FIRST_PAUSE
    probe = asyncio.create_task(pool.open([endpoint], "may"))
    await mta.wait_for_connections(TOLERATED + 1)
    with pytest.raises(DownstreamError, match="being tried again after: too slow"):
        await pool.open([endpoint], "may")
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    (await pool.open([endpoint], "may")).quit()


async def test_the_next_address_is_tried_where_the_opening_fails(pool: Pool, mta: FakeMTA):
    async def opening(connection: ClientConnection) -> str:
        if connection.endpoint == first:
            connection.abort("for the test")
            raise DownstreamError("says no")
        connection.quit()
        return str(connection.endpoint)

    async with FakeMTA() as other:
        first = Endpoint.parse(other.address)
        assert await pool.begin([first, Endpoint.parse(mta.address)], "may", opening) == mta.address


async def test_where_nobody_takes_it_all_causes_are_named(pool: Pool, mta: FakeMTA):
    mta.script["banner"] = say("554 5.3.2 No service")
    with Nobody() as nobody:
        endpoints = [Endpoint.parse(nobody.address), Endpoint.parse(mta.address)]
        with pytest.raises(DownstreamError, match=r"Connection refused; .*554 5\.3\.2 No service"):
            await pool.open(endpoints, "may")


async def test_a_command_with_a_control_character_is_never_sent(pool: Pool, endpoint: Endpoint, mta: FakeMTA):
    connection = await pool.open([endpoint], "may")
    with pytest.raises(ValueError, match="control character"):
        await connection.ask(b"RCPT TO:<a@b.example>\r\nRCPT TO:<c@d.example>")
    connection.quit()
    await eventually(lambda: mta.heard("QUIT"))
    assert mta.commands == ["EHLO mx.our.example", "QUIT"]


async def test_a_connection_is_kept_for_what_is_as_encrypted(pool: Pool, endpoint: Endpoint):
    connection = await pool.open([endpoint], "off")
    pool.release(connection)
    assert pool.take_kept([endpoint], "require") is None
    assert pool.take_kept([endpoint], "off") is connection
    connection.quit()


async def itself(connection: ClientConnection) -> ClientConnection:
    """An opening that says nothing."""
    return connection


async def test_who_waits_for_a_greeting_gets_what_another_gives_back_the_first_first(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA
):
    gates = [Gate(say("220 mta.test ESMTP")) for _ in range(2)]
    used = await pool.open([endpoint], "may")
    mta.script["banner"] = list(gates)
    first, second = [asyncio.create_task(pool.begin([endpoint], "may", itself)) for _ in range(2)]
    await eventually(lambda: all(gate.reached.is_set() for gate in gates))
    pool.release(used)
    assert await first is used
    assert not second.done()
    pool.release(used)
    assert await second is used
    # What was asked for in vain serves those who come later.
    for gate in gates:
        gate.open()
    late = {await eventually(lambda: pool.take_kept([endpoint], "may")) for _ in gates}
    assert used not in late
    for connection in (used, *late):
        connection.quit()


async def test_who_waits_for_another_kind_of_connection_gets_none_of_ours(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA
):
    used = await pool.open([endpoint], "off")
    mta.script["banner"] = [hang]
    waiting = asyncio.create_task(pool.begin([endpoint], "may", itself))
    await mta.wait_for_connections(2)
    pool.release(used)
    assert pool.take_kept([endpoint], "off") is used
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await mta.last.has_left()
    used.quit()


async def test_who_left_while_it_waited_is_given_nothing(pool: Pool, endpoint: Endpoint, mta: FakeMTA):
    used = await pool.open([endpoint], "may")
    mta.script["banner"] = [hang]
    waiting = asyncio.create_task(pool.begin([endpoint], "may", itself))
    await mta.wait_for_connections(2)
    waiting.cancel()
    pool.release(used)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pool.take_kept([endpoint], "may") is used
    used.quit()


async def test_who_wants_a_connection_of_its_own_is_given_none_that_was_used(
    pool: Pool, endpoint: Endpoint, mta: FakeMTA
):
    used = await pool.open([endpoint], "may")
    gate = Gate(say("220 mta.test ESMTP"))
    mta.script["banner"] = [gate]
    own = asyncio.create_task(pool.open([endpoint], "may"))
    await eventually(gate.reached.is_set)
    pool.release(used)
    gate.open()
    assert await own is not used
    assert pool.take_kept([endpoint], "may") is used
    for connection in (used, await own):
        connection.quit()
