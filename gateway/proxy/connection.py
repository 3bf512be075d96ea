"""Bytes from and to one client: the seam to aiosmtpd, and its only importer.

aiosmtpd's `SMTP` gives the protocol object, the task per connection and the method per verb. What
it does to octets is replaced: commands reach the dialogue as received, content never passes through
lines, replies are bytes built once, the timer runs only while the client is expected to send
(RFC 5321 section 4.5.3.2). Nothing is decided here.
"""

import asyncio
from collections.abc import Awaitable
from ipaddress import ip_address
from typing import Any, cast

import structlog
from aiosmtpd.smtp import SMTP

from gateway.journal.writer import JournalFull
from gateway.proxy.admission import Admission
from gateway.proxy.budget import Budget
from gateway.proxy.certificate import HANDSHAKE_TIMEOUT, negotiated
from gateway.proxy.dialogue import CANNOT_VERIFY, NO_ARGUMENT, OK, START_CONTENT, START_TLS, Dialogue
from gateway.proxy.service import Service
from gateway.smtp.command import MAX_LINE, CommandError, is_foreign, parse_command
from gateway.smtp.content import ContentReader
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.spool import Spool

COMMAND_TIMEOUT = 300.0
CONTENT_TIMEOUT = 180.0
# What a client may send ahead while we are busy; beyond it, it has to wait.
READ_AHEAD = 65_536

LINE_TOO_LONG = Reply.of(500, "5.5.2", "Line too long")
NOT_RECOGNIZED = Reply.of(500, "5.5.2", "Command not recognized")
NOT_IMPLEMENTED = Reply.of(502, "5.5.1", "Command not implemented")
LOCAL_PROBLEM = Reply.of(451, "4.3.0", "Temporary local problem, please try again later")
TIMED_OUT = Reply.of(421, "4.4.2", "Timed out, closing the connection")
SHUTTING_DOWN = Reply.of(421, "4.3.2", "Shutting down, please try again later")
NOT_SMTP = Reply.of(421, "4.7.0", "This is an SMTP server, closing the connection")
HELP = Reply.of(214, "2.0.0", "See RFC 5321")

_log = structlog.get_logger()


class _NoHandler:
    """aiosmtpd looks for hooks on a handler. There are none: the verbs below are overridden."""


def prototype(service: Service) -> dict[str, Any]:
    """What aiosmtpd's constructor computes. It is the same for every connection, and slow."""
    template = SMTP(
        _NoHandler(),
        hostname=service.hostname,
        ident="Sluicegate",
        auth_exclude_mechanism=["LOGIN", "PLAIN"],
        loop=asyncio.get_running_loop(),
    )
    return dict(vars(template))


