"""What is said to one client: RFC 5321 sections 3 and 4, command by command.

Each command is a method that takes the octets behind the verb and returns the reply; those by which the
client says who it is are in `introduction`. No socket is known here and no byte is read; `connection`
does that.
"""

import asyncio
from collections.abc import Awaitable, Sequence

from gateway.casefile import CaseFile, Judgement
from gateway.hearing.early import cancel
from gateway.hearing.refusals import malformed, overloaded, too_big
from gateway.proxy.chunking import ChunkedMessage
from gateway.proxy.extensions import check_mail, check_rcpt, passed_on
from gateway.proxy.introduction import Introduction
from gateway.proxy.replies import (
    BYE,
    CHUNKS_BEGUN,
    CHUNKS_REFUSED,
    NESTED_MAIL,
    NO_ARGUMENT,
    NO_HELO,
    NO_LHLO,
    NO_MAIL,
    NO_RECIPIENTS,
    NO_RECIPIENTS_LMTP,
    OK,
    START_CONTENT,
)
from gateway.proxy.service import ProxyService
from gateway.proxy.transaction import MailTransaction
from gateway.recorder import JOURNAL_FULL
from gateway.smtp import prdr
from gateway.smtp.command import CommandError, parse_mail, parse_rcpt, parse_size
from gateway.smtp.envelope import Envelope
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage
from gateway.spool import Spool
from policies.verdict import tempfail


class Dialogue(Introduction):
    """One client connection's state: who it is, and the open transaction if any."""

    def __init__(self, service: ProxyService, session: Session) -> None:
        super().__init__(service, session)
        self._opening: asyncio.Task[MailTransaction] | None = None
        self._transaction: MailTransaction | None = None
        self._answers_for_each = service.lmtp
        self._chunks: ChunkedMessage | None = None

    @property
    def is_committed(self) -> bool:
        """True while the downstream decides about a message it has whole: nothing may interrupt."""
        return self._transaction is not None and self._transaction.is_committed

    @property
    def is_in_transaction(self) -> bool:
        """Whether MAIL was answered with yes, and what it began is not over."""
        return self._envelope is not None

    def lose_client(self) -> None:
        """Nobody will hear the reply to a message that the downstream has already."""
        if self._transaction is not None:
            self._transaction.lose_client()

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
            return self._refuse_by_us(too_big(f"SIZE={size}"), Stage.MAIL, envelope)
        if not self._service.descriptors.take_for_transaction():
            verdict = overloaded("4.3.2", "file descriptors of the worker (RLIMIT_NOFILE)")
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

    # MAIL and RCPT

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
    def _recipient_count(self) -> int:
        return 0 if self._transaction is None else self._transaction.recipient_count

    # Refusals of our own

    def _refuse_command(self, error: CommandError, stage: Stage, argument: bytes) -> Reply:
        """A command that cannot be followed is a refusal like any other, and recorded like one."""
        return self._refuse_by_us(malformed(error, argument), stage, self._envelope)

    def _why_no_content(self) -> Reply | None:
        """The refusal of content out of turn, or without room for it, which ends the transaction."""
        if not self._recipient_count:
            return NO_RECIPIENTS_LMTP if self._service.lmtp else NO_RECIPIENTS
        if self._service.recorder.is_full:
            return JOURNAL_FULL
        self._stage = Stage.END_OF_DATA
        full = self._service.store.refusal()
        return self._refuse_to_store(full) if full else None

    def _refuse_to_store(self, detail: str) -> Reply:
        """No room for the content. The transaction is over, and may be tried again from its start."""
        assert self._transaction is not None
        envelope = self._transaction.envelope
        self._transaction.drop()
        self._forget()
        return self._refuse_by_us(overloaded("4.3.1", detail), Stage.END_OF_DATA, envelope)

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
