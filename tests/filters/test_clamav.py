"""Which answers of clamd mean what. Clean is one exact sequence of octets."""

import pytest

from filters.base import FilterError, TooLarge
from filters.clamav import ClamAV
from filters.evidence import VirusReport
from filters.testing.server import close_after, say_early
from filters.testing.transactions import at_end_of_data
from tests.fakes.clamd import EICAR, EICAR_SIGNATURE, VERSION, FakeClamd, answer, limit_size

LARGE = b"Subject: large\r\n\r\n" + b"0123456789" * 1_000_000


async def test_a_virus_is_found_wherever_it_stands() -> None:
    async with FakeClamd() as fake:
        clamav = ClamAV(address=fake.address)
        for padding in (0, 131_060, 262_100):
            report = await clamav.find(at_end_of_data(bytes(padding) + EICAR))
            assert report == VirusReport(EICAR_SIGNATURE)


@pytest.mark.parametrize(
    ("reply", "signature"),
    [
        (b"stream: Foo FOUND\0", "Foo"),
        (b"stream: OK FOUND\0", "OK"),
        (b"stream: Foo OK FOUND\0", "Foo OK"),
        (b"stream: Foo: bar(123:456) FOUND\0", "Foo: bar(123:456)"),
        (b"stream: a\r\nb\x1b\xff FOUND\0", "a??b??"),
        (b"stream: " + b"x" * 3000 + b" FOUND\0", "x" * 200),
    ],
)
async def test_a_find_is_reported_by_a_printable_name(reply: bytes, signature: str) -> None:
    async with FakeClamd(answer(reply)) as fake:
        assert await ClamAV(address=fake.address).find(at_end_of_data()) == VirusReport(signature)


@pytest.mark.parametrize(
    "reply",
    [
        b"stream: ",
        b"stream: \0",
        b"OK",
        b"OK\0",
        b"stream: OK",
        b"stream: OK\n",
        b"stream: OK\r\n\0",
        b"stream: OK \0",
        b"stream: ok\0",
        b"stream:OK\0",
        b"streams: OK\0",
        b"x stream: OK\0",
        b"stream: NOT OK\0",
        b"stream: Foo FOUND OK\0",
        b"stream: FOUND\0",
        b"stream:  FOUND\0",
        b"stream: Foo FOUND",
        b"stream: Foo FOUND\n",
        b"stream: a\0stream: OK\0",
        b"stream: Foo FOUND\0stream: OK\0",
        b"stream: OK\0stream: OK\0",
        b"stream: OK\0stream: Foo FOUND\0",
        b"stream: OK\0\0",
        b"1: stream: OK\0",
        b"stream: Can't allocate memory ERROR\0",
        b"UNKNOWN COMMAND\0",
        b"COMMAND READ TIMED OUT\0",
        b"\0",
        b"\xff\xfe\xfd",
    ],
)
async def test_any_other_answer_is_an_error(reply: bytes) -> None:
    async with FakeClamd(answer(reply)) as fake:
        with pytest.raises(FilterError, match=f"^{fake.address}: answered ['\"]") as caught:
            await ClamAV(address=fake.address).find(at_end_of_data())
        assert not isinstance(caught.value, TooLarge)


async def test_an_endless_name_is_an_error() -> None:
    async with FakeClamd(answer(b"stream: " + b"x" * 10_000_000)) as fake:
        with pytest.raises(FilterError, match="more than 4096 octets"):
            await ClamAV(address=fake.address).find(at_end_of_data())


async def test_clamd_answering_before_it_has_everything_is_an_error() -> None:
    async with FakeClamd(say_early(b"stream: OK\0", after=1000)) as fake:
        with pytest.raises(FilterError, match="closed before it was sent the whole message"):
            await ClamAV(address=fake.address).find(at_end_of_data(LARGE))


async def test_clamd_dying_before_it_has_everything_is_an_error() -> None:
    async with FakeClamd(close_after(100_000)) as fake:
        with pytest.raises(FilterError, match="closed while being sent to"):
            await ClamAV(address=fake.address).find(at_end_of_data(LARGE))


async def test_clamds_size_limit_is_too_large() -> None:
    async with FakeClamd(limit_size(1_000_000)) as fake:
        clamav = ClamAV(address=fake.address)
        for _ in range(20):
            with pytest.raises(TooLarge, match="StreamMaxLength"):
                await clamav.find(at_end_of_data(LARGE))
        assert fake.connections == 20


async def test_more_than_max_size_is_not_sent() -> None:
    async with FakeClamd() as fake:
        clamav = ClamAV(address=fake.address, max_size=10)
        assert await clamav.find(at_end_of_data(b"1234567", b"abc")) == VirusReport()
        with pytest.raises(TooLarge, match="11 octets are more than max_size = 10"):
            await clamav.find(at_end_of_data(b"12345678", b"abc"))
        assert fake.connections == 1


async def test_the_version_is_told() -> None:
    async with FakeClamd() as one, FakeClamd() as two:
        clamav = ClamAV(address=[one.address, two.address])
        assert await clamav.probe() == f"{one.address}: {VERSION}; {two.address}: {VERSION}"


@pytest.mark.parametrize("max_size", [0, -1])
def test_a_limit_that_lets_nothing_through_is_refused(max_size: int) -> None:
    with pytest.raises(ValueError, match="max_size"):
        ClamAV(address="127.0.0.1:3310", max_size=max_size)
