"""What clients are promised: nothing that a downstream could not keep."""

from collections.abc import AsyncIterator

import pytest

from filters.testing.server import Nobody
from gateway.relay.capabilities import Capabilities, Offer
from gateway.relay.pool import Pool
from gateway.relay.router import Destination, Router
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt
from tests.fakes.mta import FakeMTA

OURS = 50_000


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool("mx.example")
    yield pool
    pool.close()


def capabilities(pool: Pool, *destinations: list[str], tls: Encrypt = "may") -> Capabilities:
    entries = [
        Destination((f"{number}.example",), tuple(map(Endpoint.parse, addresses)), tls=tls)
        for number, addresses in enumerate(destinations)
    ]
    return Capabilities(pool, Router(entries), OURS)


@pytest.mark.parametrize(
    ("extensions", "offer"),
    [
        (["SIZE 1000", "8BITMIME", "DSN"], Offer(1000, eight_bit=True, dsn=True)),
        (["SIZE 99999999"], Offer(OURS, eight_bit=False)),
        (["SIZE 0", "8BITMIME"], Offer(OURS, eight_bit=True)),
        (["SIZE", "DSN"], Offer(OURS, eight_bit=False, dsn=True)),
        (["SIZE much"], Offer(OURS, eight_bit=False)),
        (["CHUNKING", "BINARYMIME", "AUTH GSSAPI"], Offer(OURS, eight_bit=False)),
        (["8BITMIME", "SMTPUTF8"], Offer(OURS, smtputf8=True)),
        (["LIMITS RCPTMAX=50"], Offer(OURS, eight_bit=False, recipients=50)),
        (["limits MAILMAX=2 rcptmax=50 RCPTDOMAINMAX=1"], Offer(OURS, eight_bit=False, recipients=50)),
        (["LIMITS RCPTMAX=5000"], Offer(OURS, eight_bit=False)),
        (["LIMITS RCPTMAX=0"], Offer(OURS, eight_bit=False)),
        (["LIMITS RCPTMAX=1000000"], Offer(OURS, eight_bit=False)),
        (["LIMITS XRCPTMAX=5 RCPTMAX=5x RCPTMAX"], Offer(OURS, eight_bit=False)),
        ([], Offer(OURS, eight_bit=False)),
    ],
)
async def test_what_one_downstream_can_do(pool: Pool, extensions: list[str], offer: Offer):
    async with FakeMTA(extensions=extensions) as mta:
        known = capabilities(pool, [mta.address])
        await known.probe()
        assert known.offer() == offer


async def test_an_address_of_many_entries_is_greeted_once(pool: Pool):
    async with FakeMTA(extensions=["8BITMIME"]) as mta:
        known = capabilities(pool, [mta.address], [mta.address], [mta.address])
        await known.probe()
        assert known.offer() == Offer(OURS, eight_bit=True)
        assert len(mta.conversations) == 1


async def test_what_all_of_several_can_do(pool: Pool):
    async with (
        FakeMTA(extensions=["SIZE 3000", "8BITMIME", "DSN"]) as able,
        FakeMTA(extensions=["SIZE 2000", "8BITMIME"]) as other,
    ):
        known = capabilities(pool, [able.address], [other.address])
        await known.probe()
        assert known.offer() == Offer(2000, eight_bit=True, dsn=False)


async def test_before_a_downstream_is_known_nothing_is_promised_for_it(pool: Pool):
    async with FakeMTA(extensions=["8BITMIME", "DSN"]) as mta:
        with Nobody() as nobody:
            known = capabilities(pool, [mta.address], [nobody.address])
            assert known.offer() == Offer(OURS, eight_bit=False)
            await known.probe()
            assert known.offer() == Offer(OURS, eight_bit=False)


async def test_a_spare_address_that_is_down_takes_nothing_away(pool: Pool):
    async with FakeMTA(extensions=["8BITMIME", "DSN"]) as mta:
        with Nobody() as nobody:
            known = capabilities(pool, [nobody.address, mta.address])
            await known.probe()
            assert known.offer() == Offer(OURS, eight_bit=True, dsn=True)


