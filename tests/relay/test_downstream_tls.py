"""STARTTLS to the downstream (RFC 3207): what is encrypted, what is refused, what is never believed."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
import trustme

from gateway.relay import client
from gateway.relay.client import ClientConnection, DownstreamError, TLSFailed, connect
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt


class Peer:
    """A downstream that says EHLO, STARTTLS and EHLO again, as told."""

    def __init__(self, authority: trustme.CA, host: str = "127.0.0.1") -> None:
        self.offers = True
        self.answer = b"220 2.0.0 go\r\n"
        self.heard: list[tuple[bool, bytes]] = []
        self.talks: list[asyncio.Task[None]] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host).configure_cert(self._context)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.talks.append(task)
        writer.write(b"220 peer ESMTP\r\n")
        encrypted = False
        in_clear = writer.transport
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                self.heard.append((encrypted, line))
                if line.startswith(b"EHLO"):
                    starttls = b"250-STARTTLS\r\n" if self.offers and not encrypted else b""
                    writer.write(b"250-peer\r\n" + starttls + b"250 PIPELINING\r\n")
                elif line.startswith(b"STARTTLS"):
                    writer.write(self.answer)
                    if self.answer.startswith(b"220"):
                        await writer.start_tls(self._context, ssl_handshake_timeout=5)
                        encrypted = True
                else:
                    writer.write(b"250 2.0.0 ok\r\n")
        writer.close()
        in_clear.abort()

    @property
    def verbs(self) -> list[tuple[bool, bytes]]:
        """What was said up to QUIT, whether encrypted, without arguments."""
        said = [(encrypted, line.split()[0]) for encrypted, line in self.heard]
        return [each for each in said if each[1] != b"QUIT"]


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> Iterator[trustme.CA]:
    """An authority that the system trusts for the length of the test."""
    ours = trustme.CA()
    system = ssl.create_default_context

    def create_default_context() -> ssl.SSLContext:
        context = system()
        ours.configure_trust(context)
        return context

    monkeypatch.setattr(ssl, "create_default_context", create_default_context)
    client._context.cache_clear()
    yield ours
    client._context.cache_clear()


@pytest.fixture
async def peer(authority: trustme.CA) -> AsyncIterator[Peer]:
    return Peer(authority)


@contextlib.asynccontextmanager
async def connected(peer: Peer, tls: Encrypt) -> AsyncIterator[ClientConnection]:
    server = await asyncio.start_server(peer.talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            connection = await connect(Endpoint("127.0.0.1", port), "mx.example", tls)
            yield connection
            await connection.ask(b"NOOP")
            connection.quit()
        finally:
            await asyncio.wait(peer.talks)
            # An aborted transport gives its socket back one turn of the loop later.
            await asyncio.sleep(0)


@pytest.mark.parametrize("tls", ["may", "require", "verify"])
async def test_what_is_offered_is_used(peer: Peer, tls: Encrypt):
    async with connected(peer, tls) as connection:
        assert connection.extensions == {"PIPELINING": ""}
    assert peer.verbs == [(False, b"EHLO"), (False, b"STARTTLS"), (True, b"EHLO"), (True, b"NOOP")]


async def test_off_is_off(peer: Peer):
    async with connected(peer, "off"):
        pass
    assert peer.verbs == [(False, b"EHLO"), (False, b"NOOP")]


async def test_may_goes_on_in_clear_where_nothing_is_offered(peer: Peer):
    peer.offers = False
    async with connected(peer, "may"):
        pass
    assert peer.verbs == [(False, b"EHLO"), (False, b"NOOP")]


@pytest.mark.parametrize("tls", ["require", "verify"])
async def test_no_mail_without_what_is_required(peer: Peer, tls: Encrypt):
    peer.offers = False
    with pytest.raises(TLSFailed, match="offers no STARTTLS"):
        async with connected(peer, tls):
            pass


async def test_a_refused_starttls_is_a_downgrade_and_not_taken(peer: Peer):
    peer.answer = b"454 4.7.0 not now\r\n"
    with pytest.raises(TLSFailed, match="454"):
        async with connected(peer, "require"):
            pass
    assert (False, b"NOOP") not in peer.verbs


async def test_may_goes_on_in_clear_after_a_failed_handshake(peer: Peer):
    peer._context.maximum_version = ssl.TLSVersion.TLSv1_2
    peer._context.set_ciphers("NULL-SHA256:@SECLEVEL=0")
    async with connected(peer, "may"):
        pass
    assert peer.verbs[-2:] == [(False, b"EHLO"), (False, b"NOOP")]


async def test_verify_wants_the_right_name(authority: trustme.CA):
    with pytest.raises(TLSFailed, match="handshake"):
        async with connected(Peer(authority, "elsewhere.example"), "verify"):
            pass


async def test_verify_wants_a_trusted_authority(peer: Peer):
    with pytest.raises(TLSFailed, match="handshake"):
        async with connected(Peer(trustme.CA()), "verify"):
            pass


async def test_a_reply_injected_in_clear_is_not_believed(peer: Peer):
    """CVE-2021-33515 and its like: what a man in the middle put behind the 220."""
    peer.answer = b"220 2.0.0 go\r\n250 2.0.0 Ok: queued as X\r\n"
    with pytest.raises(DownstreamError):
        async with connected(peer, "require"):
            pass


async def test_half_a_reply_injected_in_clear_is_dropped(peer: Peer):
    peer.answer = b"220 2.0.0 go\r\n250-in"
    async with connected(peer, "require") as connection:
        assert connection.extensions == {"PIPELINING": ""}
