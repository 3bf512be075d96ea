"""One SMTP connection to a downstream MTA: RFC 5321 as a client, pipelined by RFC 2920.

Replies are matched to commands strictly in order. A reply nobody asked for, or one that is no
reply, makes the connection useless: it is dropped rather than guessed about.
"""

import asyncio
import functools
import os
import re
import socket
import ssl
from collections import deque
from typing import cast

from gateway.smtp.authentication import CHALLENGE, SUCCESS
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import Reply
from gateway.smtp.reply_reader import ReplyError, ReplyReader
from gateway.terms import Encrypt

CONNECT_TIMEOUT = 5.0
GREETING_TIMEOUT = 30.0
HANDSHAKE_TIMEOUT = 30.0
# RFC 5321 section 4.5.3.2 allows five minutes; the client in front of us is waiting as well.
COMMAND_TIMEOUT = 60.0

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class DownstreamError(Exception):
    """The downstream MTA did not do its part; the text goes to the operator."""


class TLSFailed(DownstreamError):
    """The way to the downstream cannot be encrypted as it should be."""


class ClientConnection(asyncio.Protocol):
    """Commands out, replies in. Build it with `connect`."""

    def __init__(self, endpoint: Endpoint, tls: Encrypt) -> None:
        self.endpoint = endpoint
        self.tls = tls
        self.extensions: dict[str, str] = {}
        # True once XCLIENT was said: only another one undoes that.
        self.speaks_for_client = False
        self.refusals = 0
        self.resets = 0
        self.failure: str | None = None
        self._is_confidential = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._tcp: socket.socket | None = None
        self._reader = ReplyReader()
        self._awaited: deque[asyncio.Future[Reply]] = deque()
        # Expected from the start: it may be here before anybody has time to wait for it.
        self._banner = self.expect()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def is_open(self) -> bool:
        """True while commands can be sent."""
        return self.failure is None and self._transport is not None

    def offers(self, keyword: str) -> bool:
        """Whether the EHLO reply named this extension."""
        return keyword in self.extensions

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are not derived from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if not self.endpoint.path:
            self._tcp = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._reader.feed(data):
                self._answer(reply)
        except ReplyError as error:
            self.abort("said what is no reply" if self._is_confidential else str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "connection closed")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the delivery calls.

    async def greet(self, hostname: str) -> None:
        """Read the banner and say EHLO. Raises DownstreamError."""
        banner = await self.reply_to(self._banner, GREETING_TIMEOUT)
        if not banner.is_positive:
            raise DownstreamError(f"{self.endpoint}: greeted with {banner}")
        await self.hello(hostname)

    async def hello(self, hostname: str) -> None:
        """Say EHLO, HELO where that is unknown; LHLO to LMTP (RFC 2033). Raises DownstreamError."""
        verb = b"LHLO " if self.endpoint.lmtp else b"EHLO "
        reply = await self.ask(verb + hostname.encode("ascii"))
        self.extensions = _extensions(reply) if reply.is_positive else {}
        if reply.is_positive:
            return
        if self.endpoint.lmtp:
            raise DownstreamError(f"{self.endpoint}: LHLO answered with {reply}")
        reply = await self.ask(b"HELO " + hostname.encode("ascii"))
        if not reply.is_positive:
            raise DownstreamError(f"{self.endpoint}: HELO answered with {reply}")

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Encrypt from here on, after STARTTLS was agreed to. Raises DownstreamError."""
        assert self._transport is not None
        try:
            transport = await self._loop.start_tls(
                self._transport,
                self,
                context,
                server_hostname=self.endpoint.host,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )
        except (OSError, ssl.SSLError) as error:
            self.abort(f"TLS handshake failed: {error}")
            raise TLSFailed(f"{self.endpoint}: {self.failure}") from None
        self._transport = cast("asyncio.Transport", transport)
        # What came in clear behind the reply to STARTTLS is nobody's reply (RFC 3207 section 5).
        self._reader = ReplyReader()
        self.extensions = {}

    def send(self, *commands: bytes) -> list[asyncio.Future[Reply]]:
        """Send commands in one go; one future per reply, in order. Raises DownstreamError.

        The last guard against command injection stands here: no command has a control character.
        """
        for command in commands:
            if _CONTROL.search(command):
                # It is not quoted, for it may be a password.
                raise ValueError("control character in a command")
        self._write(b"\r\n".join(commands) + b"\r\n")
        if len(commands) > 1:
            self._acknowledge_quickly()
        return [self.expect() for _ in commands]

    async def ask(self, command: bytes) -> Reply:
        """Send one command and wait for its reply. Raises DownstreamError."""
        return await self.reply_to(self.send(command)[0])

    async def confide(self, line: bytes) -> Reply:
        """Send one line of an AUTH exchange: the next challenge, or the final reply (RFC 4954 section 4).

        From here on no error quotes what the peer says, for it may repeat what it was told. Raises
        DownstreamError.
        """
        self._is_confidential = True
        reply = await self._wait_for(self.send(line)[0], COMMAND_TIMEOUT)
        if reply.code == 421:
            raise DownstreamError(f"{self.endpoint}: {self.failure}")
        if reply.code not in {SUCCESS, CHALLENGE} and reply.code < 400:
            raise self._out_of_step(reply)
        return reply

    async def start_data(self) -> Reply:
        """Say DATA: 354, or the refusal. Raises DownstreamError for anything else."""
        reply = await self._wait_for(self.send(b"DATA")[0], COMMAND_TIMEOUT)
        if reply.code != 354 and reply.code < 400:
            raise self._out_of_step(reply)
        return reply

    async def reply_to(self, awaited: asyncio.Future[Reply], timeout: float | None = None) -> Reply:
        """Wait for a final reply, COMMAND_TIMEOUT seconds unless told otherwise.

        Raises DownstreamError, and then the connection is gone.
        """
        reply = await self._wait_for(awaited, COMMAND_TIMEOUT if timeout is None else timeout)
        if 300 <= reply.code < 400:
            raise self._out_of_step(reply)
        return reply

    async def write(self, octets: bytes) -> None:
        """Send content. Raises DownstreamError."""
        self._write(octets)
        if not self._writable.is_set():
            await self._wait_until_writable()

    def expect(self) -> "asyncio.Future[Reply]":
        """A future for the next reply that nobody waits for yet."""
        awaited: asyncio.Future[Reply] = self._loop.create_future()
        self._awaited.append(awaited)
        return awaited

    def abort(self, why: str) -> None:
        """Drop the connection at once; what was not yet sent is not sent."""
        self._fail(why)
        if self._transport is not None:
            self._transport.abort()

    def quit(self) -> None:
        """Say QUIT and close without waiting for the answer."""
        if self.is_open and self._transport is not None:
            self.send(b"QUIT")
            self._fail("closed by us")
            self._transport.close()

    async def _wait_for(self, awaited: asyncio.Future[Reply], timeout: float) -> Reply:
        # A plain timer, which costs a fifth of asyncio.timeout: aborting fails whatever is awaited.
        timer = self._loop.call_later(timeout, self.abort, f"no reply within {timeout:g} s")
        try:
            reply = await awaited
        finally:
            timer.cancel()
        if reply.code == 421:
            self.abort(f"says {self._quoted(reply)}")
        return reply

    def _out_of_step(self, reply: Reply) -> DownstreamError:
        """For a reply that cannot be the one to what we said: whatever comes next is in doubt, too."""
        self.abort(f"out of step with {self._quoted(reply)}")
        return DownstreamError(f"{self.endpoint}: {self.failure}")

    def _quoted(self, reply: Reply) -> str:
        return str(reply.code) if self._is_confidential else str(reply)

    def _write(self, octets: bytes) -> None:
        if self._transport is None or self.failure is not None:
            raise DownstreamError(f"{self.endpoint}: {self.failure or 'not connected'}")
        self._transport.write(octets)

    def _acknowledge_quickly(self) -> None:
        """Ask for acknowledgements without delay.

        An MTA that writes each reply of a group by itself, and has not turned Nagle's algorithm off,
        holds the second one back until we acknowledge the first: 40 ms on Linux.
        """
        if self._tcp is not None:
            self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    async def _wait_until_writable(self) -> None:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                await self._writable.wait()
        except TimeoutError:
            self.abort(f"took no content for {COMMAND_TIMEOUT:g} s")
        if self.failure is not None:
            raise DownstreamError(f"{self.endpoint}: {self.failure}")

    def _answer(self, reply: Reply) -> None:
        if not self._awaited:
            raise ReplyError(f"unasked reply {reply}")
        awaited = self._awaited.popleft()
        if not reply.is_positive and reply.code >= 400:
            self.refusals += 1
        if not awaited.done():
            awaited.set_result(reply)
        # An answer in the middle of the content ends it: do not go on waiting for room.
        self._writable.set()

    def _fail(self, why: str) -> None:
        if self.failure is None:
            self.failure = why
        self._writable.set()
        while self._awaited:
            awaited = self._awaited.popleft()
            if not awaited.done():
                awaited.set_exception(DownstreamError(f"{self.endpoint}: {self.failure}"))
                awaited.exception()  # seen: an abandoned future must not complain later


async def connect(endpoint: Endpoint, hostname: str, tls: Encrypt) -> ClientConnection:
    """A connection that has been greeted, and encrypted as far as `tls` asks. Raises DownstreamError."""
    try:
        return await _connect(ClientConnection(endpoint, tls), hostname, tls)
    except TLSFailed:
        if tls != "may":
            raise
    return await _connect(ClientConnection(endpoint, tls), hostname, "off")


async def _connect(connection: ClientConnection, hostname: str, tls: Encrypt) -> ClientConnection:
    endpoint = connection.endpoint
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            if endpoint.path:
                await loop.create_unix_connection(lambda: connection, endpoint.path)
            else:
                await loop.create_connection(lambda: connection, endpoint.host, endpoint.port)
        await connection.greet(hostname)
        await encrypt(connection, hostname, tls)
    except TimeoutError:
        raise DownstreamError(f"{endpoint}: no connection within {CONNECT_TIMEOUT:g} s") from None
    except OSError as error:
        # asyncio's own text says where to, which is known, and not why.
        why = os.strerror(error.errno) if error.errno else error
        raise DownstreamError(f"{endpoint}: {why}") from None
    except BaseException:
        connection.abort("given up")
        raise
    return connection


async def encrypt(connection: ClientConnection, hostname: str, tls: Encrypt) -> None:
    """Go over to TLS where `tls` asks for it and the downstream can (RFC 3207). Raises TLSFailed."""
    if tls == "off" or connection.endpoint.path:
        return
    if not connection.offers("STARTTLS"):
        if tls != "may":
            connection.abort("offers no STARTTLS")
            raise TLSFailed(f"{connection.endpoint}: offers no STARTTLS, and tls = {tls!r}")
        return
    reply = await connection.ask(b"STARTTLS")
    if reply.is_positive:
        await connection.start_tls(_context(verified=tls == "verify"))
        await connection.hello(hostname)
    elif tls != "may":
        connection.abort("refused STARTTLS")
        raise TLSFailed(f"{connection.endpoint}: answered STARTTLS with {reply}")


@functools.cache
def _context(verified: bool) -> ssl.SSLContext:
    """Made once: reading the system's certificates takes longer than a message."""
    context = ssl.create_default_context()
    if not verified:
        # Encryption against listeners only: who may be trusted is what `verify` is for.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _extensions(reply: Reply) -> dict[str, str]:
    """EHLO keywords in upper case, with their parameters (RFC 5321 section 4.1.1.1)."""
    offered = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.partition(" ")
        offered[keyword.upper()] = parameters
    return offered