async def test_an_entry_can_do_what_all_its_known_addresses_can(pool: Pool):
    async with (
        FakeMTA(extensions=["SMTPUTF8", "DSN", "LIMITS RCPTMAX=20"]) as able,
        FakeMTA(extensions=["DSN", "LIMITS RCPTMAX=10"]) as spare,
    ):
        known = capabilities(pool, [able.address, spare.address])
        await known.probe()
        assert known.offer() == Offer(OURS, eight_bit=False, dsn=True, recipients=10)


async def test_ways_to_an_address_are_known_apart(pool: Pool):
    """Some servers offer other things once the way is encrypted."""
    async with FakeMTA(extensions=["8BITMIME", "SMTPUTF8"]) as mta:
        endpoint = Endpoint.parse(mta.address)
        router = Router([Destination(("a.example",), (endpoint,), tls=tls) for tls in ("off", "may")])
        known = Capabilities(pool, router, OURS)
        (await pool.open([endpoint], "off")).quit()
        assert known.offer() == Offer(OURS, eight_bit=False)
        mta.extensions = ("8BITMIME",)
        (await pool.open([endpoint], "may")).quit()
        assert known.offer() == Offer(OURS)


async def test_a_new_connection_is_looked_at_as_well(pool: Pool):
    async with FakeMTA(extensions=["8BITMIME"]) as mta:
        known = capabilities(pool, [mta.address])
        await known.probe()
        mta.extensions = ["DSN"]
        (await pool.open([Endpoint.parse(mta.address)], "may")).quit()
        assert known.offer() == Offer(OURS, eight_bit=False, dsn=True)


def mechanisms(known: Capabilities) -> tuple[str, ...]:
    login = known.offer().login
    return login.mechanisms if login else ()


async def test_logins_are_taken_where_one_entry_takes_them(pool: Pool):
    async with (
        FakeMTA(extensions=["AUTH PLAIN LOGIN"]) as able,
        FakeMTA(extensions=["AUTH LOGIN GSSAPI"]) as spare,
        FakeMTA(extensions=["8BITMIME"]) as other,
    ):
        known = capabilities(pool, [other.address], [able.address, spare.address])
        assert mechanisms(known) == ()
        await known.probe()
        login = known.offer().login
        assert login is not None
        assert (login.tls, login.mechanisms) == ("may", ("LOGIN",))
        assert [str(endpoint) for endpoint in login.endpoints] == [able.address, spare.address]


async def test_where_two_would_take_them_nobody_logs_in(pool: Pool):
    async with (
        FakeMTA(extensions=["AUTH PLAIN"]) as one,
        FakeMTA(extensions=["AUTH PLAIN"]) as other,
    ):
        known = capabilities(pool, [one.address], [other.address])
        await known.probe()
        assert mechanisms(known) == ()


async def test_entries_that_lead_to_the_same_addresses_take_logins_as_one(pool: Pool):
    async with FakeMTA(extensions=["AUTH PLAIN"]) as mta:
        known = capabilities(pool, [mta.address], [mta.address])
        await known.probe()
        assert mechanisms(known) == ("PLAIN",)


async def test_an_entry_nobody_knows_might_take_logins_as_well(pool: Pool):
    async with FakeMTA(extensions=["AUTH PLAIN"]) as mta:
        with Nobody() as nobody:
            known = capabilities(pool, [mta.address], [nobody.address])
            await known.probe()
            assert mechanisms(known) == ()


@pytest.mark.parametrize(
    ("address", "tls", "offered"),
    [
        ("127.0.0.1:25", "off", True),
        ("[::1]:25", "may", True),
        ("localhost:25", "may", True),
        ("unix:/run/mta", "may", True),
        ("192.0.2.1:25", "may", False),
        ("192.0.2.1:25", "require", False),
        ("mta.example.net:25", "require", False),
        ("mta.example.net:25", "verify", True),
    ],
)
async def test_passwords_go_only_where_nobody_can_listen(
    pool: Pool, address: str, tls: Encrypt, offered: bool
):
    known = capabilities(pool, [address], tls=tls)
    pool.note(Endpoint.parse(address), tls, {"AUTH": "PLAIN"})
    assert bool(mechanisms(known)) is offered
