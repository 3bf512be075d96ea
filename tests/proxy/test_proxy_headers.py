"""The client behind a balancer: PROXY headers, and who is not believed."""

import asyncio
import ssl
import struct

import pytest

import gateway.proxy.front_door
from gateway.proxy.certificate import Certificate
from gateway.smtp.networks import Networks
from policies.blocklist import blocklist
from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import Lists
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
HERE = Networks(["127.0.0.1"])
STRANGER = "127.0.0.3"
REAL = "203.0.113.9"

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25\r\n"
V2_START = b"\r\n\r\n\0\r\nQUIT\n"
V2 = V2_START + b"\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 192, 0, 2, 1]) + struct.pack("!HH", 1234, 25)
V2_LOCAL = V2_START + b"\x20\x00\x00\x00"
XCLIENT = f"XCLIENT ADDR={REAL} PORT=1234 NAME=c.example"

each_version = pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])


async def announce(client: Client, header: bytes) -> None:
    """The header, and the banner that must come for it."""
    client.say(header)
    banner = await client.reply()
    assert banner.code == 220, banner


@each_version
async def test_the_client_in_the_header_is_the_client_everywhere(
    start_gateway: GatewayStarter, mta: FakeMTA, header: bytes
):
    lists = Lists(listed="nobody")
    gateway = await start_gateway(policies=[blocklist], filters=[lists], proxy_protocol=HERE)
    async with Client(gateway.port, greet=False) as client:
        await announce(client, header)
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert lists.asked == [REAL]
    (record,) = gateway.records
    assert (record.client.address, record.client.port) == (REAL, 1234)
    assert f"(unknown [{REAL}])".encode() in mta.messages[0].content
    assert f" ADDR={REAL} PORT=1234 " in mta.messages[0].xforward[0]


@each_version
async def test_a_listed_client_is_refused_behind_a_balancer(
    start_gateway: GatewayStarter, mta: FakeMTA, header: bytes
):
    gateway = await start_gateway(policies=[blocklist], filters=[Lists(REAL)], proxy_protocol=HERE)
    async with Client(gateway.port, greet=False) as client:
        await announce(client, header)
        assert (await client.open(U1))[0].code == 550
    assert (gateway.records[0].reason, gateway.records[0].client.address) == ("dns-blocklisted", REAL)


@each_version
async def test_a_header_comes_in_pieces_and_commands_may_follow_at_once(
    start_gateway: GatewayStarter, mta: FakeMTA, header: bytes
):
    gateway = await start_gateway(proxy_protocol=HERE)
    async with Client(gateway.port, greet=False) as client:
        for octet in header[:-1]:
            client.say(bytes([octet]))
            await asyncio.sleep(0)
        client.say(header[-1:] + b"EHLO c.example\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<x@y.example>\r\n")
        assert [(await client.reply()).code for _ in range(4)] == [220, 250, 250, 550]
    assert gateway.records[0].client.address == REAL


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2_LOCAL], ids=["UNKNOWN", "LOCAL"])
async def test_without_a_client_in_the_header_the_peer_is_it_and_is_not_trusted_for_that(
    start_gateway: GatewayStarter, mta: FakeMTA, header: bytes
):
    lists = Lists(listed="127.0.0.1")
    gateway = await start_gateway(policies=[blocklist], filters=[lists], proxy_protocol=HERE)
    async with Client(gateway.port, greet=False) as client:
        await announce(client, header)
        (answer,) = await client.open(U1)
        assert answer.code == 550
        assert (await client.ask(XCLIENT)).code == 550
    assert lists.asked == ["127.0.0.1"]
    assert {record.client.address for record in gateway.records} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO c.example\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PROXY TCP4 999.1.1.1 192.0.2.1 1234 25\r\n",
        b"PROXY TCP4 010.0.0.1 192.0.2.1 1234 25\r\n",
        b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25\n",
        b"PROXY " + b"x" * 102,
        V2_START + b"\x31\x11\x00\x0c" + bytes(12),
        V2_START + b"\x21\x11\xff\xff" + bytes(12),
        V2_START + b"\x21\x11\x00\x10" + bytes(12) + b"\x04\x00\x02\x00",
    ],
)
async def test_what_is_no_header_ends_it_without_a_word(
    start_gateway: GatewayStarter, mta: FakeMTA, octets: bytes
):
    gateway = await start_gateway(proxy_protocol=HERE)
    async with Client(gateway.port, greet=False) as client:
        client.say(octets)
        assert await client.is_closed()
    (record,) = gateway.records
    assert (record.verdict, record.stage, record.reason) == ("aborted", "connect", "proxy-header-missing")
    assert (record.client.address, record.reply) == ("127.0.0.1", None)
    assert record.detail.startswith("PROXY header: ")


