"""The conversation with one client: command lines to the dialogue, its replies to the client.

aiosmtpd's method for each verb is where a command arrives. Nothing is decided here: what a command
means is the dialogue's business, what octets are is the stream's.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar, cast

import structlog

from gateway.proxy.admission import Admission, Limit
from gateway.proxy.budget import Budget
from gateway.proxy.certificate import Certificate, negotiated
from gateway.proxy.chunking import received
from gateway.proxy.dialogue import Dialogue
from gateway.proxy.replies import (
    CANNOT_VERIFY,
    HELP,
    NO_ARGUMENT,
    NOT_IMPLEMENTED,
    NOT_RECOGNIZED,
    NOT_SMTP,
    OK,
    SHUTTING_DOWN,
    START_CONTENT,
    START_TLS,
    TIMED_OUT,
)
from gateway.proxy.service import ProxyService
from gateway.proxy.stream import ClientStream, LineTooLong
from gateway.smtp.authentication import MAX_LINE as MAX_ANSWER
from gateway.smtp.command import (
    MAX_LINE,
    Command,
    CommandError,
    announces_chunk,
    is_foreign,
    parse_bdat,
    parse_command,
)
from gateway.smtp.content import ContentReader, Reader
from gateway.smtp.proxy_protocol import Origin
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session, plain
from gateway.spool import Spool

T = TypeVar("T")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Arrival:
    """Whom the front door let in, and the limit that leaves no room, if one does."""

    client: Origin
    limit: Limit | None = None


class ClientConnection(ClientStream):
    """One client. `connections` are all that are open.

    Without an `arrival` the peer of the socket is the client.
    """

    def __init__(
        self,
        service: ProxyService,
        admission: Admission,
        connections: "set[ClientConnection]",
        arrival: Arrival | None = None,
    ) -> None:
        super().__init__()
        self._arrival = arrival
        self._service = service
        self._admission = admission
        self._connections = connections
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self._budget = Budget()
        self._is_admitted = False
        self._is_busy = False
        self._is_over = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if transport.get_extra_info("peername") is None:
            # It was reset before we accepted it: there is nobody to count, to judge or to speak to.
            cast("asyncio.Transport", transport).abort()
            return
        self._connections.add(self)
        client = peer_of(transport) if self._arrival is None else self._arrival.client
        session = _describe_session(transport, self._service, client)
        self._client = client.address
        self._limit = None if self._arrival is None else self._arrival.limit
        if self._limit is None:
            self._limit = self._admission.admit(self._client)
            self._is_admitted = self._limit is None
        self._needs_handshake = self._is_admitted and self._service.tls_implicit and session.tls is None
        self._dialogue = Dialogue(self._service, session)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.ended.done():
            # A TLS handshake that fails is noticed by us, and by uvloop's transport once more.
            return
        self._connections.discard(self)
        if self._is_admitted:
            self._admission.release(self._client)
        self.ended.set_result(None)
        super().connection_lost(error)

    def _on_client_gone(self, may_listen: bool) -> None:
        """Nobody is there to read the answer: stop what is being done for it."""
        if self._is_busy and not may_listen:
            self._dialogue.lose_client()
            self.cut()

    def drain(self) -> None:
        """Finish what the client is in the middle of, a transaction at most, then say 421 and close."""
        self._takes_no_more = True
        self._wake()

    @property
    def _is_to_leave(self) -> bool:
        return self._is_cut or (self._takes_no_more and not self._dialogue.is_in_transaction)

    def cut(self) -> None:
        """Do not wait any longer, unless the downstream has the message already."""
        self._is_cut = True
        if self._is_busy and not self._dialogue.is_committed and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        self._wake()

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
        if self._needs_handshake and self._service.certificate is not None:
            await self._secure(self._service.certificate)
            if self._client_has_gone:
                return "client-disconnected"
        dialogue = self._dialogue
        greet = dialogue.greet() if self._limit is None else dialogue.turn_away(self._limit.value)
        greeting = await self._answer_with(greet)
        while greeting.is_positive:
            try:
                line = await self._next_line(MAX_ANSWER if self._dialogue.is_authenticating else MAX_LINE)
            except LineTooLong as error:
                await self._answer_with(self._dialogue.line_too_long())
                if announces_chunk(error.start):
                    return "client-reset"
            else:
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
        if self._dialogue.is_authenticating:
            self._budget.note_command("AUTH")
            await self._answer_with(self._dialogue.answer(line))
            return False
        if is_foreign(line):
            self._reply(NOT_SMTP)
            return True
        try:
            command = parse_command(line)
            await self._obey(command)
        except CommandError as error:
            self._reply(error.reply)
            # Where its chunk ends cannot be known, and nothing in there may be taken for a command.
            return announces_chunk(line)
        return self._is_over or (command.verb == "QUIT" and not command.argument)

    async def _obey(self, command: Command) -> None:
        method = self._method_for(command.verb)
        if method is None:
            self._reply(NOT_RECOGNIZED)
            return
        self._budget.note_command(command.verb)
        # Octet for octet: aiosmtpd's methods take text, and this text is the octets.
        await method(command.argument.decode("latin-1"))

    def _method_for(self, verb: str) -> Any:
        return getattr(self, f"smtp_{verb}", None)

    def _why_no_line(self) -> str:
        if self._takes_no_more and not self._client_has_gone:
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
            self._give_content_back()
            self._hang_up()

    # The verbs. The argument is the octets behind the verb, decoded one to one.

    async def smtp_HELO(self, arg: str) -> None:
        await self._answer_with(self._dialogue.helo(_octets(arg)))

    async def smtp_EHLO(self, arg: str) -> None:
        await self._answer_with(self._dialogue.ehlo(_octets(arg)))

    async def smtp_LHLO(self, arg: str) -> None:
        await self._answer_with(self._dialogue.lhlo(_octets(arg)))

    async def smtp_MAIL(self, arg: str | None) -> None:
        await self._answer_with(self._dialogue.mail(_octets(arg)))

    async def smtp_RCPT(self, arg: str | None) -> None:
        await self._answer_with(self._dialogue.rcpt(_octets(arg)))

    async def smtp_DATA(self, arg: str) -> None:
        reply = self._dialogue.data(_octets(arg))
        self._reply(reply)
        if reply is START_CONTENT:
            await self._receive_content()

    async def smtp_BDAT(self, arg: str) -> None:
        """Raises CommandError where the end of the chunk cannot be known."""
        chunk = parse_bdat(_octets(arg))
        if not chunk.size and not chunk.is_last:
            self._budget.note_idleness()
        message = self._dialogue.bdat()
        message.begin(chunk)
        if not await self._read_content(message.spool, message.reader):
            return
        if message.refusal is not None:
            self._reply(message.refusal)
        elif chunk.is_last or message.is_lost:
            await self._end_content(message.spool, message.reader)
        else:
            self._reply(received(chunk))

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
        if reply is START_TLS and self._service.certificate is not None:
            await self._secure(self._service.certificate)

    async def smtp_AUTH(self, arg: str) -> None:
        await self._answer_with(self._dialogue.auth(_octets(arg)))

    async def smtp_XCLIENT(self, arg: str) -> None:
        await self._answer_with(self._dialogue.xclient(_octets(arg)))

    async def smtp_XFORWARD(self, arg: str) -> None:
        await self._answer_with(self._dialogue.xforward(_octets(arg)))

    async def smtp_PROXY(self, arg: str) -> None:
        if self._arrival is not None:
            # It has had its header; this is one more thing that is no command.
            self._reply(NOT_RECOGNIZED)
            return
        await self._answer_with(self._dialogue.proxy(_octets(arg)))
        self._is_over = True

    async def _secure(self, certificate: Certificate) -> None:
        try:
            await self._start_tls(certificate.context)
        except OSError as error:
            _log.info("a TLS handshake failed", client=str(self._client), error=str(error))
        else:
            await self._dialogue.secure(negotiated(self._stream.get_extra_info("ssl_object")))

    # Replies

    async def _answer_with(self, answer: Awaitable[Reply]) -> Reply:
        """Speak the dialogue's reply. Whatever breaks in there, the client is told to come again."""
        answered = await self._attempt(answer)
        reply = self._dialogue.fail(answered) if isinstance(answered, Exception) else answered
        self._reply(reply)
        return reply

    async def _answer_with_each(self, answer: Awaitable[Sequence[Reply]], due: int) -> Sequence[Reply]:
        """The same where several replies may be due."""
        answered = await self._attempt(answer)
        replies = [self._dialogue.fail(answered)] * due if isinstance(answered, Exception) else answered
        for reply in replies:
            self._reply(reply)
        return replies

    async def _attempt(self, work: Awaitable[T]) -> T | Exception:
        self._is_busy = True
        try:
            return await work
        except Exception as error:
            return error
        finally:
            self._is_busy = False

    def _reply(self, reply: Reply) -> None:
        self._budget.note_reply(reply)
        self._send(reply.encode())

    async def _receive_content(self) -> None:
        """Content up to the end of data, then the decisive reply."""
        spool, reader = self._dialogue.spool(), ContentReader(self._service.bare_newline)
        if await self._read_content(spool, reader):
            await self._end_content(spool, reader)

    async def _end_content(self, spool: Spool, reader: Reader) -> None:
        decided = self._dialogue.end_of_data(spool, reader.must_refuse)
        replies = await self._answer_with_each(decided, self._dialogue.replies_due)
        if any(reply.is_positive for reply in replies):
            self._budget.note_mail()
            self._admission.remember(self._client)
        self._give_content_back()


# Who connects to a Unix socket, whose permissions say who may, is on this machine.
_LOCAL_PEER = ("127.0.0.1", 0)


def peer_of(transport: asyncio.BaseTransport) -> Origin:
    """Who is at the other end of the socket."""
    host, port, *_ = transport.get_extra_info("peername") or _LOCAL_PEER
    return Origin(plain(ip_address(host.partition("%")[0])), port)


def _describe_session(transport: asyncio.BaseTransport, service: ProxyService, client: Origin) -> Session:
    encryption = transport.get_extra_info("ssl_object")
    return Session(
        client.address,
        client.port,
        service.listener,
        tls=None if encryption is None else negotiated(encryption),
    )


def _octets(argument: str | None) -> bytes:
    return (argument or "").encode("latin-1")
