"""What is said to one client: RFC 5321 sections 3 and 4, command by command.

Each command is a method that takes the octets behind the verb and returns the reply. No socket is
known here and no byte is read; `connection` does that.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from gateway.casefile import CaseFile, Judgement
from gateway.proxy.authentication import Authentication
from gateway.proxy.chunking import ChunkedMessage
from gateway.proxy.early import EarlyStages, cancel
from gateway.proxy.extensions import check_mail, check_rcpt, keywords, offer_to, passed_on
from gateway.proxy.identity import Visitor, identity_keywords, is_believed
from gateway.proxy.service import Service
from gateway.proxy.transaction import MailTransaction
from gateway.recorder import Event
from gateway.smtp import prdr
from gateway.smtp.claim import claimed, parse_xclient, parse_xforward
from gateway.smtp.command import CommandError, parse_helo, parse_mail, parse_rcpt, parse_size
from gateway.smtp.envelope import Envelope
from gateway.smtp.reply import Reply
from gateway.smtp.session import TLS, Session
from gateway.smtp.transaction import Stage
from gateway.spool import Spool
from policies.verdict import Decision, Verdict, reject, tempfail

OK = Reply.of(250, "2.0.0", "Ok")
START_CONTENT = Reply.of(354, None, "End data with <CR><LF>.<CR><LF>")
BYE = Reply.of(221, "2.0.0", "Bye")
START_TLS = Reply.of(220, "2.0.0", "Ready to start TLS")
NO_TLS = Reply.of(502, "5.5.1", "TLS is not offered")
ENCRYPTED_ALREADY = Reply.of(503, "5.5.1", "TLS is active already")
LINE_TOO_LONG = Reply.of(500, "5.5.2", "Line too long")
NO_HELO = Reply.of(503, "5.5.1", "Say EHLO first")
NO_LHLO = Reply.of(503, "5.5.1", "Say LHLO first")
THIS_IS_LMTP = Reply.of(500, "5.5.1", "This is LMTP, say LHLO")
THIS_IS_SMTP = Reply.of(500, "5.5.1", "This is SMTP, say EHLO")
NO_MAIL = Reply.of(503, "5.5.1", "Say MAIL first")
NESTED_MAIL = Reply.of(503, "5.5.1", "A transaction is open already")
NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")
# RFC 2033 section 4.2 wants this code.
NO_RECIPIENTS_LMTP = Reply.of(503, "5.5.1", "No valid recipients")
CHUNKS_BEGUN = Reply.of(503, "5.5.1", "The message has begun with BDAT, and goes on with it")
CHUNKS_REFUSED = Reply.of(503, "5.5.1", "An earlier chunk was refused, say RSET first")
NO_ARGUMENT = Reply.of(501, "5.5.4", "This command takes no argument")
CANNOT_VERIFY = Reply.of(252, "2.1.5", "Cannot verify, but will take mail and try")
JOURNAL_FULL = Reply.of(452, "4.3.1", "Insufficient system storage, please try again later")


class Dialogue:
    """One client connection's state: its session, its early stages, and the open transaction if any."""

    def __init__(self, service: Service, session: Session) -> None:
        self._service = service
        # Who connected, who that is by now, and the client of the next transaction if that is another.
        self._peer = self._session = session
        self._early = EarlyStages(service)
        self._authentication = Authentication(service)
        self._visitor: Visitor | None = None
        self._opening: asyncio.Task[MailTransaction] | None = None
        self._transaction: MailTransaction | None = None
        self._envelope: Envelope | None = None
        self._answers_for_each = service.lmtp
        self._chunks: ChunkedMessage | None = None
        self._stage = Stage.CONNECT
        # What this client was promised, which need not be what could be promised now.
        self._offer = offer_to(service, esmtp=False)

    @property
    def is_committed(self) -> bool:
        """True while the downstream decides about a message it has whole: nothing may interrupt."""
        return self._transaction is not None and self._transaction.is_committed

    def lose_client(self) -> None:
        """Nobody will hear the reply to a message that the downstream has already."""
        if self._transaction is not None:
            self._transaction.lose_client()

    async def greet(self) -> Reply:
        """The banner, or the refusal where that is spoken at once."""
        self._early.judge_client(self._session)
        refusal = await self._early.refusal_at_once()
        if refusal is not None:
            # RFC 5321 section 3.1: a server that refuses to serve greets with 554; 421 is for later.
            code = 554 if refusal.verdict.decision is Decision.REJECT else 421
            reply = None if refusal.verdict.reply is None else replace(refusal.verdict.reply, code=code)
            return self._refuse(refusal, Stage.CONNECT, reply=reply)
        protocol = "LMTP" if self._service.lmtp else "ESMTP"
        return Reply.of(220, None, f"{self._service.hostname} {protocol} Sluicegate")

    async def turn_away(self, limit: str) -> Reply:
        """The refusal instead of a banner where there are too many connections already, by that limit."""
        verdict = tempfail("overloaded", code=421, status="4.3.2", detail=limit)
        return self._refuse_by_us(verdict, Stage.CONNECT)

    async def helo(self, argument: bytes) -> Reply:
        """HELO: no extensions from here on."""
        if self._service.lmtp:
            return THIS_IS_LMTP
        return await self._hello(argument, esmtp=False) or Reply.of(250, None, self._service.hostname)

    async def ehlo(self, argument: bytes) -> Reply:
        """EHLO: the extensions we offer."""
        return THIS_IS_LMTP if self._service.lmtp else await self._greeted(argument)

    async def lhlo(self, argument: bytes) -> Reply:
        """LHLO: what EHLO is, in LMTP (RFC 2033 section 4.1)."""
        return await self._greeted(argument) if self._service.lmtp else THIS_IS_SMTP

    async def _greeted(self, argument: bytes) -> Reply:
        refused = await self._hello(argument, esmtp=True)
        offered = keywords(self._service, self._session, self._offer)
        offered += identity_keywords(self._service, self._peer)
        return refused or Reply(250, None, (self._service.hostname, *offered))

    def starttls(self, argument: bytes) -> Reply:
        """STARTTLS: whether the handshake may begin (RFC 3207 section 4)."""
        if argument:
            return NO_ARGUMENT
        if self._session.tls is not None:
            return ENCRYPTED_ALREADY
        return NO_TLS if self._service.certificate is None else START_TLS

    async def secure(self, tls: TLS) -> None:
        """The handshake is done: nothing the client said before it counts (RFC 3207 section 4.2)."""
        await self._reset()
        self._session = replace(self._session, tls=tls, helo_name=None, esmtp=False)

    @property
    def is_authenticating(self) -> bool:
        """True while the client's next line is an answer to a challenge, and no command."""
        return self._authentication.is_under_way

    async def auth(self, argument: bytes) -> Reply:
        """AUTH: begins an exchange, or ends at once (RFC 4954 section 4)."""
        return self._authenticated(await self._authentication.begin(argument, self._here()))

    async def answer(self, line: bytes) -> Reply:
        """The next line of the exchange."""
        return self._authenticated(await self._authentication.go_on(line, self._here()))

    async def line_too_long(self) -> Reply:
        """The client said something that is longer than anything it could have to say."""
        if self._authentication.is_under_way:
            return self._authentication.too_long(self._here())
        return LINE_TOO_LONG

    async def proxy(self, argument: bytes) -> Reply:
        """PROXY where nobody asked for it: no command, but an attempt to be somebody else."""
        return self._refuse_identity(b"PROXY " + argument)

    async def xclient(self, argument: bytes) -> Reply:
        """XCLIENT: the dialogue begins anew, with another client."""
        if not is_believed(self._service, self._peer):
            return self._refuse_identity(b"XCLIENT " + argument)
        if self._envelope is not None:
            return NESTED_MAIL
        try:
            session = claimed(self._session, self._peer, parse_xclient(argument))
        except CommandError as error:
            return error.reply
        await self._reset()
        self._session = replace(session, tls=self._session.tls, helo_name=None, esmtp=False)
        self._authentication.close()
        self._authentication = Authentication(self._service)
        await self._early.close()
        self._early = EarlyStages(self._service)
        self._stage = Stage.CONNECT
        return await self.greet()

    async def xforward(self, argument: bytes) -> Reply:
        """XFORWARD: whose mail the next transaction is."""
        if not is_believed(self._service, self._peer):
            return self._refuse_identity(b"XFORWARD " + argument)
        if self._envelope is not None:
            return NESTED_MAIL
        try:
            claim = parse_xforward(argument)
        except CommandError as error:
            return error.reply
        if self._visitor is None or self._visitor.is_judged:
            await self._see_off()
            self._visitor = Visitor(self._service, self._session)
        self._visitor.learn(claim)
        return OK

    async def mail(self, argument: bytes) -> Reply:
        """MAIL: opens a transaction."""
        if self._session.helo_name is None:
            return NO_LHLO if self._service.lmtp else NO_HELO
        if self._envelope is not None:
            return NESTED_MAIL
        if self._service.recorder.is_full:
            return JOURNAL_FULL
        try:
            reverse_path, parameters = parse_mail(argument)
            size = parse_size(parameters)
            check_mail(self._service, self._session, self._offer, reverse_path, parameters)
        except CommandError as error:
            return self._refuse_command(error, Stage.MAIL, argument)
        # On the connection on which a client logged in there is one transaction at a time.
        takes_several = prdr.KEYWORD in parameters and self._session.authenticated is None
        self._answers_for_each = self._service.lmtp or takes_several
        envelope = Envelope(reverse_path, parameters=passed_on(parameters, self._session))
        if size is not None and size > self._offer.size:
            verdict = reject("message-too-big", code=552, status="5.3.4", detail=f"SIZE={size}")
            return self._refuse_by_us(verdict, Stage.MAIL, envelope)
        if not self._service.descriptors.take_for_transaction():
            verdict = _overloaded("4.3.2", "file descriptors of the worker (RLIMIT_NOFILE)")
            return self._refuse_by_us(verdict, Stage.MAIL, envelope)
        return await self._open(envelope)

    async def rcpt(self, argument: bytes) -> Reply:
        """RCPT: judged, then asked of the downstream."""
        if self._envelope is None:
            return NO_MAIL
        if self._chunks is not None:
            return CHUNKS_BEGUN
        try:
            recipient, parameters = parse_rcpt(argument)
            check_rcpt(self._service, self._offer, self._envelope, recipient, parameters)
        except CommandError as error:
            return self._refuse_command(error, Stage.RCPT, argument)
        self._stage = Stage.RCPT
        transaction = await self._opened(self._envelope)
        if transaction.recipient_count >= self._offer.recipients:
            verdict = tempfail("too-many-recipients", code=452, status="4.5.3", detail=str(recipient))
            return self._refuse_by_us(verdict, Stage.RCPT, self._envelope)
        return await transaction.add_recipient(recipient, parameters)

    def data(self, argument: bytes) -> Reply:
        """DATA: 354 where there is anybody to send to."""
        if self._envelope is None:
            return NO_MAIL
        if argument:
            return NO_ARGUMENT
        return CHUNKS_BEGUN if self._chunks is not None else self._why_no_content() or START_CONTENT

    def bdat(self) -> ChunkedMessage:
        """BDAT: where its chunk goes; its refusal, if there is one, is the reply."""
        if self._envelope is None:
            return ChunkedMessage(self._service, NO_MAIL)
        if self._chunks is not None and self._chunks.refusal is not None:
            return ChunkedMessage(self._service, CHUNKS_REFUSED)
        if self._chunks is not None:
            return self._chunks
        chunks = ChunkedMessage(self._service, self._why_no_content())
        if self._envelope is not None:
            self._chunks = chunks
        return chunks

    def spool(self) -> Spool:
        """Where the content goes."""
        return Spool(self._service.store, self._service.max_message_size)

    @property
    def _recipient_count(self) -> int:
        return 0 if self._transaction is None else self._transaction.recipient_count

    @property
    def replies_due(self) -> int:
        """How many replies the client expects to the end of data (RFC 2033 section 4.2)."""
        return self._recipient_count if self._service.lmtp else 1

    async def end_of_data(self, spool: Spool, has_bare_newline: bool) -> Sequence[Reply]:
        """The decisive replies. The transaction is over with them."""
        assert self._transaction is not None
        replies = await self._transaction.finish(spool, has_bare_newline)
        self._forget()
        await self._see_off()
        return replies if self._service.lmtp else prdr.block(replies)

    async def rset(self, argument: bytes) -> Reply:
        """RSET: drops the transaction."""
        if argument:
            return NO_ARGUMENT
        await self._reset()
        return OK

    async def quit(self, argument: bytes) -> Reply:
        """QUIT: drops the transaction; the connection closes behind the reply."""
        if argument:
            return NO_ARGUMENT
        await self._reset()
        return BYE

    async def close(self, reason: str) -> None:
        """The connection is gone: give up what is under way, and record that.

        `reason` is why, for the record: `client-disconnected`, `client-timeout`, `client-reset`,
        `too-many-errors` or `shutdown`.
        """
        transaction = self._transaction
        if transaction is not None:
            transaction.drop()
        self._authentication.close()
        if self._envelope is not None and not (transaction and transaction.is_all_refused):
            self._record_abort(self._envelope, transaction, reason)
        opening = self._opening
        self._forget()
        await cancel(opening)
        await self._see_off()
        await self._early.close()

    def fail(self, error: Exception) -> Reply:
        """Something of ours broke: nothing of the open transaction can be trusted. The reply to speak."""
        event = self._event(self._stage, self._envelope)
        if self._transaction is not None:
            self._transaction.drop()
        self._forget()
        if self._authentication.is_under_way:
            self._authentication.close()
        return self._service.recorder.failed(event, error)

    # AUTH

    def _here(self) -> Event:
        return self._event(Stage.HELO, self._envelope)

    def _authenticated(self, reply: Reply) -> Reply:
        self._session = replace(self._session, authenticated=self._authentication.name)
        return reply

    def _why_no_content(self) -> Reply | None:
        """The refusal of content out of turn, or without room for it, which ends the transaction."""
        if not self._recipient_count:
            return NO_RECIPIENTS_LMTP if self._service.lmtp else NO_RECIPIENTS
        if self._service.recorder.is_full:
            return JOURNAL_FULL
        self._stage = Stage.END_OF_DATA
        full = self._service.store.refusal()
        return self._refuse_to_store(full) if full else None

    # HELO and EHLO

    async def _hello(self, argument: bytes, esmtp: bool) -> Reply | None:
        """Everything HELO and EHLO share; a reply only where they are refused."""
        try:
            name = parse_helo(argument)
        except CommandError as error:
            return error.reply
        await self._reset()
        self._session = replace(self._session, helo_name=name, esmtp=esmtp, lmtp=self._service.lmtp)
        self._offer = offer_to(self._service, esmtp)
        self._stage = Stage.HELO
        await self._early.judge_greeting(self._session)
        refusal = await self._early.refusal_at_once()
        return None if refusal is None else self._refuse(refusal, Stage.HELO)

    def _refuse(
        self,
        refusal: Judgement,
        stage: Stage,
        *,
        envelope: Envelope | None = None,
        reply: Reply | None = None,
    ) -> Reply:
        return self._service.recorder.refused(self._event(stage, envelope), refusal, reply)

    def _event(self, stage: Stage, envelope: Envelope | None) -> Event:
        session, early = self._client
        return Event(session=session, case=early.case, spoken=stage.value, envelope=envelope)

    # MAIL

    async def _open(self, envelope: Envelope) -> Reply:
        self._envelope = envelope
        self._stage = Stage.MAIL
        if self._visitor is not None:
            await self._visitor.judge()
        if self._service.pipeline.has_policies(Stage.MAIL):
            self._opening = asyncio.create_task(self._open_transaction(envelope))
        if self._service.speak == "connect":
            refusal = (await self._opened(envelope)).early_refusal
            if refusal is not None:
                self._forget()
                return self._refuse(refusal, Stage.MAIL, envelope=envelope)
        return OK

    async def _opened(self, envelope: Envelope) -> MailTransaction:
        """The transaction, once the stages before RCPT have been judged."""
        if self._transaction is None:
            opening: Awaitable[MailTransaction] = self._opening or self._open_transaction(envelope)
            self._transaction = await opening
        return self._transaction

    async def _open_transaction(self, envelope: Envelope) -> MailTransaction:
        session, stages = self._client
        case, early = await stages.judge_sender(session, envelope)
        return self._begin(envelope, case, early)

    def _begin(self, envelope: Envelope, case: CaseFile, early: Judgement | None) -> MailTransaction:
        session, _ = self._client
        connections = self._authentication.connections
        return MailTransaction(
            self._service, connections, session, envelope, case, early, self._answers_for_each
        )

    @property
    def _client(self) -> tuple[Session, EarlyStages]:
        """Whose mail it is, and what is found out about that client."""
        visitor = self._visitor
        return (self._session, self._early) if visitor is None else (visitor.session, visitor.early)

    # Refusals of our own

    def _refuse_command(self, error: CommandError, stage: Stage, argument: bytes) -> Reply:
        """A command that cannot be followed is a refusal like any other, and recorded like one."""
        refuse = reject if error.reply.is_permanent else tempfail
        verdict = refuse(
            error.reason,
            text=error.reply.text,
            code=error.reply.code,
            status=error.reply.status or "5.5.4",
            detail=argument[:500].decode("ascii", "backslashreplace"),
        )
        return self._refuse_by_us(verdict, stage, self._envelope)

    def _refuse_identity(self, command: bytes) -> Reply:
        detail = command[:500].decode("ascii", "backslashreplace")
        return self._refuse_by_us(reject("identity-refused", status="5.7.0", detail=detail), self._stage)

    def _refuse_by_us(self, verdict: Verdict, stage: Stage, envelope: Envelope | None = None) -> Reply:
        """A refusal that is no policy's."""
        return self._refuse(Judgement(verdict, None, stage.value), stage, envelope=envelope)

    def _refuse_to_store(self, detail: str) -> Reply:
        """No room for the content. The transaction is over, and may be tried again from its start."""
        assert self._transaction is not None
        envelope = self._transaction.envelope
        self._transaction.drop()
        self._forget()
        return self._refuse_by_us(_overloaded("4.3.1", detail), Stage.END_OF_DATA, envelope)

    # Ends

    async def _reset(self) -> None:
        """RSET, EHLO, QUIT: the client gave the transaction up itself."""
        if self._transaction is not None:
            self._transaction.drop()
            if self._envelope is not None and self._recipient_count:
                self._record_abort(self._envelope, self._transaction, "client-reset")
        opening = self._opening
        self._forget()
        await cancel(opening)
        await self._see_off()

    async def _see_off(self) -> None:
        """Whom XFORWARD brought, it brought for one transaction."""
        visitor, self._visitor = self._visitor, None
        if visitor is not None:
            await visitor.early.close()

    def _forget(self) -> None:
        if self._chunks is not None:
            self._chunks.spool.close()
            self._chunks = None
        if self._envelope is not None:
            self._service.descriptors.give_back_transaction()
        self._transaction = None
        self._opening = None
        self._envelope = None

    def _record_abort(self, envelope: Envelope, transaction: MailTransaction | None, reason: str) -> None:
        if transaction is None:
            transaction = self._begin(envelope, self._client[1].case, None)
        transaction.record_abort(self._stage, reason)


def _overloaded(status: str, detail: str) -> Verdict:
    """Not now: there is no room for the message, and the operator is told what for."""
    text = "Insufficient system resources, please try again later"
    return tempfail("overloaded", text=text, code=452, status=status, detail=detail)
