"""TLS on the client's side: STARTTLS (RFC 3207), and from the first octet (RFC 8314)."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from gateway.proxy.certificate import Certificate
from tests.client import Client
from tests.conftest import issue
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import OURS


async def started(client: Client, trust: ssl.SSLContext) -> None:
    """EHLO, STARTTLS, handshake."""
    await client.ask("EHLO c.example")
    assert (await client.ask("STARTTLS")).code == 220
    await client.start_tls(trust)


async def test_it_is_offered_where_there_is_a_certificate(
    start_gateway: GatewayStarter, certificate: Certificate
):
    with_one, without = await start_gateway(certificate=certificate), await start_gateway()
    async with Client(with_one.port) as client:
        assert "250 STARTTLS" in (await client.ask("EHLO c.example")).lines
    async with Client(without.port) as client:
        assert "STARTTLS" not in (await client.ask("EHLO c.example")).text
        assert (await client.ask("STARTTLS")).code == 502


async def test_mail_over_tls_says_so_in_trace_and_record(
    start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate, trust: ssl.SSLContext
):
    gateway = await start_gateway(certificate=certificate)
    async with Client(gateway.port) as client:
        await started(client, trust)
        assert (await client.deliver(b"Subject: t\r\n\r\nb\r\n", f"u1@{OURS}")).code == 250
    assert b"with ESMTPS id" in mta.messages[0].content
    assert (await gateway.record()).client.tls in {"TLSv1.2", "TLSv1.3"}


async def test_what_was_said_before_does_not_count(
    start_gateway: GatewayStarter, certificate: Certificate, trust: ssl.SSLContext
):
    gateway = await start_gateway(certificate=certificate)
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        await client.ask("MAIL FROM:<s@a.example>")
        assert (await client.ask("STARTTLS")).code == 220
        await client.start_tls(trust)
        assert (await client.ask("RCPT TO:<u1@our.example>")).code == 503
        assert (await client.ask("MAIL FROM:<s@a.example>")).code == 503
        assert "STARTTLS" not in (await client.ask("EHLO c.example")).text
        assert (await client.ask("STARTTLS")).code == 503


async def test_commands_injected_in_clear_are_dropped(
    start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate, trust: ssl.SSLContext
):
    """CVE-2011-0411: a man in the middle puts commands behind STARTTLS."""
    gateway = await start_gateway(certificate=certificate)
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        client.say(b"STARTTLS\r\nMAIL FROM:<inj@evil.example>\r\nRCPT TO:<u1@our.example>\r\n")
        assert (await client.reply()).code == 220
        await client.start_tls(trust)
        assert (await client.ask("NOOP")).code == 250
        assert (await client.ask("RCPT TO:<u1@our.example>")).code == 503
    assert not mta.conversations


async def test_starttls_takes_no_argument(start_gateway: GatewayStarter, certificate: Certificate):
    gateway = await start_gateway(certificate=certificate)
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        assert (await client.ask("STARTTLS now")).code == 501


async def test_no_handshake_no_session(start_gateway: GatewayStarter, certificate: Certificate):
    gateway = await start_gateway(certificate=certificate, limits=(1, 1))
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        assert (await client.ask("STARTTLS")).code == 220
        client.say(b"MAIL FROM:<a@b.example>\r\n")
        assert b"250" not in await client.rest()
    await gateway.no_client()
    async with Client(gateway.port) as client:
        assert client.banner is not None
        assert client.banner.code == 220


async def test_implicit_tls_speaks_it_from_the_first_octet(
    start_gateway: GatewayStarter, certificate: Certificate, trust: ssl.SSLContext
):
    gateway = await start_gateway(certificate=certificate, tls_implicit=True)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", gateway.port, ssl=trust, server_hostname="localhost"
    )
    assert (await reader.readline()).startswith(b"220 ")
    writer.write(b"EHLO c.example\r\nQUIT\r\n")
    said = await reader.read()
    assert b"STARTTLS" not in said
    assert b"221 2.0.0" in said
    writer.close()
    await writer.wait_closed()


def test_a_renewed_certificate_is_used(authority: trustme.CA, tmp_path: Path):
    certificate = issue(authority, tmp_path)
    context = certificate.context
    issue(trustme.CA(), tmp_path)
    assert certificate.context is context
    assert certificate._loaded == certificate._stamps()


def test_a_key_that_does_not_fit_changes_nothing(authority: trustme.CA, tmp_path: Path):
    certificate = issue(authority, tmp_path)
    authority.issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    assert certificate.context is not None
    (tmp_path / "key.pem").unlink()
    assert certificate.context is not None


def test_files_that_cannot_be_used_are_an_error_at_start(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Certificate(tmp_path / "none.pem", tmp_path / "none.key")
    (tmp_path / "empty.pem").write_bytes(b"")
    with pytest.raises(ssl.SSLError):
        Certificate(tmp_path / "empty.pem", tmp_path / "empty.pem")
