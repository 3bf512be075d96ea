"""Octets from and to one client: the seam to aiosmtpd, and its only importer.

aiosmtpd's `SMTP` gives the protocol object and the task for each connection. What it does to octets
is replaced: lines and content are taken from one buffer as received, content never passes through
lines, replies are bytes sent in groups, and the timer runs only while the client is expected to send
(RFC 5321 section 4.5.3.2). It runs for the whole command, and for the whole content by its size, so
that a trickle of octets is no way to stay. Nothing is understood or decided here.
"""

import asyncio
import ssl
from typing import Any, cast

from aiosmtpd.smtp import SMTP

from gateway.proxy.certificate import HANDSHAKE_TIMEOUT
from gateway.smtp.content import Reader
from gateway.spool import Spool

# For a whole command, and between two pieces of content (RFC 5321 section 4.5.3.2).
COMMAND_TIMEOUT = 300.0
CONTENT_TIMEOUT = 180.0
# For the whole content: so many seconds, and one more for so many octets.
CONTENT_ALLOWANCE = 180.0
MIN_CONTENT_RATE = 500
# How long a client may take to read our last words.
CLOSE_TIMEOUT = 10.0
# What a client may send ahead while we are busy; beyond it, it has to wait.
READ_AHEAD = 65_536
# What it may leave unread of our replies; beyond it, it is not there to read them.
MAX_UNREAD = 262_144


class LineTooLong(ValueError):
    """A line of more octets than it may have; it begins with `start`."""

    def __init__(self, start: bytes) -> None:
        super().__init__(start)
        self.start = start


class _NoHandler:
    """aiosmtpd looks for hooks on a handler. There are none: its methods are overridden."""


def prototype(hostname: str) -> dict[str, Any]:
    """What aiosmtpd's constructor computes. It is the same for every connection, slow and large."""
    template = SMTP(
        _NoHandler(),
        hostname=hostname,
        ident="Sluicegate",
        auth_exclude_mechanism=["LOGIN", "PLAIN"],
        loop=asyncio.get_running_loop(),
    )
    return dict(vars(template))


