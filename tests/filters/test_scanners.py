"""What every scanner owes the gateway, whatever its daemon does: a whole answer or an exception."""

import asyncio
import gc
from dataclasses import dataclass

import pytest

from filters import backend
from filters.base import Filter, FilterError
from filters.clamav import ClamAV
from filters.evidence import Finding, SpamReport, VirusReport
from filters.spamassassin import SpamAssassin
from tests.fakes import spamd
from tests.fakes.clamd import FakeClamd
from tests.fakes.server import (
    Behaviour,
    BlackHole,
    FakeServer,
    Nobody,
    close_after,
    deaf,
    hang,
    mute,
    reset_after,
    say_early,
    trickle,
)
from tests.fakes.spamd import FakeSpamd
from tests.fakes.transactions import at_end_of_data


@dataclass(frozen=True)
class Scanner:
    """A filter, its fake daemon, the finding for clean mail, and the answer that says so."""

    filter: type[Filter]
    fake: type[FakeServer]
    clean: Finding
    answer: bytes

    def at(self, address: str | list[str]) -> Filter:
        return self.filter(address=address, max_size=100_000_000)  # type: ignore[call-arg]


SCANNERS = {
    "clamav": Scanner(ClamAV, FakeClamd, VirusReport(), b"stream: OK\0"),
    "spamassassin": Scanner(
        SpamAssassin, FakeSpamd, SpamReport(0.0, 5.0, ("NO_RECEIVED",)), spamd.symbols(0.0, ["NO_RECEIVED"])
    ),
}

LARGE = b"Subject: large\r\n\r\n" + b"0123456789" * 40_000

BROKEN: dict[str, Behaviour] = {
    "mute": mute,
    "closes-while-being-sent-to": close_after(5),
    "resets-while-being-sent-to": reset_after(5),
    "junk": say_early(bytes(range(256)) * 4),
    "http": say_early(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "smtp": say_early(b"220 mail.example.net ESMTP\r\n"),
    "line-without-end": say_early(b"x" * 1_000_000),
    "newlines": say_early(b"\r\n" * 1000),
}
SILENT: dict[str, Behaviour] = {"hangs": hang, "deaf": deaf, "trickles": trickle}


@pytest.fixture(params=SCANNERS)
def scanner(request: pytest.FixtureRequest) -> Scanner:
    return SCANNERS[request.param]


@pytest.fixture(autouse=True)
def leaks_are_noticed():
    yield
    # A forgotten socket warns when it is collected, and a warning fails the test.
    gc.collect()


async def test_clean_mail_is_clean(scanner: Scanner) -> None:
    async with scanner.fake() as fake:
        assert await scanner.at(fake.address).find(at_end_of_data()) == scanner.clean


async def test_a_unix_socket_serves_as_well(scanner: Scanner, tmp_path) -> None:
    async with scanner.fake(unix=str(tmp_path / "socket")) as fake:
        assert await scanner.at(fake.address).find(at_end_of_data()) == scanner.clean


@pytest.mark.parametrize("content", [b"", b"\r\n", b"x", LARGE], ids=["empty", "blank", "one", "large"])
async def test_the_daemon_is_sent_what_will_be_relayed(scanner: Scanner, content: bytes) -> None:
    trace = b"Received: from a\r\n\tby b; today\r\n"
    async with scanner.fake() as fake:
        await scanner.at(fake.address).find(at_end_of_data(content, trace))
        assert fake.last.content == trace + content
        await scanner.at(fake.address).find(at_end_of_data(content))
        assert fake.last.content == content


@pytest.mark.parametrize("content", [b"Subject: small\r\n\r\n", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_daemon_is_an_error_that_names_it(
    scanner: Scanner, behaviour: Behaviour, content: bytes
) -> None:
    async with scanner.fake(behaviour) as fake:
        with pytest.raises(FilterError) as caught:
            await scanner.at(fake.address).find(at_end_of_data(content))
        assert str(caught.value).startswith(f"{fake.address}: ")
        assert fake.connections == 1
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


async def test_every_truncated_answer_is_an_error(scanner: Scanner) -> None:
    async with scanner.fake() as fake:
        for length in range(1, len(scanner.answer)):
            fake.behaviour = say_early(scanner.answer[:length], after=5)
            with pytest.raises(FilterError):
                await scanner.at(fake.address).find(at_end_of_data())


async def test_a_refused_connection_is_an_error(scanner: Scanner) -> None:
    with Nobody() as nobody, pytest.raises(FilterError, match=f"^{nobody.address}: connection refused$"):
        await scanner.at(nobody.address).find(at_end_of_data())


async def test_a_missing_socket_is_an_error(scanner: Scanner) -> None:
    with pytest.raises(FilterError, match=r"^unix:/does/not/exist: no such file or directory$"):
        await scanner.at("unix:/does/not/exist").find(at_end_of_data())


@pytest.mark.parametrize("behaviour", SILENT.values(), ids=SILENT.keys())
async def test_cancelling_closes_the_connection(scanner: Scanner, behaviour: Behaviour) -> None:
    async with scanner.fake(behaviour) as fake:
        scan = asyncio.create_task(scanner.at(fake.address).find(at_end_of_data(LARGE * 20)))
        await fake.wait_for_connections(1)
        scan.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scan
        if behaviour is deaf:
            fake.last.wait_until_left()
        assert await fake.last.has_left()


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
async def test_another_address_is_asked_once(scanner: Scanner, behaviour: Behaviour) -> None:
    async with scanner.fake(behaviour) as broken, scanner.fake() as sound:
        pool = scanner.at([broken.address, sound.address])
        for _ in range(3):
            assert await pool.find(at_end_of_data(LARGE)) == scanner.clean
        assert broken.connections == 1
        assert sound.connections == 3


async def test_an_address_that_takes_no_connection_is_passed_over(scanner: Scanner, monkeypatch) -> None:
    monkeypatch.setattr(backend, "CONNECT_TIMEOUT", 0.05)
    with BlackHole() as hole, Nobody() as nobody:
        async with scanner.fake() as sound:
            pool = scanner.at([hole.address, nobody.address, sound.address])
            assert await pool.find(at_end_of_data()) == scanner.clean


async def test_every_address_is_named_when_all_fail(scanner: Scanner) -> None:
    with Nobody() as nobody:
        async with scanner.fake(mute) as broken:
            with pytest.raises(FilterError) as caught:
                await scanner.at([nobody.address, broken.address]).find(at_end_of_data())
    first, second = str(caught.value).split("; ")
    assert first == f"{nobody.address}: connection refused"
    assert second.startswith(f"{broken.address}: closed ")


async def test_probing_a_sound_daemon_says_where_it_is(scanner: Scanner) -> None:
    async with scanner.fake() as fake:
        assert (await scanner.at(fake.address).probe()).startswith(f"{fake.address}: ")


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
async def test_probing_a_broken_daemon_is_an_error(scanner: Scanner, behaviour: Behaviour) -> None:
    async with scanner.fake(behaviour) as fake:
        with pytest.raises(FilterError, match=f"^{fake.address}: "):
            await scanner.at(fake.address).probe()


async def test_probing_where_nobody_is_is_an_error(scanner: Scanner) -> None:
    with Nobody() as nobody, pytest.raises(FilterError, match=f"^{nobody.address}: connection refused$"):
        await scanner.at(nobody.address).probe()


async def test_cancelling_a_probe_closes_the_connection(scanner: Scanner) -> None:
    async with scanner.fake(hang) as fake:
        probe = asyncio.create_task(scanner.at(fake.address).probe())
        await fake.wait_for_connections(1)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert await fake.last.has_left()