class ClientConnection(SMTP):
    """One client. `attributes` are a `prototype`, `connections` the set of all that are open."""

    def __init__(
        self,
        service: Service,
        admission: Admission,
        attributes: dict[str, Any],
        connections: "set[ClientConnection]",
    ) -> None:
        self.__dict__.update(attributes)
        reader = asyncio.StreamReader(loop=self.loop)
        asyncio.StreamReaderProtocol.__init__(self, reader, self._cb_client_connected, self.loop)
        self._service = service
        self._admission = admission
        self._connections = connections
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self._budget = Budget()
        self._buffer = bytearray()
        self._replies: list[bytes] = []
        self._arrived: asyncio.Future[bool] | None = None
        self._spool: Spool | None = None
        self._content: ContentReader | None = None
        self._client_has_gone = False
        self._is_draining = False
        self._is_cut = False
        self._is_busy = False
        self._is_reading = True
        self._patience: float | None = None

    @property
    def _stream(self) -> asyncio.Transport:
        """The transport as what it is; uvloop's is not derived from asyncio's."""
        return cast("asyncio.Transport", self.transport)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self)
        session = _describe_session(transport, self._service)
        self._client = session.client_address
        self._is_admitted = self._admission.admit(self._client)
        self._dialogue = Dialogue(self._service, session)
        super().connection_made(transport)

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

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        if self._is_admitted:
            self._admission.release(self._client)
        self.ended.set_result(None)
        self._lose_client(may_listen=False)
        # Not aiosmtpd's, which cancels whatever is going on, a commit included.
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()

    def drain(self) -> None:
        """Finish what the client is in the middle of, then say 421 and close."""
        self._is_draining = True
        self._wake()

    def cut(self) -> None:
        """Do not wait any longer, unless the downstream has the message already."""
        self._is_cut = True
        if self._is_busy and not self._dialogue.is_committed and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        self._wake()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """aiosmtpd's one timer for everything is not used: `_be_patient` is."""

    # The conversation, as aiosmtpd's task for this connection.

    async def _handle_client(self) -> None:
        reason = "client-disconnected"
        try:
            reason = await self._converse()
        except asyncio.CancelledError:
            if not self._client_has_gone:
                reason = self._say_shutting_down()
        finally:
            await self._finish(reason)

    async def _converse(self) -> str:
        """Answer commands until somebody ends it; the reason, for a transaction still open then."""
        greet = self._dialogue.greet if self._is_admitted else self._dialogue.turn_away
        greeting = await self._answer_with(greet())
        while greeting.is_positive:
            line = await self._next_line()
            if line is None:
                return self._why_no_line()
            if await self._execute(line):
                return "client-reset"
            last_words = self._budget.exhausted
            if last_words is not None:
                self._reply(last_words)
                return "too-many-errors"
            await self._slow_down()
        return "client-reset"

    async def _slow_down(self) -> None:
        """Make a client that errs wait for the reply."""
        delay = self._budget.take_delay()
        if delay:
            self._is_busy = True
            await asyncio.sleep(delay)
            self._is_busy = False

    async def _execute(self, line: bytes) -> bool:
        """Carry out one command line; true if it was the last."""
        if is_foreign(line):
            self._reply(NOT_SMTP)
            return True
        try:
            command = parse_command(line)
        except CommandError as error:
            self._reply(error.reply)
            return False
        method = self._method_for(command.verb)
        if method is None:
            self._reply(NOT_RECOGNIZED)
            return False
        self._budget.note_command(command.verb)
        # Octet for octet: aiosmtpd's methods take text, and this text is the octets.
        await method(command.argument.decode("latin-1"))
        return command.verb == "QUIT" and not command.argument

    def _method_for(self, verb: str) -> Any:
        return getattr(self, f"smtp_{verb}", None)

    def _why_no_line(self) -> str:
        if self._is_draining and not self._client_has_gone:
            return self._say_shutting_down()
        if self._client_has_gone:
            return "client-disconnected"
        self._reply(TIMED_OUT)
        return "client-timeout"

    def _say_shutting_down(self) -> str:
        self._reply(SHUTTING_DOWN)
        return "shutdown"

    async def _finish(self, reason: str) -> None:
        try:
            await self._dialogue.close(reason)
        finally:
            if self._spool is not None:
                self._spool.close()
            if self.transport is not None:
                self._flush()
                self.transport.close()

    # The verbs. The argument is the octets behind the verb, decoded one to one.

    async def smtp_HELO(self, arg: str) -> None:
        await self._answer_with(self._dialogue.helo(_octets(arg)))

    async def smtp_EHLO(self, arg: str) -> None:
        await self._answer_with(self._dialogue.ehlo(_octets(arg)))

    async def smtp_MAIL(self, arg: str | None) -> None:
        await self._answer_with(self._dialogue.mail(_octets(arg)))

    async def smtp_RCPT(self, arg: str | None) -> None:
        await self._answer_with(self._dialogue.rcpt(_octets(arg)))

    async def smtp_DATA(self, arg: str) -> None:
        reply = self._dialogue.data(_octets(arg))
        self._reply(reply)
        if reply is START_CONTENT:
            await self._receive_content()

    async def smtp_RSET(self, arg: str) -> None:
        await self._answer_with(self._dialogue.rset(_octets(arg)))

    async def smtp_QUIT(self, arg: str) -> None:
        await self._answer_with(self._dialogue.quit(_octets(arg)))

    async def smtp_NOOP(self, arg: str) -> None:  # noqa: ARG002 - NOOP may be followed by anything
        self._reply(OK)

    async def smtp_VRFY(self, arg: str) -> None:
        self._reply(CANNOT_VERIFY if arg else NO_ARGUMENT)

    async def smtp_HELP(self, arg: str) -> None:  # noqa: ARG002 - there is one help for everything
        self._reply(HELP)

    async def smtp_EXPN(self, arg: str) -> None:  # noqa: ARG002 - never, whatever is asked
        self._reply(NOT_IMPLEMENTED)

    async def smtp_STARTTLS(self, arg: str) -> None:
        reply = self._dialogue.starttls(_octets(arg))
        self._reply(reply)
        if reply is START_TLS:
            await self._start_tls()

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: ARG002 - not offered
        self._reply(NOT_IMPLEMENTED)

    async def _start_tls(self) -> None:
        """The handshake. What the client sent ahead in clear is dropped unread (CVE-2011-0411)."""
        assert self._service.certificate is not None
        self._flush()
        self._buffer.clear()
        try:
            transport = await self.loop.start_tls(
                self._stream,
                self,
                self._service.certificate.context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )
        except OSError as error:
            _log.info("a TLS handshake failed", client=str(self._client), error=str(error))
            self.connection_lost(error)
            return
        self.transport = transport
        await self._dialogue.secure(negotiated(self._stream.get_extra_info("ssl_object")))

    # Replies

    async def _answer_with(self, answer: Awaitable[Reply]) -> Reply:
        """Speak the dialogue's reply. Whatever breaks in there, the client is told to come again."""
        self._is_busy = True
        try:
            reply = await answer
        except Exception as error:
            _log.exception("a command failed", listener=self._service.listener)
            reply = self._fail(error)
        finally:
            self._is_busy = False
        self._reply(reply)
        return reply

    def _fail(self, error: Exception) -> Reply:
        try:
            return self._dialogue.fail(error)
        except JournalFull:
            return LOCAL_PROBLEM

    def _reply(self, reply: Reply) -> None:
        if not reply.is_positive and reply.code >= 400:
            self._budget.note_error()
        self._replies.append(reply.encode())

    def _flush(self) -> None:
        """Send what was said, in one go: a group of pipelined commands gets a group of replies."""
        if self._replies and self.transport is not None:
            octets = b"".join(self._replies)
            self._replies.clear()
            if not self.transport.is_closing():
                self._stream.write(octets)

    # Commands in

    async def _next_line(self) -> bytes | None:
        """The next command line without its end; `None` if there will be none."""
        # Whatever still comes of a message that was given up is content, and no command.
        while self._content is None:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[: end + 1])
                del self._buffer[: end + 1]
                if len(line) > MAX_LINE:
                    self._reply(LINE_TOO_LONG)
                    continue
                # One line end is removed; a further CR is a control character like any other.
                return line[:-1].removesuffix(b"\r")
            if len(self._buffer) > MAX_LINE:
                # Only that it is too long needs to be remembered of it.
                del self._buffer[MAX_LINE + 1 :]
            if self._client_has_gone or self._is_draining or not await self._more(COMMAND_TIMEOUT):
                break
        return None

    async def _receive_content(self) -> None:
        """Content up to the end of data, then the decisive reply."""
        self._spool = self._dialogue.spool()
        reader = self._content = ContentReader(self._service.bare_newline)
        ahead = bytes(self._buffer)
        self._buffer.clear()
        self._take_content(ahead)
        while not reader.at_end:
            if self._client_has_gone or self._is_cut or not await self._more(CONTENT_TIMEOUT):
                return
        reply = await self._answer_with(self._dialogue.end_of_data(self._spool, reader.must_refuse))
        if reply.is_positive:
            self._budget.note_mail()
        self._spool.close()
        self._spool = None

    def _take_content(self, octets: bytes) -> None:
        assert self._content is not None
        assert self._spool is not None
        self._spool.append(self._content.feed(octets))
        if self._content.at_end:
            self._buffer += self._content.rest
            self._content = None

    async def _more(self, timeout: float) -> bool:
        """Wait until the client sent something or went away; false if it took too long."""
        self._flush()
        self._resume_reading()
        self._be_patient(timeout)
        self._arrived = self.loop.create_future()
        try:
            return await self._arrived
        finally:
            self._arrived = None
            self._patience = None

    def _wake(self, in_time: bool = True) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(in_time)

    def _be_patient(self, timeout: float) -> None:
        """Let one timer run for many waits: it looks again when it fires, instead of being reset."""
        self._patience = self.loop.time() + timeout
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

    # The client going away

    def _lose_client(self, may_listen: bool) -> None:
        """Nobody is there to read the answer: stop what is being done for it.

        A client that sent its next commands ahead, QUIT at least, may have closed only its sending side.
        """
        self._client_has_gone = True
        self._wake()
        if self._is_busy and not may_listen:
            self._dialogue.lose_client()
            self.cut()

    def _pause_reading(self) -> None:
        if self._is_reading and self.transport is not None:
            self._is_reading = False
            self._stream.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading and self.transport is not None:
            self._is_reading = True
            self._stream.resume_reading()


def _describe_session(transport: asyncio.BaseTransport, service: Service) -> Session:
    peer = transport.get_extra_info("peername")
    address = ip_address(peer[0].partition("%")[0])
    encryption = transport.get_extra_info("ssl_object")
    return Session(
        # A dual-stack socket shows IPv4 clients as ::ffff:a.b.c.d; lists and logs know them as a.b.c.d.
        getattr(address, "ipv4_mapped", None) or address,
        peer[1],
        service.listener,
        tls=None if encryption is None else negotiated(encryption),
    )


def _octets(argument: str | None) -> bytes:
    return (argument or "").encode("latin-1")
