"""One mail transaction, from MAIL to the reply after the end of data (RFC 5321 section 3.3).

It judges, relays and records; what it returns is the reply to speak. Resetting means dropping it.
"""

import asyncio
from dataclasses import replace
from datetime import datetime

from gateway.casefile import CaseFile, Judgement
from gateway.headers import header_block, relayed
from gateway.journal.record import DownstreamRecord, new_reference
from gateway.proxy.service import Service
from gateway.recorder import Event
from gateway.relay.client import DownstreamError
from gateway.relay.delivery import Delivery
from gateway.smtp.address import Path
from gateway.smtp.command import Parameters
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import MAX_HEADER_SECTION, Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.trace import received_field
from gateway.smtp.transaction import Stage, Transaction
from gateway.spool import Spool
from policies.verdict import Decision, Verdict, reject, tempfail

RELAY = "relay"
_ABORTED_AT = {
    Stage.MAIL: "after MAIL, before any recipient",
    Stage.RCPT: "after RCPT, before DATA",
    Stage.END_OF_DATA: "after DATA, before our reply",
}


class MailTransaction:
    """Created at MAIL with a fork of the session's case file and the verdict of the stages so far."""

    def __init__(
        self,
        service: Service,
        session: Session,
        envelope: Envelope,
        case: CaseFile,
        early: Judgement | None,
    ) -> None:
        self._service = service
        self._session = session
        self._envelope = envelope
        self._case = case
        self._early = early
        self.client_has_gone = False
        self._delivery: Delivery | None = None
        self._tried_recipients = 0
        self._refused_recipients = 0

    @property
    def is_committed(self) -> bool:
        """True once the end of data went to the downstream: from then on its answer is awaited."""
        return self._delivery is not None and self._delivery.is_committed

    @property
    def recipients(self) -> tuple[Path, ...]:
        """The recipients accepted so far."""
        return self._envelope.recipients

    @property
    def is_all_refused(self) -> bool:
        """Whether there were recipients, and each was refused: those refusals are its record."""
        return self._refused_recipients == self._tried_recipients > 0

    async def add_recipient(self, recipient: Path, parameters: Parameters) -> Reply:
        """The reply to RCPT: a policy's, else the downstream's own."""
        self._tried_recipients += 1
        case = self._case.fork(Stage.RCPT)
        envelope = replace(self._envelope, recipient=recipient, recipient_parameters=parameters)
        event = Event(session=self._session, case=case, spoken=Stage.RCPT.value, envelope=envelope)
        refusal = await self._judge_recipient(Transaction(Stage.RCPT, self._session, envelope), case)
        if refusal is not None:
            return self._refuse(event, refusal)
        return await self._ask_downstream(event, recipient)

    async def finish(self, spool: Spool, has_bare_newline: bool) -> Reply:
        """The reply after the end of data. The transaction is over with it."""
        message = Message(spool)
        event = Event(
            session=self._session,
            case=self._case,
            spoken=Stage.END_OF_DATA.value,
            envelope=self._envelope,
            message=None if spool.overflowed or spool.failure else message,
        )
        refused = _refuse_content(spool, message, has_bare_newline)
        if refused is not None:
            return self._refuse(event, Judgement(refused, None, Stage.END_OF_DATA.value))
        return await self._judge_and_relay(event, message)

    @property
    def early_refusal(self) -> Judgement | None:
        """What the stages before RCPT came to, if that is a refusal."""
        return self._case.conclude(self._early)

    def drop(self) -> None:
        """Give up, wherever it is; nothing is delivered."""
        if self._delivery is not None:
            self._delivery.abandon()

    def record_abort(self, stage: Stage, reason: str) -> None:
        """Record that this transaction ended without our answer."""
        event = Event(session=self._session, case=self._case, spoken=stage.value, envelope=self._envelope)
        self._service.recorder.aborted(event, reason, _ABORTED_AT[stage])

    # RCPT

    async def _judge_recipient(self, tx: Transaction, case: CaseFile) -> Judgement | None:
        early = self._early
        recipient = tx.envelope.recipient
        if recipient is not None and recipient.is_postmaster:
            # Whoever is refused must be able to ask why (RFC 5321 section 4.5.1).
            case.deferral = None
        elif early is not None and early.verdict.is_refusal:
            return early
        judgement = None
        if not self._is_exempt:
            judgement = await self._service.pipeline.judge(tx, case, self._service.next_deadline())
        return case.conclude(judgement)

    async def _ask_downstream(self, event: Event, recipient: Path) -> Reply:
        destination = self._service.router.find(recipient)
        if destination is None:
            return self._refuse(event, _by_us(reject("relay-denied"), Stage.RCPT))
        delivery = self._delivery
        if delivery is not None and delivery.destination is not destination and not self.recipients:
            # Nobody was accepted there, so nothing keeps the message from going elsewhere.
            delivery.abandon()
            delivery = None
        if delivery is None:
            delivery = Delivery(self._service.pool, destination, self._session, self._envelope)
            self._delivery = delivery
        elif delivery.destination is not destination:
            text = "This recipient has another destination, please send the message to it separately"
            return self._refuse(
                event, _by_us(tempfail("other-relay", text=text, code=452, status="4.5.3"), Stage.RCPT)
            )
        return await self._pass_on(event, recipient, delivery)

    async def _pass_on(self, event: Event, recipient: Path, delivery: Delivery) -> Reply:
        """RCPT at the downstream, whose reply is the client's."""
        parameters = event.envelope.recipient_parameters if event.envelope else {}
        try:
            reply = _spoken(await delivery.add(recipient, parameters), "5.1.1")
        except DownstreamError as error:
            return self._refuse(event, _by_us(_unavailable(str(error)), Stage.RCPT))
        if not reply.is_positive:
            event = replace(event, downstream=DownstreamRecord(delivery.address, str(reply)))
            return self._refuse(event, Judgement(_downstream_verdict(reply), None, Stage.RCPT.value), reply)
        # Only postmaster gets here with a deferral behind it, and is not deferred in the end.
        self._case.deferral = None
        self._case.absorb(event.case)
        self._envelope = replace(self._envelope, recipients=(*self._envelope.recipients, recipient))
        return reply

    # End of data

    async def _judge_and_relay(self, event: Event, message: Message) -> Reply:
        reference = new_reference()
        received = received_field(
            self._session,
            self._service.hostname,
            reference,
            self._envelope.recipients,
            datetime.now().astimezone(),
        )
        tx = Transaction(Stage.END_OF_DATA, self._session, self._envelope, message, received + message.border)
        deadline = self._service.next_deadline()
        judgement = self._early
        if not self._is_exempt:
            judgement = await self._service.pipeline.judge(tx, self._case, deadline)
        refusal = self._case.conclude(judgement)
        if refusal is not None:
            return self._refuse(event, refusal)
        block = header_block(self._case, received, reference, self._service.hostname)
        try:
            async with asyncio.timeout_at(deadline):
                reply = await self._commit(event, block, message)
        except (DownstreamError, TimeoutError) as error:
            return self._refuse_undelivered(event, error)
        return self._answer(event, reference, reply, judgement)

    async def _commit(self, event: Event, block: bytes, message: Message) -> Reply:
        assert self._delivery is not None
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            return await self._delivery.commit(relayed(block, message, self._service.hostname))
        finally:
            event.case.spend(RELAY, loop.time() - started)

    def _answer(self, event: Event, reference: str, reply: Reply, judgement: Judgement | None) -> Reply:
        """The downstream has answered: record that, and say the same."""
        assert self._delivery is not None
        reply = _spoken(reply, None)
        event = replace(event, downstream=DownstreamRecord(self._delivery.address, str(reply)))
        if not reply.is_positive:
            return self._refuse(event, Judgement(_downstream_verdict(reply), None, RELAY), reply)
        remark = "the client has gone and may send the message again" if self.client_has_gone else ""
        self._service.recorder.accepted(event, reference, reply, judgement, remark)
        return reply

    def _refuse_undelivered(self, event: Event, error: Exception) -> Reply:
        """The downstream did not answer, or not in time. If it had the whole message we cannot know."""
        assert self._delivery is not None
        event = replace(event, downstream=DownstreamRecord(self._delivery.address))
        detail = str(error) or "the deadline passed while relaying"
        if self.is_committed:
            detail += " (after the end of data: the downstream may have taken the message)"
        self.drop()
        verdict = _unavailable(detail)
        if isinstance(error, TimeoutError):
            verdict = tempfail("deadline-exceeded", status="4.4.7", detail=detail)
        return self._refuse(event, Judgement(verdict, None, RELAY))

    # Both

    @property
    def _is_exempt(self) -> bool:
        return self._early is not None and self._early.verdict.decision is Decision.ACCEPT

    def _refuse(self, event: Event, judgement: Judgement, reply: Reply | None = None) -> Reply:
        if event.spoken == Stage.END_OF_DATA.value:
            self.drop()
        else:
            self._refused_recipients += 1
        return self._service.recorder.refused(event, judgement, reply)


