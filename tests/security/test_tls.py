"""TLS under attack: what comes in clear counts for nothing behind it, and no handshake holds anything."""

import asyncio
import ssl

import pytest

import gateway.proxy.server
import gateway.proxy.stream
from gateway.proxy.certificate import Certificate
from tests.client import Client
from tests.fakes.mta import Gate, accept
from tests.proxy.conftest import GatewayStarter
from tests.security.battery import ENVELOPE, MESSAGE, Battery
from tests.security.conftest import BatteryStarter
from tests.waiting import eventually

HELLO = b"EHLO c.example\r\n"


@pytest.fixture
async def battery(start_battery: BatteryStarter, certificate: Certificate) -> Battery:
    """One that offers STARTTLS to one client at a time, so that whoever is not let go is missed."""
    return await start_battery(certificate=certificate, limits=(1, 1))


@pytest.mark.parametrize(
    "injected",
    [
        *(
            b"NOOP\r\n",
            b"EHLO inj.example\r\n",
            b"EHLO inj.example\r\n" + ENVELOPE + b"DATA\r\n",
            b"MAIL FR",
            b"\r\n",
        ),
        *(b"QUIT\r\n", b"A" * 5000, b"STARTTLS\r\n", b"\0\r\n"),
    ],
)
async def test_what_is_injected_in_clear_has_no_reply_inside(
    battery: Battery, trust: ssl.SSLContext, injected: bytes
):
    """CVE-2011-0411: replies and commands inside are those of the client inside, from the first on."""
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, b"STARTTLS\r\n", injected)
        assert [answer.code for answer in await client.replies(2)] == [250, 220]
        await client.start_tls(trust)
        client.say(b"VRFY x\r\nQUIT\r\n")
        assert [answer.code for answer in await client.replies(2)] == [252, 221]
        assert await client.is_closed()
    assert not battery.mta.connections


async def test_the_name_and_the_transaction_are_forgotten(battery: Battery, trust: ssl.SSLContext):
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, ENVELOPE, b"STARTTLS\r\n")
        assert [answer.code for answer in await client.replies(4)] == [250, 250, 250, 220]
        await client.start_tls(trust)
        client.say(b"DATA\r\n", ENVELOPE, b"DATA\r\n")
        assert [answer.code for answer in await client.replies(4)] == [503] * 4
    assert not battery.mta.heard("DATA")


async def test_nothing_is_offered_inside_that_is_not_there(battery: Battery, trust: ssl.SSLContext):
    async with Client(battery.gateway.port) as client:
        await client.ask("EHLO c.example")
        await client.ask("STARTTLS")
        await client.start_tls(trust)
        offered = (await client.ask("EHLO c.example")).text
        assert "AUTH" not in offered
        assert "STARTTLS" not in offered
        assert (await client.ask("AUTH PLAIN AHVzZXIAc2VjcmV0")).code == 502


NO_HANDSHAKES = {
    "a command": b"MAIL FROM:<a@b.example>\r\n",
    "a web request": b"GET / HTTP/1.1\r\n\r\n",
    "nothing of a record": b"\x16\x03\x01\xff\xff",
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "an empty hello": b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    "zeros": b"\0" * 1000,
}


@pytest.mark.parametrize("octets", NO_HANDSHAKES.values(), ids=NO_HANDSHAKES)
async def test_no_handshake_no_session(battery: Battery, octets: bytes):
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, b"STARTTLS\r\n")
        await client.replies(2)
        client.say(octets)
        client.half_close()
        said = await client.rest()
    # An alert at most: no line of SMTP in clear, and none of ours in particular.
    assert b"\r\n" not in said


async def test_a_handshake_that_does_not_come_is_not_waited_for(
    battery: Battery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "HANDSHAKE_TIMEOUT", 0.1)
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, b"STARTTLS\r\n")
        await client.replies(2)
        assert await client.is_closed()


@pytest.mark.parametrize("octets", [b"", b"EHLO c.example\r\n"])
async def test_nor_is_one_from_the_first_octet(
    start_gateway: GatewayStarter,
    certificate: Certificate,
    trust: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    octets: bytes,
):
    monkeypatch.setattr(gateway.proxy.server, "HANDSHAKE_TIMEOUT", 0.1)
    running = await start_gateway(certificate=certificate, limits=(1, 1), tls_implicit=True)
    async with Client(running.port, greet=False) as client:
        client.say(octets)
        assert b"220" not in await client.rest()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", running.port, ssl=trust, server_hostname="localhost"
    )
    assert (await reader.readline()).startswith(b"220 ")
    writer.close()
    await writer.wait_closed()


def outdated() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.deprecated_call():
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


def null_ciphers() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("NULL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize("context", [outdated, null_ciphers])
async def test_what_protects_nobody_is_not_agreed_to(battery: Battery, context):
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, b"STARTTLS\r\n")
        await client.replies(2)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.start_tls(context())


def test_nobody_may_renegotiate(certificate: Certificate):
    """CVE-2011-1473: each costs us more than the client."""
    assert certificate.context.options & ssl.OP_NO_RENEGOTIATION
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "said", [b"", HELLO, HELLO + ENVELOPE, HELLO + ENVELOPE + b"DATA\r\n" + MESSAGE + b"."]
)
async def test_a_client_that_is_cut_off_inside_delivers_nothing(
    battery: Battery, trust: ssl.SSLContext, said: bytes
):
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, b"STARTTLS\r\n")
        await client.replies(2)
        await client.start_tls(trust)
        client.say(said)
        client.reset()
    await battery.gateway.no_client()
    assert {record.verdict for record in battery.gateway.records} <= {"aborted"}
    assert not battery.mta.heard("DATA")


async def test_a_client_that_is_gone_before_its_handshake_is_let_go(battery: Battery):
    """It vanished while the downstream decided, and had sent STARTTLS ahead."""
    gate = Gate(accept("250 2.0.0 Ok: queued as 1"))
    battery.mta.script["end"] = [gate]
    battery.has_lost_replies = True
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, ENVELOPE, b"DATA\r\n", MESSAGE, b".\r\nSTARTTLS\r\nNOOP\r\n")
        await eventually(gate.reached.is_set)
        client.reset()
        (connection,) = battery.gateway.server._connections
        await eventually(lambda: connection.transport is None)
    gate.open()
    assert (await battery.gateway.record()).verdict == "accepted"
    await battery.gateway.no_client()
    assert connection._handler_coroutine.exception() is None


async def test_mail_over_tls_is_the_same_mail(battery: Battery, trust: ssl.SSLContext):
    async with Client(battery.gateway.port) as client:
        client.say(HELLO, b"STARTTLS\r\n")
        await client.replies(2)
        await client.start_tls(trust)
        session = HELLO + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\nQUIT\r\n"
        for at in range(0, len(session), 5):
            client.say(session[at : at + 5])
            await asyncio.sleep(0)
        answers = await client.replies(6)
    assert [answer.code for answer in answers] == [250, 250, 250, 354, 250, 221]
    battery.heard += answers
