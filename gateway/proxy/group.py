"""Recipients of one transaction whose message meets one fate: the same profile, the same downstream.

A transaction has one group, unless the client takes a reply for each recipient (LMTP, PRDR). Each group
has its own transaction downstream, so that what one group is refused another can still be given.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.casefile import Judgement
from gateway.headers import header_block, relayed
from gateway.hearing.party import Party
from gateway.hearing.recipients import Heard
from gateway.journal.record import DownstreamRecord
from gateway.journal.writer import JournalFull
from gateway.proxy.addressing import Addressing, AddressingError, address, recipients_of
from gateway.proxy.handover import Handover
from gateway.proxy.service import ProxyService
from gateway.quarantine.store import CannotKeep
from gateway.recorder import Event, only
from gateway.relay.answers import as_spoken, verdict_of_failure, verdict_of_refusal
from gateway.relay.client import DownstreamError
from gateway.relay.delivery import Delivery
from gateway.relay.pool import Connections
from gateway.relay.router import Destination
from gateway.smtp.address import Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.trace import received_field
from gateway.smtp.transaction import Stage
from policies.verdict import Decision, Verdict, tempfail


class Group(Party):
    """A party with a transaction of its own downstream. Ends with `answers` complete, or with `drop`."""

    def __init__(
        self,
        service: ProxyService,
        connections: Connections,
        session: Session,
        envelope: Envelope,
        destination: Destination,
        first: Heard,
        answers_for_each: bool = False,
    ) -> None:
        super().__init__(service, session, envelope, first, answers_for_each)
        self.client_has_gone = False
        self.answers: Sequence[Reply] = ()
        self._router = service.router
        self._connections = connections
        self._delivery = self._deliver_to(destination)
        self._is_keeping = False
        self._judgement: Judgement | None = None
        self._refused: dict[int, Reply] = {}
        self._received = b""

    @property
    def destination(self) -> Destination:
        """Where its mail goes."""
        return self._delivery.destination

    @property
    def is_committed(self) -> bool:
        """True once somebody may have the message: from then on what becomes of it is awaited."""
        return self._delivery.is_committed or self._is_keeping

    def drop(self) -> None:
        """Give up, wherever it is; nothing is delivered."""
        self._delivery.abandon()

    async def add(self, heard: Heard, target: Path) -> Reply:
        """RCPT at the downstream, for `target`; its reply is the client's. A refusal is recorded."""
        event = heard.event
        parameters = event.envelope.recipient_parameters if event.envelope else {}
        try:
            reply = as_spoken(await self._delivery.add(target, parameters), "5.1.1")
        except DownstreamError as error:
            return self._refuse(event, verdict_of_failure(error, str(error)), Stage.RCPT.value)
        if not reply.is_positive:
            event = replace(event, downstream=DownstreamRecord(self._delivery.address, str(reply)))
            return self._refuse(event, verdict_of_refusal(reply), Stage.RCPT.value, reply)
        self.admit(heard)
        return reply

    # The verdict

    async def judge(self, message: Message, deadline: float) -> None:
        """Ask the policies about the message. A refusal is recorded and is then the `answers`."""
        self._received = received_field(
            self._session,
            self._service.hostname,
            self.reference,
            self._envelope,
            datetime.now().astimezone(),
        )
        judgement = await self.ask(message, self._received + message.border, deadline)
        if self._answers_for_each and self._case.refusals:
            self._refuse_some(message)
        refusal = self._case.conclude(judgement)
        if refusal is not None and self._keeping.is_refusal_kept(refusal):
            left = recipients_of(self._case, self._delivery.accepted, ())
            event = self._event(message)
            await self._keeping.keep_refused(event, refusal, left, self._content(message))
        if refusal is not None and not self.answers:
            self.refuse(self._event(message), refusal, self.reference)
        self._judgement = judgement

    def _refuse_some(self, message: Message) -> None:
        """Refuse it to those recipients for whom a policy did."""
        is_all = self._case.refusals.keys() >= set(self.recipients)
        reference = self.reference if is_all else None
        for judgement in dict.fromkeys(self._case.refusals.values()):
            refused = [self._case.refusals.get(each) is judgement for each in self.recipients]
            numbers = [number for number, is_refused in enumerate(refused) if is_refused]
            event = only(self.event(message), numbers)
            reply = self._service.recorder.refused(event, judgement, reference=reference)
            reference = None
            self._refused |= dict.fromkeys(numbers, reply)
        if len(self._refused) == len(self.recipients):
            self.drop()
            self.answers = [self._refused[number] for number in range(len(self.recipients))]

    def refuse(self, event: Event, refusal: Judgement, reference: str | None = None) -> None:
        """Refuse the message for all recipients of the group."""
        self.drop()
        reply = self._service.recorder.refused(event, refusal, reference=reference)
        self._answer_the_rest(reply)

    def fail(self, error: Exception) -> None:
        """Something of ours broke: nothing of this group can be trusted."""
        self.drop()
        self._answer_the_rest(self._service.recorder.failed(self.event(), error))

    def _answer_the_rest(self, reply: Reply) -> None:
        """The answer to all who were not answered one by one."""
        self.answers = [self._refused.get(number, reply) for number in range(len(self.recipients))]

    # What is done about it

    async def relay(self, message: Message, deadline: float) -> None:
        """Hand the message over, or keep it, unless it was refused; record what became of it."""
        if self.answers:
            return
        try:
            if self._judgement is not None and self._judgement.verdict.is_taking:
                await self._take(message, self._judgement)
            else:
                await self._hand_over(message, deadline)
        except AddressingError as error:
            self._give_up(message, tempfail("policy-error", status="4.3.0", detail=str(error)))
        except CannotKeep as error:
            self._give_up(message, tempfail("storage-failed", code=452, status="4.3.1", detail=str(error)))

    async def _take(self, message: Message, judgement: Judgement) -> None:
        """Take the message from the client without handing it on. Raises CannotKeep."""
        self.drop()
        is_discarded = judgement.verdict.decision is Decision.DISCARD
        if not is_discarded or self._keeping.is_copy_wanted:
            # The client may leave now: whoever comes again finds that it has been taken.
            self._is_keeping = True
            left = recipients_of(self._case, self._delivery.accepted, self._refused)
            await self._keeping.keep(self._event(message), judgement, left, self._content(message))
        if is_discarded:
            self.warn_of_discard(judgement)
        try:
            remark = "; ".join(self._remarks())
            reply = self._service.recorder.taken(self._event(message), self.reference, judgement, remark)
        except JournalFull:
            # Without a record it was not taken: its client hears so, and comes again.
            self._keeping.forget()
            raise
        self._answer_the_rest(reply)

    async def _hand_over(self, message: Message, deadline: float) -> None:
        """Raises AddressingError, or CannotKeep where a copy is wanted."""
        addressing = self._readdress()
        if self._keeping.is_copy_wanted:
            left = [path for path, _ in addressing.targets]
            event = self._event(message)
            await self._keeping.keep(event, self._judgement, left, self._content(message))
        handover = Handover(self._service.recorder, self._delivery, addressing, self.event(message))
        try:
            await handover.run(self._content(message), deadline)
        except BaseException:
            self._keeping.forget_copy()
            raise
        answers = handover.answers(self.reference, self._judgement, self._remarks())
        if not any(map(_is_final, answers.values())):
            self._keeping.forget_copy()
        answers |= self._refused
        self.answers = [answers[number] for number in range(len(self.recipients))]

    def _readdress(self) -> Addressing:
        """What policies make of the recipients; the downstream is told. Raises AddressingError."""
        heard = self._delivery.accepted
        addressing = address(self._case, self._router, self.destination, heard, self._refused)
        if addressing.destination is not self.destination:
            self._delivery.abandon()
            self._delivery = self._deliver_to(addressing.destination)
        if addressing.is_changed:
            self._delivery.readdress(addressing.targets)
        return addressing

    def _give_up(self, message: Message, verdict: Verdict) -> None:
        self.refuse(self._event(message), Judgement(verdict, None, Stage.END_OF_DATA.value))

    def _deliver_to(self, destination: Destination) -> Delivery:
        return Delivery(self._connections, destination, self._session, self._envelope)

    def _content(self, message: Message) -> Iterator[bytes]:
        """The message as it leaves us."""
        hostname = self._service.hostname
        block = header_block(self._case, self._received, self.reference, hostname)
        return relayed(self._case, block, message, hostname)

    def _event(self, message: Message) -> Event:
        """What happens to those who were not refused one by one."""
        left = [number for number in range(len(self.recipients)) if number not in self._refused]
        return only(self.event(message), left)

    def _remarks(self) -> Iterator[str]:
        """What the operator should know beside the verdict."""
        if self.client_has_gone:
            yield "the client has gone and may send the message again"
        yield from self.unsaid()

    def _refuse(self, event: Event, verdict: Verdict, stage: str, reply: Reply | None = None) -> Reply:
        return self._service.recorder.refused(event, Judgement(verdict, None, stage), reply)


def _is_final(reply: Reply) -> bool:
    return reply.is_positive or reply.is_permanent
