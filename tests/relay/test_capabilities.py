"""What clients are promised: nothing that a downstream could not keep."""

from collections.abc import AsyncIterator

import pytest

from gateway.relay.capabilities import Capabilities, Offer
from gateway.relay.pool import Pool
from gateway.relay.router import Destination, Router
from gateway.smtp.endpoint import Endpoint
from tests.fakes.mta import FakeMTA
from tests.fakes.server import Nobody

OURS = 50_000


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool("mx.example")
    yield pool
    pool.close()


def capabilities(pool: Pool, *destinations: list[str]) -> Capabilities:
    entries = [
        Destination((f"{number}.example",), tuple(map(Endpoint.parse, addresses)))
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
        (["CHUNKING", "BINARYMIME", "SMTPUTF8", "AUTH PLAIN"], Offer(OURS, eight_bit=False)),
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


async def test_a_new_connection_is_looked_at_as_well(pool: Pool):
    async with FakeMTA(extensions=["8BITMIME"]) as mta:
        known = capabilities(pool, [mta.address])
        await known.probe()
        mta.extensions = ["DSN"]
        (await pool.open([Endpoint.parse(mta.address)], "may")).quit()
        assert known.offer() == Offer(OURS, eight_bit=False, dsn=True)