class ClientStream(SMTP):
    """Lines and content in, replies out. A `prototype` has to be among the attributes of its class.

    A subclass has the conversation (`_handle_client`, which aiosmtpd runs as a task) and is told
    when the client goes (`_on_client_gone`).
    """

    def __init__(self) -> None:
        # Not aiosmtpd's, nor asyncio's: a stream reader and the rest are never used, and not small.
        self._buffer = bytearray()
        self._unsent: list[bytes] = []
        self._arrived: asyncio.Future[bool] | None = None
        self._spool: Spool | None = None
        self._content: Reader | None = None
        self._client_has_gone = False
        self._takes_no_more = False
        self._is_cut = False
        self._is_reading = True
        self._patience: float | None = None
        self._awaits_command_since: float | None = None

    def _on_client_gone(self, may_listen: bool) -> None:
        """The client closed its side, or the connection is lost.

        One that sent its next commands ahead, QUIT at least, may still listen.
        """

    @property
    def _stream(self) -> asyncio.Transport:
        """The transport as what it is; uvloop's is not derived from asyncio's."""
        return cast("asyncio.Transport", self.transport)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        if self._content is not None:
            self._take_content(data)
        else:
            self._buffer += data
            if len(self._buffer) > READ_AHEAD:
                self._pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        # Half open: a client that sent everything ahead and shut its side down still gets its replies.
        # TLS knows no half.
        is_plain = self._stream.get_extra_info("ssl_object") is None
        self._lose_client(may_listen=is_plain and bool(self._buffer))
        return is_plain

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - why makes no difference
        # aiosmtpd's cancels whatever is going on, a commit included.
        self._lose_client(may_listen=False)
        self.transport = None
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """aiosmtpd's one timer for everything is not used: `_be_patient` is."""

    # What the conversation calls.

    def _send(self, octets: bytes) -> None:
        """Say something, as soon as it is the client's turn."""
        self._unsent.append(octets)

    def _flush(self) -> None:
        """Send what was said, in one go: a group of pipelined commands gets a group of replies."""
        if self._unsent and self.transport is not None:
            octets = b"".join(self._unsent)
            self._unsent.clear()
            if not self.transport.is_closing():
                self._stream.write(octets)
            if self._stream.get_write_buffer_size() > MAX_UNREAD:
                self._stream.abort()

    def _hang_up(self) -> None:
        """Send what was said, then close; a client that does not read it is not waited for."""
        if self.transport is None:
            return
        self._flush()
        self.transport.close()
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timeout_handle = self.loop.call_later(CLOSE_TIMEOUT, self._stream.abort)

    def hurry(self, timeout: float) -> None:
        """Wait for a command no longer than so many seconds, those that have gone by included."""
        since = self._awaits_command_since
        if since is not None and self.loop.time() - since >= timeout:
            self._wake(in_time=False)

    @property
    def _is_to_leave(self) -> bool:
        """Whether no further command is waited for."""
        return self._is_cut or self._takes_no_more

    async def _next_line(self, longest: int) -> bytes | None:
        """The next line, at most `longest` octets with its end, without it; `None` if there will be none.

        Raises LineTooLong.
        """
        self._awaits_command_since = self.loop.time()
        until = self._awaits_command_since + COMMAND_TIMEOUT
        # Whatever still comes of a message that was given up is content, and no command.
        while self._content is None:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[: end + 1])
                del self._buffer[: end + 1]
                if len(line) > longest:
                    raise LineTooLong(line[:longest])
                self._awaits_command_since = None
                # One line end is removed; a further CR is a control character like any other.
                return line[:-1].removesuffix(b"\r")
            if len(self._buffer) > longest:
                # Only that it is too long needs to be remembered of it.
                del self._buffer[longest + 1 :]
            if self._client_has_gone or self._is_to_leave or not await self._more(until):
                break
        self._awaits_command_since = None
        return None

    async def _read_content(self, spool: Spool, reader: Reader) -> bool:
        """Fill the spool up to the end of data, or of the chunk; false if that does not come."""
        self._spool, self._content = spool, reader
        ahead = bytes(self._buffer[: reader.room])
        del self._buffer[: reader.room]
        self._take_content(ahead)
        allowed = self.loop.time() + CONTENT_ALLOWANCE
        while not reader.at_end:
            until = min(self.loop.time() + CONTENT_TIMEOUT, allowed + spool.size / MIN_CONTENT_RATE)
            if self._client_has_gone or self._is_cut or not await self._more(until):
                return False
        return True

    def _give_content_back(self) -> None:
        """Let the content go; it is not needed any more."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake. What the client sent ahead in clear is dropped unread (CVE-2011-0411).

        Raises OSError, and then the connection is gone.
        """
        self._flush()
        self._buffer.clear()
        if self.transport is None:
            raise ConnectionResetError("the client has gone")
        try:
            self.transport = await self.loop.start_tls(
                self._stream, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except OSError as error:
            self.connection_lost(error)
            raise

    # Inside

    def _take_content(self, octets: bytes) -> None:
        assert self._content is not None
        assert self._spool is not None
        self._spool.append(self._content.feed(octets))
        if self._content.at_end:
            self._buffer += self._content.rest
            self._content = None

    async def _more(self, until: float) -> bool:
        """Wait until the client sent something or went away; false if it did not in time."""
        self._flush()
        self._resume_reading()
        self._be_patient(until)
        self._arrived = self.loop.create_future()
        try:
            return await self._arrived
        finally:
            self._arrived = None
            self._patience = None

    def _wake(self, in_time: bool = True) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(in_time)

    def _be_patient(self, until: float) -> None:
        """Let one timer run for many waits: it looks again when it fires, instead of being reset."""
        self._patience = until
        handle = self._timeout_handle
        if handle is not None and handle.when() > self._patience:
            handle.cancel()
        if handle is None or handle.cancelled():
            self._timeout_handle = self.loop.call_at(self._patience, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._timeout_handle = None
        if self._patience is None:
            return
        if self.loop.time() >= self._patience:
            self._wake(in_time=False)
        else:
            self._timeout_handle = self.loop.call_at(self._patience, self._look_at_the_clock)

    def _lose_client(self, may_listen: bool) -> None:
        self._client_has_gone = True
        self._wake()
        self._on_client_gone(may_listen)

    def _pause_reading(self) -> None:
        if self._is_reading and self.transport is not None:
            self._is_reading = False
            self._stream.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading and self.transport is not None:
            self._is_reading = True
            self._stream.resume_reading()
