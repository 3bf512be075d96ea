"""The same content over again: scanned once, through the whole gateway and the real adapters."""

from collections.abc import AsyncIterator, Sequence

import pytest

from filters.clamav import ClamAV
from filters.spamassassin import SpamAssassin
from filters.testing.server import hang, mute
from gateway.pipeline import FilterSetting
from policies.spam import spam
from policies.virus import virus
from tests.client import Client
from tests.fakes import clamd, spamd
from tests.fakes.clamd import EICAR, FakeClamd
from tests.fakes.mta import FakeMTA, Gate
from tests.fakes.spamd import FakeSpamd
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway
from tests.waiting import PATIENCE, eventually

U1, U2 = "u1@our.example", "u2@our.example"
MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
# More than all buffers between the gateway and a daemon that does not read yet can hold.
LARGE = MESSAGE + (b"x" * 76 + b"\r\n") * 150_000


@pytest.fixture
async def daemon() -> AsyncIterator[FakeClamd]:
    async with FakeClamd() as fake:
        yield fake


async def start(start_gateway: GatewayStarter, daemon: FakeClamd) -> RunningGateway:
    setting = FilterSetting(ClamAV(address=daemon.address), timeout=PATIENCE * 6)
    return await start_gateway(policies=[virus], filters=[setting])


async def send(client: Client, content: bytes) -> None:
    """Everything up to the final dot."""
    await client.open(U1)
    await client.ask("DATA")
    await client.send(content + b".\r\n")


def sources(running: RunningGateway, kind: str = "VirusReport") -> Sequence[str]:
    """Where each record's evidence came from."""
    found = [record.evidence[kind] for record in running.records if kind in record.evidence]
    return ["joined" if each.get("joined") else "kept" if "age" in each else "asked" for each in found]


@pytest.mark.parametrize(("content", "code"), [(MESSAGE, 250), (LARGE, 250), (EICAR + b"\r\n", 550)])
async def test_two_who_send_the_same_share_one_scan(
    start_gateway: GatewayStarter, mta: FakeMTA, daemon: FakeClamd, content: bytes, code: int
):
    gate = Gate(clamd.scan)
    daemon.behaviour = gate
    running = await start(start_gateway, daemon)
    async with Client(running.port) as first, Client(running.port) as second:
        await send(first, content)
        await send(second, content)
        await eventually(gate.reached.is_set)
        gate.open()
        assert [(await client.reply()).code for client in (first, second)] == [code, code]
    assert daemon.connections == 1
    assert sorted(sources(running)) in (["asked", "joined"], ["asked", "kept"])


@pytest.mark.parametrize("content", [MESSAGE, LARGE], ids=["small", "large"])
async def test_a_client_that_leaves_does_not_disturb_the_one_that_comes_again(
    start_gateway: GatewayStarter, mta: FakeMTA, daemon: FakeClamd, content: bytes
):
    gate = Gate(clamd.scan)
    daemon.behaviour = gate
    running = await start(start_gateway, daemon)
    async with Client(running.port) as hasty, Client(running.port) as again:
        await send(hasty, content)
        await eventually(gate.reached.is_set)
        await send(again, content)
        await eventually(lambda: len(running.server._connections) == 2)
        await joined(running)
        hasty.reset()
        await running.record()
        gate.open()
        assert (await again.reply()).code == 250
    assert daemon.connections == 1
    assert daemon.last.content.endswith(content)
    assert [record.reason for record in running.records] == ["client-disconnected", "accepted"]


async def joined(running: RunningGateway) -> None:
    """Wait until two wait for one scan."""
    under_way = running.service.pipeline._joiner._under_way
    await eventually(lambda: [question.waiting for question in under_way.values()] == [2])


async def test_when_all_have_left_the_scan_ends(
    start_gateway: GatewayStarter, mta: FakeMTA, daemon: FakeClamd
):
    daemon.behaviour = hang
    running = await start(start_gateway, daemon)
    async with Client(running.port) as first, Client(running.port) as second:
        await send(first, MESSAGE)
        await send(second, MESSAGE)
        await joined(running)
        first.reset()
        await running.record()
        assert not daemon.last.left.is_set()
        second.reset()
        assert await daemon.last.has_left()
    await running.no_client()
    assert daemon.connections == 1


async def test_who_comes_again_soon_is_answered_by_what_was_found(
    start_gateway: GatewayStarter, mta: FakeMTA, daemon: FakeClamd
):
    running = await start(start_gateway, daemon)
    for content in (MESSAGE, MESSAGE, LARGE):
        async with Client(running.port) as client:
            assert (await client.deliver(content, U1)).code == 250
    assert daemon.connections == 2
    assert sources(running) == ["asked", "kept", "asked"]
    assert running.records[1].evidence["VirusReport"]["age"] >= 0


async def test_a_failure_is_not_what_was_found(
    start_gateway: GatewayStarter, mta: FakeMTA, daemon: FakeClamd
):
    daemon.behaviour = mute
    running = await start(start_gateway, daemon)
    for code in (451, 250):
        async with Client(running.port) as client:
            assert (await client.deliver(MESSAGE, U1)).code == code
        daemon.behaviour = clamd.scan


async def test_spamd_is_asked_anew_for_everything_it_is_told(start_gateway: GatewayStarter, mta: FakeMTA):
    async with FakeSpamd(spamd.verdict(1.0)) as daemon:
        setting = FilterSetting(SpamAssassin(address=daemon.address))
        running = await start_gateway(policies=[spam], filters=[setting])
        for source, helo, sender, recipient, expected in (
            ("127.0.0.1", "EHLO c.example", "s@a.example", U1, "asked"),
            ("127.0.0.1", "EHLO c.example", "s@a.example", U1, "kept"),
            ("127.0.0.2", "EHLO c.example", "s@a.example", U1, "asked"),
            ("127.0.0.1", "EHLO d.example", "s@a.example", U1, "asked"),
            ("127.0.0.1", "HELO c.example", "s@a.example", U1, "asked"),
            ("127.0.0.1", "EHLO c.example", "t@a.example", U1, "asked"),
            ("127.0.0.1", "EHLO c.example", "s@a.example", U2, "asked"),
            ("127.0.0.1", "EHLO c.example", "s@a.example", U2, "kept"),
        ):
            async with Client(running.port, source=source) as client:
                await client.open(recipient, sender=sender, helo=helo)
                assert (await client.data(MESSAGE)).code == 250
            assert sources(running, "SpamReport")[-1] == expected
        assert daemon.connections == 6
