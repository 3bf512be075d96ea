"""Content that finds no room: before it comes, and in the middle of it."""

from contextlib import AsyncExitStack
from pathlib import Path

from gateway.spool import Store
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
LARGE = b"Subject: x\r\n\r\n" + b"x" * 300_000 + b"\r\n"
U1 = "u1@our.example"


async def test_a_disk_that_fails_defers_the_message(
    start_gateway: GatewayStarter, mta: FakeMTA, tmp_path: Path
):
    directory = tmp_path / "content"
    directory.mkdir()
    gateway = await start_gateway(store=Store(directory))
    async with Client(gateway.port) as client:
        await client.open(U1)
        assert (await client.ask("DATA")).code == 354
        directory.rmdir()
        await client.send(LARGE + b".\r\n")
        assert str(await client.reply()).startswith("452 4.3.1 ")
        directory.mkdir()
        assert (await client.again(U1))[0].code == 250
        assert (await client.data(MESSAGE)).code == 250
    (refused, _) = gateway.records
    assert (refused.verdict, refused.reason) == ("tempfailed", "storage-failed")
    assert "No such file or directory" in refused.detail


async def test_content_without_room_is_refused_before_it_comes(
    start_gateway: GatewayStarter, mta: FakeMTA, tmp_path: Path
):
    store = Store(tmp_path, octets=100_000)
    gateway = await start_gateway(store=store)
    async with Client(gateway.port) as large, Client(gateway.port) as small:
        await large.open(U1)
        await large.ask("DATA")
        await large.send(b"Subject: x\r\n\r\n" + b"x" * 99_986)
        await eventually(lambda: store.in_all == 100_000)
        await small.open(U1)
        refused = await small.ask("DATA")
        assert (refused.code, refused.status) == (452, "4.3.1")
        record = await gateway.record()
        assert (record.verdict, record.stage, record.reason) == ("tempfailed", "end-of-data", "overloaded")
        assert record.recipients == [U1]
        assert "100000 octets" in record.detail
        assert record.reference == refused.reference
        assert (await small.ask("RCPT TO:<u2@our.example>")).code == 503
        large.close()
        await eventually(lambda: store.in_all == 0)
        assert (await small.again(U1))[0].code == 250
        assert (await small.data(MESSAGE)).code == 250


async def test_content_that_outgrows_the_room_is_for_later(
    start_gateway: GatewayStarter, mta: FakeMTA, tmp_path: Path
):
    store = Store(tmp_path, octets=100_000)
    gateway = await start_gateway(store=store)
    async with Client(gateway.port) as client:
        reply = await client.deliver(LARGE, U1)
        assert (reply.code, reply.status) == (452, "4.3.1")
        assert (await client.again(U1))[0].code == 250
        assert (await client.data(MESSAGE)).code == 250
    (refused, _) = gateway.records
    assert (refused.verdict, refused.reason) == ("tempfailed", "storage-failed")
    assert store.in_all == 0


async def test_many_large_messages_at_once_stay_within_the_room(
    start_gateway: GatewayStarter, mta: FakeMTA, tmp_path: Path
):
    store = Store(tmp_path, octets=1_000_000, memory=200_000)
    gateway = await start_gateway(store=store)
    clients = [Client(gateway.port) for _ in range(10)]
    async with AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client)
            await client.open(U1)
            await client.ask("DATA")
        for client in clients:
            await client.send(LARGE)
            assert store.in_all <= 1_000_000
        for client in clients:
            client.say(b".\r\n")
        codes = [(await client.reply()).code for client in clients]
    assert set(codes) == {250, 452}
    assert len(mta.messages) == codes.count(250)
    assert (store.in_all, store.in_memory) == (0, 0)


async def test_an_almost_full_disk_takes_no_content(
    start_gateway: GatewayStarter, mta: FakeMTA, tmp_path: Path
):
    gateway = await start_gateway(store=Store(tmp_path, kept_free=1 << 60))
    async with Client(gateway.port) as client:
        await client.open(U1)
        assert (await client.ask("DATA")).status == "4.3.1"
    assert "left free" in (await gateway.record()).detail