def _refuse_content(spool: Spool, message: Message, has_bare_newline: bool) -> Verdict | None:
    """What no policy has to look at: too big, undeliverable by its line endings, not stored."""
    if spool.overflowed:
        return reject("message-too-big", code=552, status="5.3.4", detail=f"{spool.size} octets")
    if spool.failure:
        return tempfail("storage-failed", code=452, status="4.3.1", detail=spool.failure)
    if has_bare_newline:
        return reject("bare-newline", status="5.6.11")
    if message.is_all_header:
        detail = f"more than {MAX_HEADER_SECTION} octets"
        return reject("header-too-big", code=552, status="5.3.4", detail=detail)
    return None


def _by_us(verdict: Verdict, stage: Stage) -> Judgement:
    return Judgement(verdict, None, stage.value)


def _unavailable(detail: str) -> Verdict:
    return tempfail("downstream-unavailable", status="4.4.1", detail=detail)


def _downstream_verdict(reply: Reply) -> Verdict:
    """The downstream's refusal, by our reasons."""
    if not reply.is_permanent:
        return tempfail("downstream-deferred", detail=str(reply))
    unknown = reply.status is not None and reply.status.startswith("5.1.")
    return reject("unknown-recipient" if unknown else "downstream-rejected", detail=str(reply))


def _spoken(reply: Reply, status_of_550: str | None) -> Reply:
    """The downstream's reply as we say it: its code and text, with an enhanced status if it has none.

    421 would announce that we hang up, which we do not.
    """
    code = 451 if reply.code == 421 else reply.code
    if reply.status is not None and code == reply.code:
        return reply
    default = status_of_550 if code == 550 and status_of_550 else f"{code // 100}.0.0"
    return Reply(code, reply.status or default, reply.lines)
