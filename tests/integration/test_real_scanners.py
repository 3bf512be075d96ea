"""The scanning filters against the daemons they were written for."""

import asyncio
import base64
import gc

import pytest

from deploy.demo.daemons import EICAR, EICAR_SIGNATURE, Clamd, Spamd
from filters.base import FilterError, TooLarge
from filters.clamav import ClamAV
from filters.evidence import SpamReport, VirusReport
from filters.spamassassin import SpamAssassin
from filters.testing.transactions import at_end_of_data
from tests.fakes.spamd import GTUBE

TRACE = (
    b"Received: from mail.example.net (unknown [192.0.2.1])\r\n"
    b"\tby mx.example.org; Mon, 23 Nov 2026 12:00:00 +0000\r\n"
)
HEADER = (
    b"From: a@example.net\r\nTo: b@example.org\r\nSubject: Minutes\r\nMIME-Version: 1.0\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n"
)
PLAIN = HEADER + b"\r\nThe minutes of yesterday's meeting are on the server.\r\n"
INFECTED = (
    HEADER
    + b"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(EICAR).replace(b"\n", b"\r\n")
)
# clamd says of every signature that is not its maker's that it is not.
FOUND = VirusReport(f"{EICAR_SIGNATURE}.UNOFFICIAL")
MEBIBYTE = 1_048_576


@pytest.fixture(autouse=True)
def leaks_are_noticed():
    yield
    gc.collect()


@pytest.fixture(params=["tcp", "unix"])
def clamav(request: pytest.FixtureRequest, clamd: Clamd) -> ClamAV:
    return ClamAV(address=clamd.address if request.param == "tcp" else clamd.unix_address)


@pytest.fixture(params=["tcp", "unix"])
def spamassassin(request: pytest.FixtureRequest, spamd: Spamd) -> SpamAssassin:
    return SpamAssassin(address=spamd.address if request.param == "tcp" else spamd.unix_address)


async def test_clamd_finds_what_it_knows(clamav: ClamAV) -> None:
    assert await clamav.find(at_end_of_data(INFECTED, TRACE)) == FOUND


@pytest.mark.parametrize("content", [PLAIN, b"", b"\r\n", HEADER], ids=["plain", "empty", "blank", "header"])
async def test_clamd_passes_the_rest(clamav: ClamAV, content: bytes) -> None:
    assert await clamav.find(at_end_of_data(content, TRACE)) == VirusReport()


async def test_clamd_is_sent_all_of_a_large_message(clamav: ClamAV) -> None:
    padding = b"X-Padding: " + b"x" * 900 + b"\r\n"
    content = HEADER + b"\r\n" + padding * (10 * MEBIBYTE // len(padding))
    assert await clamav.find(at_end_of_data(content, TRACE)) == VirusReport()
    assert await clamav.find(at_end_of_data(content + EICAR, TRACE)) == FOUND


async def test_many_scans_at_once_are_kept_apart(clamav: ClamAV) -> None:
    contents = [PLAIN, INFECTED] * 10
    reports = await asyncio.gather(*(clamav.find(at_end_of_data(content)) for content in contents))
    assert reports == [VirusReport(), FOUND] * 10


async def test_clamds_own_limit_is_too_large(clamd: Clamd) -> None:
    clamav = ClamAV(address=clamd.address, max_size=1_000 * MEBIBYTE)
    with pytest.raises(TooLarge, match="StreamMaxLength"):
        await clamav.find(at_end_of_data(bytes(101 * MEBIBYTE)))


async def test_clamd_tells_its_version(clamav: ClamAV) -> None:
    assert ": ClamAV 1." in await clamav.probe()


async def test_a_clamd_that_died_is_an_error_and_one_that_is_back_is_not() -> None:
    with Clamd() as clamd:
        clamav = ClamAV(address=clamd.address)
        assert await clamav.find(at_end_of_data(PLAIN)) == VirusReport()
        clamd.kill()
        with pytest.raises(FilterError, match="connection refused"):
            await clamav.find(at_end_of_data(PLAIN))
        clamd.start()
        assert await clamav.find(at_end_of_data(INFECTED)) == FOUND


async def test_spamd_knows_spam(spamassassin: SpamAssassin) -> None:
    report = await spamassassin.find(at_end_of_data(PLAIN + GTUBE + b"\r\n", TRACE))
    assert report.score >= 1000.0
    assert report.threshold == 5.0
    assert "GTUBE" in report.rules


async def test_spamd_lets_ham_pass(spamassassin: SpamAssassin) -> None:
    report = await spamassassin.find(at_end_of_data(PLAIN, TRACE))
    assert report.score < report.threshold


@pytest.mark.parametrize(
    "content",
    [b"", b"\r\n", b"no header", HEADER, bytes(range(256))],
    ids=["empty", "blank", "text", "header", "octets"],
)
async def test_spamd_has_an_opinion_about_anything(spamassassin: SpamAssassin, content: bytes) -> None:
    assert isinstance(await spamassassin.find(at_end_of_data(content, TRACE)), SpamReport)
    assert isinstance(await spamassassin.find(at_end_of_data(content)), SpamReport)


async def test_spamd_learns_the_clients_address_from_our_field(spamassassin: SpamAssassin) -> None:
    assert "NO_RECEIVED" in (await spamassassin.find(at_end_of_data(PLAIN))).rules
    assert "NO_RECEIVED" not in (await spamassassin.find(at_end_of_data(PLAIN, TRACE))).rules


async def test_spamd_answers_a_ping(spamassassin: SpamAssassin) -> None:
    assert (await spamassassin.probe()).endswith(": PONG")


async def test_a_user_that_spamd_does_not_know_does_no_harm(spamd: Spamd) -> None:
    spamassassin = SpamAssassin(address=spamd.address, user="jo.doe@example.org")
    assert isinstance(await spamassassin.find(at_end_of_data(PLAIN, TRACE)), SpamReport)
