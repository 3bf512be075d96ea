"""Who the client is, where a peer says so: PROXY headers, XCLIENT, XFORWARD, and who is not believed."""

import asyncio
import ssl
import struct
from dataclasses import replace

import pytest

import gateway.proxy.front_door
from filters.evidence import Listings
from gateway.proxy.certificate import Certificate
from gateway.smtp.networks import parse_networks
from policies import Stage, policy, reject
from policies.blocklist import blocklist
from tests.client import Client
from tests.fakes.mta import FakeMTA, say
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import ScriptedFilter, destination
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
HERE = parse_networks(["127.0.0.1"])
STRANGER = "127.0.0.3"
REAL = "203.0.113.9"

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25\r\n"
V2_START = b"\r\n\r\n\0\r\nQUIT\n"
V2 = V2_START + b"\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 192, 0, 2, 1]) + struct.pack("!HH", 1234, 25)
V2_LOCAL = V2_START + b"\x20\x00\x00\x00"
XCLIENT = f"XCLIENT ADDR={REAL} PORT=1234 NAME=c.example"
XFORWARD = f"XFORWARD NAME=c.example ADDR={REAL} PORT=1234 PROTO=ESMTP HELO=helo.example SOURCE=REMOTE"

each_version = pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])


class Lists(ScriptedFilter):
    """Lists one address, and remembers who was asked about."""

    name = "lists"
    finds = Listings
    stage = Stage.CONNECT

    def __init__(self, listed: str = REAL) -> None:
        super().__init__(self._look_up)
        self.asked: list[str] = []
        self._listed = listed

    async def _look_up(self, tx) -> Listings:
        self.asked.append(str(tx.session.client_address))
        is_listed = self.asked[-1] == self._listed
        return Listings(5.0, {"bl.example": ("127.0.0.2",)}) if is_listed else Listings(0.0, {})


@policy(at=Stage.HELO)
def no_liars(tx, evidence):
    """Refuse one name."""
    return reject("lying-helo") if tx.session.helo_name == "liar.example" else None


async def announce(client: Client, header: bytes) -> None:
    """The header, and the banner that must come for it."""
    client.say(header)
    banner = await client.reply()
    assert banner.code == 220, banner


# PROXY headers


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
    gateway = await start_gateway(policies=[blocklist], filters=[Lists()], proxy_protocol=HERE)
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


# PROXY headers and TLS


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


# XCLIENT


async def test_xclient_makes_the_peer_another_client(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XCLIENT + " LOGIN=anna HELO=ignored.example")).code == 220
        assert (await client.ask("MAIL FROM:<s@a.example>")).code == 503
        assert (await client.deliver(MESSAGE, U1)).code == 250
    (record,) = gateway.records
    assert (record.client.address, record.client.port, record.client.name) == (REAL, 1234, "c.example")
    assert (record.client.helo, record.client.authenticated) == ("c.example", "anna")
    assert f"from c.example (c.example [{REAL}])".encode() in mta.messages[0].content
    assert b"with ESMTPA id" in mta.messages[0].content
    assert f"NAME=c.example ADDR={REAL} PORT=1234 " in mta.messages[0].xforward[0]


async def test_each_client_is_judged_from_the_beginning(start_gateway: GatewayStarter, mta: FakeMTA):
    lists = Lists()
    gateway = await start_gateway(policies=[blocklist], filters=[lists], xclient=HERE)
    async with Client(gateway.port) as client:
        assert (await client.open(U1))[0].code == 250
        await client.ask("RSET")
        assert (await client.ask(XCLIENT)).code == 220
        assert (await client.open(U1))[0].code == 550
        await client.ask("RSET")
        assert (await client.ask("XCLIENT ADDR=IPV6:2001:db8::9")).code == 220
        assert (await client.open(U1))[0].code == 250
        assert (await client.data(MESSAGE)).code == 250
    assert lists.asked == ["127.0.0.1", REAL, "2001:db8::9"]
    assert gateway.records[-1].client.name is None
    assert b"(unknown [IPv6:2001:db8::9])" in mta.messages[0].content


async def test_a_refusal_that_is_spoken_at_once_is_the_reply_to_xclient(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(policies=[blocklist], filters=[Lists()], xclient=HERE, speak="connect")
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XCLIENT)).code == 554
        assert (await client.ask("EHLO c.example")).code == 550
        assert (await client.ask("XCLIENT ADDR=203.0.113.10")).code == 220
        assert (await client.open(U1))[0].code == 250


async def test_a_login_belongs_to_one_client(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask(XCLIENT + " LOGIN=anna")
        await client.ask("XCLIENT ADDR=203.0.113.10")
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert gateway.records[0].client.authenticated is None
    assert gateway.records[0].client.name is None


async def test_what_is_malformed_changes_nothing(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XCLIENT)).code == 220
        await client.ask("EHLO c.example")
        for argument in ("ADDR=203.0.113.10 NAME=a+0D+0AMAIL", "ADDR=203.0.113.10 LOGIN=+00", "ADDR=1.2"):
            assert (await client.ask(f"XCLIENT {argument}")).status == "5.5.4"
            assert (await client.ask(f"XFORWARD {argument}")).status == "5.5.4"
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert [record.client.address for record in gateway.records] == [REAL]


@pytest.mark.parametrize("command", [XCLIENT, XFORWARD, "XCLIENT ADDR=127.0.0.1 LOGIN=admin"])
async def test_nobody_else_is_believed(start_gateway: GatewayStarter, mta: FakeMTA, command: str):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port, source=STRANGER) as client:
        greeting = await client.ask("EHLO c.example")
        assert "XCLIENT" not in greeting.text
        assert "XFORWARD" not in greeting.text
        refused = await client.ask(command)
        assert str(refused).startswith("550 5.7.0 ")
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert [record.reason for record in gateway.records] == ["identity-refused", "accepted"]
    assert {record.client.address for record in gateway.records} == {STRANGER}
    assert gateway.records[0].detail == command
    assert gateway.records[1].client.authenticated is None


