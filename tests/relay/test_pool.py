"""Connections kept between messages."""

from collections.abc import AsyncIterator

import pytest

import gateway.relay.pool
from gateway.relay.client import DownstreamError
from gateway.relay.pool import Pool
from gateway.smtp.endpoint import Endpoint
from tests.fakes.mta import FakeMTA, say
from tests.fakes.server import Nobody
from tests.waiting import eventually


@pytest.fixture
async def mta() -> AsyncIterator[FakeMTA]:
    async with FakeMTA() as fake:
        yield fake


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool("mx.our.example")
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
    pool: Pool, endpoint: Endpoint, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    flaky = FakeMTA({"banner": [say("554 5.3.2 No service")]})
    async with flaky:
        both = [Endpoint.parse(flaky.address), endpoint]
        (await pool.open(both, "may")).quit()
        (await pool.open(both, "may")).quit()
        assert (flaky.connections, mta.connections) == (1, 2)
        monkeypatch.setattr(gateway.relay.pool, "SET_BACK", 0.0)
        pool = Pool("mx.our.example")
        flaky.script["banner"] = [say("554 5.3.2 No service")]
        (await pool.open(both, "may")).quit()
        (await pool.open(both, "may")).quit()
        assert (flaky.connections, mta.connections) == (3, 3)


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
