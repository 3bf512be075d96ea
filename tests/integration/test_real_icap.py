"""The ICAP filter against c-icap with virus_scan and clamd."""

import asyncio
import gc

import pytest

from deploy.demo.c_icap import CICAP
from deploy.demo.client import Client
from deploy.demo.daemons import EICAR, Clamd
from deploy.demo.fate import is_whole
from deploy.demo.gateway_process import icap as section
from deploy.demo.messages import clean, dots_and_octets, eicar_attached, eicar_zipped
from deploy.demo.postfix import Postfix
from filters.base import FilterError, TooLarge
from filters.evidence import VirusReport
from filters.icap import ICAP
from filters.testing import at_end_of_data
from tests.integration.test_real_scanners import FOUND, HEADER, INFECTED, MEBIBYTE, PLAIN, TRACE

LARGE = HEADER + b"\r\n" + (b"x" * 900 + b"\r\n") * (10 * MEBIBYTE // 902)
EIGHT_BIT = HEADER + b"\r\n" + bytes(range(128, 256)) * 100
# A type of file that the package's virus_scan is not told to look at.
PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 3000


@pytest.fixture(autouse=True)
def leaks_are_noticed():
    yield
    gc.collect()


@pytest.fixture(params=["RESPMOD", "REQMOD"])
def icap(request: pytest.FixtureRequest, c_icap: CICAP) -> ICAP:
    return ICAP(address=c_icap.address, service="scan_all", method=request.param)


@pytest.mark.parametrize("content", [INFECTED, EICAR, LARGE + EICAR, PICTURE + EICAR], ids=len)
async def test_a_virus_is_found(icap: ICAP, content: bytes) -> None:
    assert await icap.find(at_end_of_data(content, TRACE)) == FOUND
    assert await icap.find(at_end_of_data(content)) == FOUND


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"x",
        PLAIN,
        HEADER,
        bytes(range(256)),
        LARGE,
        HEADER + b"\r\n" + bytes(range(128, 256)) * 100,
    ],
    ids=["empty", "blank", "one", "plain", "header", "octets", "large", "8-bit"],
)
async def test_the_rest_passes(icap: ICAP, content: bytes) -> None:
    assert await icap.find(at_end_of_data(content, TRACE)) == VirusReport()
    assert await icap.find(at_end_of_data(content)) == VirusReport()


async def test_arguments_of_the_service_are_passed(c_icap: CICAP) -> None:
    service = "virus_scan?allow204=on&force=on&sizelimit=off&mode=simple"
    icap = ICAP(address=c_icap.address, service=service)
    assert await icap.find(at_end_of_data(PICTURE + EICAR)) == FOUND
    assert await icap.find(at_end_of_data(PICTURE)) == VirusReport()


async def test_a_type_that_is_not_looked_at_is_not_clean(c_icap: CICAP) -> None:
    icap = ICAP(address=c_icap.address, service="avscan")
    with pytest.raises(TooLarge, match="would not look at the message"):
        await icap.find(at_end_of_data(PICTURE + EICAR))


@pytest.mark.parametrize("content", [LARGE, LARGE + EICAR], ids=["clean", "infected"])
async def test_a_message_above_the_services_limit_is_not_clean(c_icap: CICAP, content: bytes) -> None:
    icap = ICAP(address=c_icap.address, service="virus_scan")
    assert await icap.find(at_end_of_data(INFECTED)) == FOUND
    with pytest.raises(FilterError, match="no word of a virus"):
        await icap.find(at_end_of_data(content))


async def test_many_scans_at_once_are_kept_apart(icap: ICAP) -> None:
    reports = await asyncio.gather(*(icap.find(at_end_of_data(each)) for each in [PLAIN, INFECTED] * 10))
    assert reports == [VirusReport(), FOUND] * 10


async def test_a_service_that_is_not_there_is_an_error(c_icap: CICAP) -> None:
    icap = ICAP(address=c_icap.address, service="nothing")
    with pytest.raises(FilterError, match="answered 404 Service not found to OPTIONS"):
        await icap.find(at_end_of_data(PLAIN))
    with pytest.raises(FilterError, match="answered 404 Service not found to OPTIONS"):
        await icap.probe()


async def test_it_tells_what_it_is(icap: ICAP) -> None:
    assert "Antivirus service, ISTag" in await icap.probe()


async def test_a_scanner_that_is_gone_is_an_error() -> None:
    with Clamd() as clamd, CICAP(clamd) as daemon:
        icap = ICAP(address=daemon.address, service="scan_all")
        assert await icap.find(at_end_of_data(PLAIN)) == VirusReport()
        clamd.kill()
        with pytest.raises(FilterError):
            await icap.find(at_end_of_data(PLAIN))
        clamd.start()
        assert await icap.find(at_end_of_data(INFECTED)) == FOUND
        daemon.kill()
        with pytest.raises(FilterError, match="connection refused"):
            await icap.find(at_end_of_data(PLAIN))


def test_it_does_clamds_work_in_the_gateway(start_gateway, c_icap: CICAP, postfix: Postfix) -> None:
    gateway = start_gateway(filters=[section(c_icap.address, "scan_all")], order=["recipients", "virus"])
    contents = [clean(), eicar_attached(), dots_and_octets(), eicar_zipped()]
    with Client(gateway.port) as client:
        replies = [client.send(content, ["b@example.com"])[-1] for content in contents]

    assert [reply.code for reply in replies] == [250, 550, 250, 550]
    assert is_whole(postfix.message(replies[0].queue_id or ""), contents[0])
    assert is_whole(postfix.message(replies[2].queue_id or ""), contents[2])
    assert gateway.record(replies[1].reference or "")["reason"] == "virus-found"
