"""Recipients of one transaction whose message meets one fate: the same profile, the same downstream.

A transaction has one group, unless the client takes a reply for each recipient (LMTP, PRDR). Each group
has its own transaction downstream, so that what one group is refused another can still be given.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.casefile import CaseFile, Judgement
from gateway.headers import header_block, relayed
from gateway.journal.record import DownstreamRecord, new_reference
from gateway.profiles import Profile
from gateway.proxy.service import Service
from gateway.recorder import Event
from gateway.relay.client import DownstreamError
from gateway.relay.delivery import Delivery, ExtensionMissing
from gateway.relay.router import Destination
from gateway.smtp.address import Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.trace import received_field
from gateway.smtp.transaction import Stage, Transaction
from policies.verdict import Decision, Verdict, reject, tempfail

RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a transaction starts by one profile: what the stages before RCPT found and came to."""

    case: CaseFile
    early: Judgement | None

    @property
    def is_exempt(self) -> bool:
        """Whether a policy has accepted already, so that no later one is asked."""
        return self.early is not None and self.early.verdict.decision is Decision.ACCEPT


class Group:
    """Created for its first recipient. Ends with `answers` complete, or with `drop`."""

    def __init__(
        self,
        service: Service,
        session: Session,
        envelope: Envelope,
        profile: Profile,
        delivery: Delivery,
        start: Start,
    ) -> None:
        self.profile = profile
        self.client_has_gone = False
        self.answers: Sequence[Reply] = ()
        self._service = service
        self._session = session
        self._envelope = replace(envelope, recipients=())
        self._start = start
        self._case = start.case.fork(Stage.RCPT)
        # Only postmaster gets here with a deferral behind it, and is not deferred in the end.
        self._case.deferral = None
        self._delivery = delivery
        self._accepted_by: Judgement | None = None
        self._reference = new_reference()
        self._received = b""

    @property
    def destination(self) -> Destination:
        """Where its mail goes."""
        return self._delivery.destination

    @property
    def recipients(self) -> tuple[Path, ...]:
        """The recipients accepted so far."""
        return self._envelope.recipients

    @property
    def is_committed(self) -> bool:
        """True once the end of data went to the downstream: from then on its answer is awaited."""
        return self._delivery.is_committed

    def event(self, message: Message | None = None) -> Event:
        """What happens to this group after RCPT, for the record."""
        return Event(
            session=self._session,
            case=self._case,
            spoken=Stage.END_OF_DATA.value,
            envelope=self._envelope,
            message=message,
        )

    def drop(self) -> None:
        """Give up, wherever it is; nothing is delivered."""
        self._delivery.abandon()

    async def add(self, event: Event, recipient: Path) -> Reply:
        """RCPT at the downstream, whose reply is the client's; a refusal is recorded."""
        parameters = event.envelope.recipient_parameters if event.envelope else {}
        try:
            reply = _spoken(await self._delivery.add(recipient, parameters), "5.1.1")
        except DownstreamError as error:
            return self._refuse(event, _unavailable(error, str(error)), Stage.RCPT.value)
        if not reply.is_positive:
            event = replace(event, downstream=DownstreamRecord(self._delivery.address, str(reply)))
            return self._refuse(event, _downstream_verdict(reply), Stage.RCPT.value, reply)
        self._case.absorb(event.case)
        self._envelope = replace(self._envelope, recipients=(*self.recipients, recipient))
        return reply

    async def judge(self, message: Message, deadline: float) -> None:
        """Ask the policies about the message. A refusal is recorded and is then the `answers`."""
        self._received = received_field(
            self._session,
            self._service.hostname,
            self._reference,
            self._envelope,
            datetime.now().astimezone(),
        )
        trace = self._received + message.border
        tx = Transaction(Stage.END_OF_DATA, self._session, self._envelope, message, trace)
        judgement = self._start.early
        if not self._start.is_exempt:
            judgement = await self.profile.pipeline.judge(tx, self._case, deadline)
        refusal = self._case.conclude(judgement)
        if refusal is not None:
            self.refuse(self.event(message), refusal)
        self._accepted_by = judgement

    def refuse(self, event: Event, refusal: Judgement) -> None:
        """Refuse the message for all recipients of the group."""
        self.drop()
        reply = self._service.recorder.refused(event, refusal)
        self.answers = [reply] * len(self.recipients)

    def fail(self, error: Exception) -> None:
        """Something of ours broke: nothing of this group can be trusted."""
        self.drop()
        reply = self._service.recorder.failed(self.event(), error)
        self.answers = [reply] * len(self.recipients)

    async def relay(self, message: Message, deadline: float) -> None:
        """Hand the message over, unless it was refused, and record what became of it."""
        if self.answers:
            return
        failure: Exception | None = None
        try:
            async with asyncio.timeout_at(deadline):
                await self._commit(message)
        except (DownstreamError, TimeoutError) as error:
            failure = error
        self.answers = self._answered(message, failure)

    async def _commit(self, message: Message) -> None:
        block = header_block(self._case, self._received, self._reference, self._service.hostname)
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            await self._delivery.commit(relayed(block, message, self._service.hostname))
        finally:
            self._case.spend(RELAY, loop.time() - started)

    # What the downstream answered, recorded: one record for what it took, one for each refusal

    def _answered(self, message: Message, failure: Exception | None) -> list[Reply]:
        replies = [_spoken(reply, None) for reply in self._delivery.replies]
        answers = {number: reply for number, reply in enumerate(replies) if reply.is_positive}
        if answers:
            self._record_accepted(message, list(answers), list(answers.values()))
        for reply in dict.fromkeys(reply for reply in replies if not reply.is_positive):
            numbers = [number for number, each in enumerate(replies) if each == reply]
            event = self._event_for(message, numbers, str(reply))
            refusal = self._refuse(event, _downstream_verdict(reply), RELAY, reply)
            answers |= dict.fromkeys(numbers, refusal)
        if failure is not None:
            missing = list(range(len(replies), len(self.recipients)))
            refusal = self._refuse_undelivered(self._event_for(message, missing), failure)
            answers |= dict.fromkeys(missing, refusal)
        return [answers[number] for number in range(len(self.recipients))]

    def _event_for(self, message: Message, numbers: Sequence[int], reply: str | None = None) -> Event:
        """The event for some of the recipients, by their numbers, with what the downstream said."""
        envelope = self._envelope
        if len(numbers) < len(self.recipients):
            envelope = replace(envelope, recipients=tuple(self.recipients[number] for number in numbers))
        return Event(
            session=self._session,
            case=self._case,
            spoken=Stage.END_OF_DATA.value,
            envelope=envelope,
            message=message,
            downstream=DownstreamRecord(self._delivery.address, reply),
        )

    def _record_accepted(self, message: Message, numbers: Sequence[int], replies: Sequence[Reply]) -> None:
        event = self._event_for(message, numbers, "; ".join(dict.fromkeys(map(str, replies))))
        remark = "the client has gone and may send the message again" if self.client_has_gone else ""
        self._service.recorder.accepted(event, self._reference, replies[0], self._accepted_by, remark)

    def _refuse_undelivered(self, event: Event, failure: Exception) -> Reply:
        """The downstream did not answer, or not in time. If it had the whole message we cannot know."""
        detail = str(failure) or "the deadline passed while relaying"
        if self.is_committed:
            detail += " (after the end of data: the downstream may have taken the message)"
        self.drop()
        verdict = _unavailable(failure, detail)
        if isinstance(failure, TimeoutError):
            verdict = tempfail("deadline-exceeded", status="4.4.7", detail=detail)
        return self._refuse(event, verdict, RELAY)

    def _refuse(self, event: Event, verdict: Verdict, stage: str, reply: Reply | None = None) -> Reply:
        return self._service.recorder.refused(event, Judgement(verdict, None, stage), reply)


def _unavailable(error: Exception, detail: str) -> Verdict:
    if isinstance(error, ExtensionMissing):
        return tempfail("extension-missing", status="4.3.3", detail=detail)
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
