"""Scanners and block lists that fail in every way, through the real adapters and the whole gateway."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import gateway.smtp.breaker
from filters.base import Filter
from filters.clamav import ClamAV
from filters.dnsbl import DNSBL
from filters.spamassassin import SpamAssassin
from filters.testing.server import (
    Behaviour,
    BlackHole,
    FakeServer,
    Nobody,
    close_after,
    deaf,
    drip,
    hang,
    mute,
    reset_after,
    say_early,
)
from gateway.pipeline import FilterSetting
from gateway.smtp.breaker import COSTLY, TOLERATED
from policies.blocklist import blocklist
from policies.policy import Policy
from policies.spam import spam
from policies.virus import virus
from tests.client import Answer, Client
from tests.fakes import clamd, spamd
from tests.fakes.clamd import EICAR, FakeClamd
from tests.fakes.mta import FakeMTA, Gate
from tests.fakes.nameserver import FakeNameserver, Mischief
from tests.fakes.spamd import FakeSpamd
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway
from tests.waiting import PATIENCE, eventually

U1 = "u1@our.example"
MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 6000
# For scanners that say nothing; all others have as long as they need.
SHORT = 0.3


@dataclass(frozen=True)
class Scanner:
    """An adapter, the policy that needs it, its fake daemon, and how that one behaves."""

    filter: type[Filter]
    policy: Policy
    fake: type[FakeServer]
    sound: Behaviour
    answer: bytes

    def setting(
        self, *addresses: str, unavailable: str = "tempfail", timeout: float = PATIENCE * 3
    ) -> FilterSetting:
        source = self.filter(address=list(addresses))  # type: ignore[call-arg]
        return FilterSetting(source, timeout=timeout, unavailable=unavailable)  # type: ignore[arg-type]


SCANNERS = {
    "clamd": Scanner(ClamAV, virus, FakeClamd, clamd.scan, b"stream: OK\0"),
    "spamd": Scanner(SpamAssassin, spam, FakeSpamd, spamd.judge, spamd.symbols(0.0, ["A"])),
}

FAST: dict[str, Behaviour] = {
    "mute": mute,
    "dies": close_after(100),
    "resets": reset_after(100),
    "garbage": say_early(bytes(range(256))),
}
SILENT: dict[str, Behaviour] = {"hangs": hang, "trickles": drip, "busy": deaf}


@pytest.fixture(params=SCANNERS)
def scanner(request: pytest.FixtureRequest) -> Scanner:
    return SCANNERS[request.param]


@pytest.fixture
async def daemon(scanner: Scanner) -> AsyncIterator[FakeServer]:
    gc.freeze()
    async with scanner.fake() as fake:
        yield fake
    # A forgotten socket warns when it is collected, and a warning fails the test.
    gc.collect()
    gc.unfreeze()


async def deliver(running: RunningGateway, content: bytes = MESSAGE) -> Answer:
    async with Client(running.port) as client:
        return await client.deliver(content, U1)


def cause(running: RunningGateway) -> str:
    """Why the scanner did not answer, by the latest record."""
    (found,) = (each for each in running.records[-1].evidence.values() if "unavailable" in each)
    return str(found["unavailable"])


# One daemon


@pytest.mark.parametrize("content", [MESSAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("behaviour", FAST.values(), ids=FAST)
async def test_a_scanner_that_fails_defers_the_message(
    start_gateway: GatewayStarter,
    mta: FakeMTA,
    scanner: Scanner,
    daemon: FakeServer,
    behaviour: Behaviour,
    content: bytes,
):
    daemon.behaviour = behaviour
    running = await start_gateway(policies=[scanner.policy], filters=[scanner.setting(daemon.address)])
    assert str(await deliver(running, content)).startswith("451 4.7.1 ")
    assert running.records[-1].reason == "evidence-unavailable"
    assert cause(running).startswith(f"{daemon.address}: ")
    assert not mta.messages

    daemon.behaviour = scanner.sound
    assert (await deliver(running, content)).code == 250


@pytest.mark.parametrize("content", [MESSAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("behaviour", SILENT.values(), ids=SILENT)
async def test_a_scanner_that_says_nothing_defers_the_message_in_time(
    start_gateway: GatewayStarter,
    mta: FakeMTA,
    scanner: Scanner,
    daemon: FakeServer,
    behaviour: Behaviour,
    content: bytes,
):
    daemon.behaviour = behaviour
    setting = scanner.setting(daemon.address, timeout=SHORT)
    running = await start_gateway(policies=[scanner.policy], filters=[setting])
    assert str(await deliver(running, content)).startswith("451 4.7.1 ")
    assert "no answer within 0." in cause(running)
    assert not mta.messages
    if behaviour is deaf:
        await asyncio.to_thread(daemon.last.wait_until_left)
    assert await daemon.last.has_left()


@pytest.mark.parametrize("behaviour", [mute, hang, deaf])
async def test_a_scanner_that_fails_may_be_declared_harmless(
    start_gateway: GatewayStarter, mta: FakeMTA, scanner: Scanner, daemon: FakeServer, behaviour: Behaviour
):
    daemon.behaviour = behaviour
    setting = scanner.setting(daemon.address, unavailable="accept", timeout=SHORT)
    running = await start_gateway(policies=[scanner.policy], filters=[setting])
    assert (await deliver(running)).code == 250
    assert f"X-Sluicegate-Unscanned: {setting.filter.name}\r\n".encode() in mta.messages[0].content
    assert running.records[-1].reason == "evidence-unavailable"


async def test_half_an_answer_defers_the_message(
    start_gateway: GatewayStarter, scanner: Scanner, daemon: FakeServer
):
    daemon.behaviour = say_early(scanner.answer[:-1], after=5)
    running = await start_gateway(policies=[scanner.policy], filters=[scanner.setting(daemon.address)])
    assert (await deliver(running)).status == "4.7.1"


async def test_where_no_scanner_listens_the_message_is_deferred_until_one_does(
    start_gateway: GatewayStarter, mta: FakeMTA, scanner: Scanner, tmp_path: Path
):
    path = tmp_path / "socket"
    running = await start_gateway(policies=[scanner.policy], filters=[scanner.setting(f"unix:{path}")])
    for _ in range(TOLERATED * 3):
        assert (await deliver(running)).status == "4.7.1"
        assert cause(running) == f"unix:{path}: no such file or directory"
    for _ in range(2):
        async with scanner.fake(unix=str(path)):
            assert (await deliver(running, MESSAGE + str(path.stat().st_ino).encode() + b"\r\n")).code == 250
        assert (await deliver(running, b"Subject: new\r\n\r\n")).status == "4.7.1"
        assert cause(running) == f"unix:{path}: connection refused"
        path.unlink()


async def test_a_scanner_that_takes_no_connection_defers_the_message(
    start_gateway: GatewayStarter, scanner: Scanner
):
    with BlackHole() as hole:
        setting = scanner.setting(hole.address, timeout=SHORT)
        running = await start_gateway(policies=[scanner.policy], filters=[setting])
        assert (await deliver(running)).status == "4.7.1"
    assert "no answer within 0." in cause(running)


async def test_a_scanner_that_keeps_hanging_keeps_no_mail_waiting_and_is_used_again(
    start_gateway: GatewayStarter,
    mta: FakeMTA,
    scanner: Scanner,
    daemon: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(gateway.smtp.breaker, "FIRST_PAUSE", 3.0)
    daemon.behaviour = hang
    setting = scanner.setting(daemon.address, timeout=COSTLY * 1.5)
    running = await start_gateway(policies=[scanner.policy], filters=[setting])
    for _ in range(TOLERATED):
        assert (await deliver(running)).status == "4.7.1"
    for _ in range(3):
        assert (await deliver(running)).status == "4.7.1"
        assert " given up on for " in cause(running)
    assert daemon.connections == TOLERATED

    daemon.behaviour = scanner.sound
    async with asyncio.timeout(PATIENCE):
        while (await deliver(running)).code != 250:
            continue


@pytest.mark.parametrize("behaviour", FAST.values(), ids=FAST)
async def test_a_scanner_that_breaks_off_again_and_again_is_used_for_the_very_next_message(
    start_gateway: GatewayStarter, mta: FakeMTA, scanner: Scanner, daemon: FakeServer, behaviour: Behaviour
):
    daemon.behaviour = behaviour
    running = await start_gateway(policies=[scanner.policy], filters=[scanner.setting(daemon.address)])
    for _ in range(TOLERATED * 2):
        assert (await deliver(running)).status == "4.7.1"
    assert daemon.connections == TOLERATED * 2
    daemon.behaviour = scanner.sound
    assert (await deliver(running)).code == 250


# Several


@pytest.mark.parametrize("behaviour", [hang, deaf, drip, mute])
async def test_another_scanner_answers_for_the_one_that_fails(
    start_gateway: GatewayStarter, mta: FakeMTA, scanner: Scanner, daemon: FakeServer, behaviour: Behaviour
):
    async with scanner.fake(behaviour) as broken:
        setting = scanner.setting(broken.address, daemon.address, timeout=4.0)
        running = await start_gateway(policies=[scanner.policy], filters=[setting])
        for number in range(3):
            assert (await deliver(running, MESSAGE + b"%d\r\n" % number)).code == 250
        assert broken.connections == 1
    assert daemon.connections == 3


async def test_the_last_of_three_answers(
    start_gateway: GatewayStarter, mta: FakeMTA, scanner: Scanner, daemon
):
    with Nobody() as nobody:
        async with scanner.fake(hang) as broken:
            setting = scanner.setting(nobody.address, broken.address, daemon.address, timeout=4.0)
            running = await start_gateway(policies=[scanner.policy], filters=[setting])
            assert (await deliver(running)).code == 250


# Sizes and orders


async def test_clamds_own_limit_is_no_failure_and_not_silent(start_gateway: GatewayStarter, mta: FakeMTA):
    async with FakeClamd(clamd.limit_size(100_000)) as daemon:
        running = await start_gateway(policies=[virus], filters=[SCANNERS["clamd"].setting(daemon.address)])
        assert (await deliver(running, LARGE)).code == 250
    assert running.records[-1].reason == "scan-skipped"
    assert b"X-Sluicegate-Unscanned: clamav\r\n" in mta.messages[0].content


@pytest.mark.parametrize("late", ["clamd", "spamd"])
async def test_a_virus_is_refused_whichever_scanner_is_slow(
    start_gateway: GatewayStarter, mta: FakeMTA, late: str
):
    gate = Gate(clamd.scan if late == "clamd" else spamd.judge)
    async with FakeClamd() as first, FakeSpamd() as second:
        (first if late == "clamd" else second).behaviour = gate
        settings = [
            SCANNERS["clamd"].setting(first.address),
            SCANNERS["spamd"].setting(second.address),
        ]
        running = await start_gateway(policies=[spam, virus], filters=settings)
        async with Client(running.port) as client:
            await client.open(U1)
            await client.ask("DATA")
            client.say(EICAR + b"\r\n.\r\n")
            await eventually(gate.reached.is_set)
            gate.open()
            assert str(await client.reply()).startswith("550 5.7.1 Message refused: it contains malware")
    assert not mta.messages


# Clients that leave


@pytest.mark.parametrize("behaviour", [hang, drip, deaf])
async def test_a_client_that_leaves_closes_everything_that_was_opened_for_it(
    start_gateway: GatewayStarter, mta: FakeMTA, scanner: Scanner, daemon: FakeServer, behaviour: Behaviour
):
    daemon.behaviour = behaviour
    setting = scanner.setting(daemon.address, timeout=60.0)
    running = await start_gateway(policies=[scanner.policy], filters=[setting])
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(LARGE + b".\r\n")
        await daemon.wait_for_connections(1)
        client.reset()
        await running.no_client()
    if behaviour is deaf:
        await asyncio.to_thread(daemon.last.wait_until_left)
    assert await daemon.last.has_left()
    await eventually(lambda: mta.heard("RSET"))
    assert not mta.heard("DATA")
    assert [record.reason for record in running.records] == ["client-disconnected"]


# Block lists

NOT_LISTED = {Mischief.NO_DATA, Mischief.BARE_NXDOMAIN}
LISTED = "1.0.0.127.bl.example.net"


@pytest.mark.parametrize("answer", [each for each in Mischief if each not in NOT_LISTED])
@pytest.mark.parametrize(("unavailable", "expected"), [("accept", "250 2.1.5 "), ("tempfail", "451 4.7.1 ")])
async def test_a_list_that_does_not_answer_never_refuses_for_good(
    start_gateway: GatewayStarter, mta: FakeMTA, answer: Mischief, unavailable: str, expected: str
):
    async with FakeNameserver({LISTED: answer}) as server:
        source = DNSBL(zones={"bl.example.net": 5.0}, nameservers=[server.address], query_timeout=0.2)
        setting = FilterSetting(source, unavailable=unavailable)  # type: ignore[arg-type]
        running = await start_gateway(policies=[blocklist], filters=[setting])
        async with Client(running.port) as client:
            assert str((await client.open(U1))[0]).startswith(expected)
        await source.close()


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (["127.0.0.2"], "550 5.7.1 "),
        (["127.0.0.4"], "550 5.7.1 "),
        (["127.255.255.254"], "451 4.7.1 "),
        (["127.255.255.252"], "451 4.7.1 "),
        (["192.0.2.1"], "451 4.7.1 "),
        (["0.0.0.0"], "451 4.7.1 "),
        ([], "250 2.1.5 "),
    ],
)
async def test_only_a_listing_refuses(
    start_gateway: GatewayStarter, mta: FakeMTA, codes: list[str], expected: str
):
    async with FakeNameserver({LISTED: codes}) as server:
        source = DNSBL(zones={"bl.example.net": 5.0}, nameservers=[server.address], query_timeout=0.5)
        running = await start_gateway(policies=[blocklist], filters=[FilterSetting(source)])
        async with Client(running.port) as client:
            assert str((await client.open(U1))[0]).startswith(expected)
        await source.close()
