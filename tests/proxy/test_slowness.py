"""Clients that are not silent but slow, and clients that do not read."""

import asyncio
import socket

import pytest

import gateway.proxy.stream
from gateway.proxy.budget import MAX_IDLE_COMMANDS
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"


async def drip(client: Client, octets: bytes) -> str:
    """Say this again and again until there is a reply; that."""
    reply = asyncio.create_task(client.reply())
    await eventually(lambda: client.say(octets) or reply.done())
    return str(await reply)


@pytest.mark.parametrize("octets", [b"x", b"x" * 1000], ids=["an octet at a time", "a line without end"])
async def test_a_command_has_one_timeout_however_it_trickles(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch, octets: bytes
):
    monkeypatch.setattr(gateway.proxy.stream, "COMMAND_TIMEOUT", 0.3)
    running = await start_gateway()
    async with Client(running.port) as client:
        assert (await drip(client, octets)).startswith("421 4.4.2 ")
    await running.no_client()
    assert not running.records


async def test_each_command_has_its_own_timeout(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "COMMAND_TIMEOUT", 1.0)
    running = await start_gateway()
    async with Client(running.port) as client:
        until = asyncio.get_running_loop().time() + 2.0
        while asyncio.get_running_loop().time() < until:
            assert (await client.open(U1))[0].code == 250
            assert (await client.data(MESSAGE)).code == 250


async def test_content_that_trickles_is_not_waited_for(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "CONTENT_ALLOWANCE", 0.3)
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(b"Subject: x\r\n\r\n")
        assert (await drip(client, b"x")).startswith("421 4.4.2 ")
    await running.no_client()
    assert [(r.verdict, r.reason) for r in running.records] == [("aborted", "client-timeout")]
    assert not mta.messages


async def test_content_may_take_as_long_as_it_comes_fast_enough(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "CONTENT_ALLOWANCE", 0.5)
    monkeypatch.setattr(gateway.proxy.stream, "MIN_CONTENT_RATE", 1)
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(MESSAGE)
        long_enough = asyncio.get_running_loop().time() + 1.0
        await eventually(lambda: client.say(b"x\r\n") or asyncio.get_running_loop().time() > long_enough)
        client.say(b".\r\n")
        assert (await client.reply()).code == 250


async def test_last_words_that_are_not_read_hold_nothing(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "CLOSE_TIMEOUT", 0.1)
    running = await start_gateway()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(("127.0.0.1", running.port))
        (connection,) = await eventually(lambda: running.server._connections)
        transport = await eventually(lambda: connection.transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        client.sendall(b"EHLO c.example\r\n" * MAX_IDLE_COMMANDS)
        await eventually(transport.is_closing)
        assert transport.get_write_buffer_size() > 0
        await eventually(lambda: not running.server._connections)