async def test_silence_ends_it_without_a_word(start_gateway: GatewayStarter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gateway.proxy.front_door, "HEADER_TIMEOUT", 0.01)
    running = await start_gateway(proxy_protocol=HERE)
    async with Client(running.port, greet=False) as client:
        client.say(V1[:-1])
        assert await client.is_closed()
    assert [record.reason for record in running.records] == ["proxy-header-missing"]


async def test_a_peer_that_only_knocks_is_no_event(start_gateway: GatewayStarter):
    gateway = await start_gateway(proxy_protocol=HERE, limits=(1, 1))
    async with Client(gateway.port, greet=False):
        pass
    async with Client(gateway.port, greet=False) as client:
        client.say(V1[:5])
        client.half_close()
        assert await client.is_closed()
    # Only the second had begun; and both were counted out again.
    assert [record.reason for record in gateway.records] == ["proxy-header-missing"]
    async with Client(gateway.port, greet=False) as client:
        await announce(client, V1)


async def test_a_peer_that_is_not_listed_is_not_asked_and_its_header_refused(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(proxy_protocol=HERE)
    async with Client(gateway.port, source=STRANGER) as client:
        answer = await client.ask("PROXY TCP4 127.0.0.1 127.0.0.1 1 25")
        assert str(answer).startswith("550 5.7.0 ")
        assert await client.is_closed()
    (record,) = gateway.records
    assert (record.reason, record.verdict, record.stage) == ("identity-refused", "rejected", "connect")
    assert (record.client.address, record.reference) == (STRANGER, answer.reference)
    async with Client(gateway.port, source=STRANGER) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert gateway.records[1].client.address == STRANGER


async def test_a_second_header_is_no_command_and_changes_nothing(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(proxy_protocol=HERE)
    async with Client(gateway.port, greet=False) as client:
        await announce(client, V1)
        assert (await client.ask("PROXY TCP4 127.0.0.1 127.0.0.1 1 25")).code == 500
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert [record.client.address for record in gateway.records] == [REAL]


async def test_a_client_behind_a_trusted_balancer_is_not_itself_trusted(start_gateway: GatewayStarter):
    gateway = await start_gateway(proxy_protocol=HERE, xclient=HERE)
    async with Client(gateway.port, greet=False) as client:
        await announce(client, V1)
        assert "XCLIENT" not in (await client.ask("EHLO c.example")).text
        assert (await client.ask("XCLIENT ADDR=127.0.0.1")).code == 550


async def test_the_real_client_has_its_limit_and_the_balancer_has_none(start_gateway: GatewayStarter):
    gateway = await start_gateway(proxy_protocol=HERE, limits=(10, 1))
    another = V1.replace(b"203.0.113.9", b"203.0.113.10")
    async with Client(gateway.port, greet=False) as one, Client(gateway.port, greet=False) as other:
        await announce(one, V1)
        await announce(other, another)
        async with Client(gateway.port, greet=False) as third:
            third.say(V1)
            assert (await third.reply()).code == 421
    assert [(record.reason, record.client.address) for record in gateway.records] == [("overloaded", REAL)]
    await gateway.no_client()
    async with Client(gateway.port, greet=False) as again:
        await announce(again, V1)


async def test_headers_that_are_not_complete_count_in_all(start_gateway: GatewayStarter):
    gateway = await start_gateway(proxy_protocol=HERE, limits=(2, 1))
    async with Client(gateway.port, greet=False) as one, Client(gateway.port, greet=False) as other:
        one.say(V1[:10])
        other.say(V1[:10])
        await eventually(lambda: len(gateway.server._waiting) == 2)
        async with Client(gateway.port) as third:
            assert third.banner is not None
            assert third.banner.status == "4.3.2"
        one.say(V1[10:])
        assert (await one.reply()).code == 220


async def test_a_shutdown_does_not_wait_for_headers(start_gateway: GatewayStarter):
    gateway = await start_gateway(proxy_protocol=HERE)
    async with Client(gateway.port, greet=False) as client:
        client.say(V1[:10])
        await eventually(lambda: len(gateway.server._waiting) == 1)
        await gateway.server.drain(0.1)
        assert await client.is_closed()
    assert not gateway.records


# TLS


async def test_the_client_stays_the_client_after_starttls(
    start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate, trust: ssl.SSLContext
):
    gateway = await start_gateway(proxy_protocol=HERE, certificate=certificate)
    async with Client(gateway.port, greet=False) as client:
        await announce(client, V2)
        await client.ask("EHLO c.example")
        assert (await client.ask("STARTTLS")).code == 220
        await client.start_tls(trust)
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert gateway.records[0].client.address == REAL
    assert gateway.records[0].client.tls is not None


@each_version
@pytest.mark.parametrize("is_one_segment", [True, False])
async def test_a_header_goes_before_the_handshake_where_tls_begins_at_once(
    start_gateway: GatewayStarter,
    mta: FakeMTA,
    certificate: Certificate,
    trust: ssl.SSLContext,
    header: bytes,
    is_one_segment: bool,
):
    gateway = await start_gateway(proxy_protocol=HERE, certificate=certificate, tls_implicit=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)

    async def until(step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await asyncio.wait_for(reader.read(65_536), 10))

    if is_one_segment:
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(header + outgoing.read())
    else:
        writer.write(header)
        await eventually(lambda: not gateway.server._waiting)
    await until(tls.do_handshake)
    assert (await until(lambda: tls.read(100))).startswith(b"220 ")
    tls.write(b"EHLO c.example\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<x@y.example>\r\n")
    while b"550 5.7.1 " not in await until(lambda: tls.read(1000)):
        pass
    assert (gateway.records[0].client.address, gateway.records[0].client.port) == (REAL, 1234)
    assert gateway.records[0].client.tls is not None
    writer.close()
    await writer.wait_closed()


async def test_where_tls_begins_at_once_nobody_else_is_let_in(
    start_gateway: GatewayStarter, certificate: Certificate
):
    gateway = await start_gateway(proxy_protocol=HERE, certificate=certificate, tls_implicit=True)
    async with Client(gateway.port, source=STRANGER, greet=False) as client:
        assert await client.is_closed()
    assert [(r.reason, r.client.address) for r in gateway.records] == [("proxy-header-missing", STRANGER)]


async def test_a_header_without_a_handshake_is_no_session(
    start_gateway: GatewayStarter, certificate: Certificate
):
    gateway = await start_gateway(
        proxy_protocol=HERE, certificate=certificate, tls_implicit=True, limits=(1, 1)
    )
    async with Client(gateway.port, greet=False) as client:
        client.say(V1 + b"EHLO c.example\r\n")
        assert b"220 " not in await client.rest()
    await gateway.no_client()
    assert not gateway.records


async def test_one_connection_too_many_is_told_so_without_a_handshake(
    start_gateway: GatewayStarter, certificate: Certificate
):
    gateway = await start_gateway(
        proxy_protocol=HERE, certificate=certificate, tls_implicit=True, limits=(1, 1)
    )
    async with Client(gateway.port, greet=False) as first:
        first.say(V1[:10])
        await eventually(lambda: len(gateway.server._waiting) == 1)
        async with Client(gateway.port) as second:
            assert second.banner is not None
            assert second.banner.code == 421
    assert [record.reason for record in gateway.records][:1] == ["overloaded"]