async def test_a_believed_peer_is_not_one_client(start_gateway: GatewayStarter):
    gateway = await start_gateway(xclient=HERE, limits=(2, 1))
    async with Client(gateway.port) as one, Client(gateway.port) as other, Client(gateway.port) as third:
        banners = [client.banner for client in (one, other, third)]
        assert [banner.code for banner in banners if banner] == [220, 220, 421]


# XFORWARD


async def test_xforward_is_believed_for_one_transaction(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        assert (await client.ask(XFORWARD)).code == 250
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    first, second = gateway.records
    assert (first.client.address, first.client.port, first.client.name) == (REAL, 1234, "c.example")
    assert first.client.helo == "helo.example"
    assert (second.client.address, second.client.name, second.client.helo) == (
        "127.0.0.1",
        None,
        "front.example",
    )
    assert f"from helo.example (c.example [{REAL}])".encode() in mta.messages[0].content
    assert f"ADDR={REAL} PORT=1234 PROTO=ESMTP HELO=helo.example" in mta.messages[0].xforward[0]
    assert b"from front.example (unknown [127.0.0.1])" in mta.messages[1].content


@pytest.mark.parametrize("forgetting", ["RSET", "EHLO front.example"])
async def test_it_is_forgotten_with_what_is_given_up(
    start_gateway: GatewayStarter, mta: FakeMTA, forgetting: str
):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        assert (await client.ask(forgetting)).code == 250
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert gateway.records[0].client.address == "127.0.0.1"


async def test_connect_and_helo_are_judged_for_the_client_that_is_forwarded(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    lists = Lists()
    gateway = await start_gateway(policies=[blocklist, no_liars], filters=[lists], xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        for command, code in [
            (XFORWARD, 550),
            (XFORWARD.replace(REAL, "203.0.113.10"), 250),
            (XFORWARD.replace(REAL, "203.0.113.11").replace("helo.example", "liar.example"), 550),
            ("NOOP", 250),
        ]:
            await client.ask(command)
            assert (await client.again(U1))[0].code == code, command
            await client.ask("RSET")
    assert lists.asked == ["127.0.0.1", REAL, "203.0.113.10", "203.0.113.11"]
    refusals = [record for record in gateway.records if record.verdict == "rejected"]
    assert [(r.reason, r.stage, r.spoken, r.client.address) for r in refusals] == [
        ("dns-blocklisted", "connect", "rcpt", REAL),
        ("lying-helo", "helo", "rcpt", "203.0.113.11"),
    ]


async def test_a_refusal_that_is_spoken_at_once_is_the_reply_to_mail(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(policies=[blocklist], filters=[Lists()], xclient=HERE, speak="connect")
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        for _ in range(2):
            assert (await client.ask("MAIL FROM:<s@a.example>")).code == 550
        assert (await client.ask("XFORWARD ADDR=203.0.113.10")).code == 250
        assert (await client.again(U1))[0].code == 250
    assert [record.client.address for record in gateway.records[:2]] == [REAL, REAL]


async def test_it_comes_in_several_commands(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(f"XFORWARD NAME=c.example ADDR={REAL}")
        await client.ask("XFORWARD PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE]")
        await client.again(U1)
        assert (await client.data(MESSAGE)).code == 250
    assert f"from unknown (c.example [{REAL}])\r\n".encode() in mta.messages[0].content
    assert b"with SMTP id" in mta.messages[0].content
    assert " PORT=[UNAVAILABLE] PROTO=SMTP HELO=[UNAVAILABLE] " in mta.messages[0].xforward[0]


async def test_a_client_of_unknown_address_is_where_the_peer_is(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        await client.ask("XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] HELO=helo.example")
        assert (await client.again("x@elsewhere.example"))[0].code == 550
    assert (gateway.records[0].client.address, gateway.records[0].client.name) == ("127.0.0.1", None)
    assert gateway.records[0].client.helo == "helo.example"


async def test_the_downstreams_refusal_is_the_forwarded_clients(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["RCPT"] = say("550 5.1.1 no such user")
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        await client.ask(XFORWARD)
        assert (await client.again(U1))[0].code == 550
        assert (await client.ask("DATA")).code == 554
    assert (gateway.records[0].reason, gateway.records[0].client.address) == ("unknown-recipient", REAL)


# Towards the downstream


async def test_a_client_that_cannot_be_named_downstream_is_deferred(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway([replace(destination(mta.address), identify="xclient")])
    async with Client(gateway.port) as client:
        assert [answer.status for answer in await client.open(U1, "u2@our.example")] == ["4.4.1", "4.4.1"]
    assert [record.reason for record in gateway.records] == ["downstream-unavailable"] * 2
    assert "XCLIENT" in gateway.records[0].detail
    assert not mta.heard("MAIL")


async def test_whom_xforward_brought_is_passed_on_by_xclient(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.extensions = (*mta.extensions, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN")
    gateway = await start_gateway(xclient=HERE)
    async with Client(gateway.port) as client:
        await client.ask("EHLO front.example")
        for address in (REAL, "203.0.113.10"):
            await client.ask(XFORWARD.replace(REAL, address))
            await client.again(U1)
            assert (await client.data(MESSAGE)).code == 250
    assert [message.xclient for message in mta.messages] == [
        [f"XCLIENT ADDR={address} PORT=1234 NAME=c.example LOGIN=[UNAVAILABLE] PROTO=ESMTP HELO=helo.example"]
        for address in (REAL, "203.0.113.10")
    ]
    assert mta.connections == 1
