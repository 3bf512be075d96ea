"""The connection on which one session logged in: its own, for all its mail, and never another one."""

from collections.abc import AsyncIterator

import pytest

from gateway.relay.capabilities import LoginOffer
from gateway.relay.client import ClientConnection, DownstreamError
from gateway.relay.login import Login, open_login
from gateway.relay.pool import Pool
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt
from tests.fakes.mta import EXTENSIONS, FakeMTA, Gate, say
from tests.waiting import eventually


@pytest.fixture
async def mta() -> AsyncIterator[FakeMTA]:
    async with FakeMTA(extensions=[*EXTENSIONS, "AUTH PLAIN"]) as fake:
        yield fake


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool("mx.our.example")
    yield pool
    pool.close()


@pytest.fixture
def endpoints(mta: FakeMTA) -> tuple[Endpoint]:
    return (Endpoint.parse(mta.address),)


@pytest.fixture
async def login(pool: Pool, endpoints: tuple[Endpoint]) -> AsyncIterator[Login]:
    login = await open_login(pool, LoginOffer(endpoints, "may", ("PLAIN",)), "PLAIN")
    yield login
    login.close()


def take(login: Login, endpoints: tuple[Endpoint]) -> ClientConnection:
    connection = login.take_kept(endpoints, "may")
    assert connection is not None
    return connection


async def begin(login: Login, endpoints: tuple[Endpoint], tls: Encrypt) -> ClientConnection:
    """The connection that a transaction would be opened on."""

    async def keep(connection: ClientConnection) -> ClientConnection:
        return connection

    return await login.begin(endpoints, tls, keep)


async def test_it_is_one_connection_and_not_the_pools(
    login: Login, pool: Pool, endpoints: tuple[Endpoint], mta: FakeMTA
):
    connection = take(login, endpoints)
    login.release(connection)
    assert pool.take_kept(endpoints, "may") is None
    assert take(login, endpoints) is connection
    assert mta.connections == 1


async def test_one_transaction_at_a_time_is_open_on_it(
    login: Login, endpoints: tuple[Endpoint], mta: FakeMTA
):
    connection = take(login, endpoints)
    assert login.take_kept(endpoints, "may") is None
    with pytest.raises(DownstreamError, match="in use"):
        await begin(login, endpoints, "may")
    login.release(connection)
    assert await begin(login, endpoints, "may") is connection
    assert mta.connections == 1


async def test_it_is_used_again_once_a_reset_is_confirmed(
    login: Login, endpoints: tuple[Endpoint], mta: FakeMTA
):
    gate = Gate(say("250 2.0.0 Ok"))
    mta.script["RSET"] = gate
    connection = take(login, endpoints)
    login.reset(connection)
    assert login.take_kept(endpoints, "may") is None
    await eventually(gate.reached.is_set)
    gate.open()
    assert await begin(login, endpoints, "may") is connection
    login.release(connection)
    assert take(login, endpoints) is connection


async def test_a_reset_that_is_refused_ends_it(login: Login, endpoints: tuple[Endpoint], mta: FakeMTA):
    mta.script["RSET"] = say("554 5.3.2 No")
    login.reset(take(login, endpoints))
    for _ in range(2):
        with pytest.raises(DownstreamError, match="login is lost: RSET was not confirmed"):
            await begin(login, endpoints, "may")
    assert await mta.last.has_left()


async def test_it_is_not_replaced_when_it_is_lost(login: Login, endpoints: tuple[Endpoint], mta: FakeMTA):
    connection = take(login, endpoints)
    connection.abort("for the test")
    login.reset(connection)
    assert login.take_kept(endpoints, "may") is None
    with pytest.raises(DownstreamError, match="login is lost: for the test"):
        await begin(login, endpoints, "may")
    assert mta.connections == 1


async def test_other_ways_are_the_pools(login: Login, pool: Pool, endpoints: tuple[Endpoint], mta: FakeMTA):
    other = await begin(login, endpoints, "off")
    login.release(other)
    assert pool.take_kept(endpoints, "off") is other
    login.reset(other)
    await eventually(lambda: mta.heard("RSET"))
    assert await eventually(lambda: login.take_kept(endpoints, "off")) is other
    login.release(other)
    assert mta.connections == 2


async def test_nobody_is_sent_a_password_who_does_not_ask(
    pool: Pool, endpoints: tuple[Endpoint], mta: FakeMTA
):
    with pytest.raises(DownstreamError, match="offers no AUTH LOGIN any more"):
        await open_login(pool, LoginOffer(endpoints, "may", ("LOGIN",)), "LOGIN")
    await eventually(lambda: mta.heard("QUIT"))


async def test_a_line_with_a_control_character_is_neither_sent_nor_quoted(login: Login, mta: FakeMTA):
    with pytest.raises(ValueError, match=r"^control character in a command$"):
        await login.say(b"c2VjcmV0\r\nQUIT")
    assert mta.commands == ["EHLO mx.our.example"]
