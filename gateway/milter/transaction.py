"""One mail transaction that an MTA asks about, from MAIL to the end of the message.

It has one party: an MTA takes one answer for the whole message. Nothing is relayed here; what a message
must go through besides is asked of the MTA as changes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.casefile import CaseFile, Judgement
from gateway.headers import header_block, relayed
from gateway.hearing.party import Party
from gateway.hearing.recipients import Heard, Hearing
from gateway.hearing.refusals import header_too_big, refuse_content
from gateway.hearing.service import Service
from gateway.milter.changes import (
    Change,
    Field,
    Hold,
    Recipient,
    header_changes,
    recipient_changes,
    recipients_of,
)
from gateway.quarantine.store import CannotKeep
from gateway.recorder import Event
from gateway.smtp.address import Path
from gateway.smtp.command import Parameters
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.reply import Reply, printable
from gateway.smtp.session import Session
from gateway.smtp.trace import received_field
from gateway.smtp.transaction import Stage
from gateway.spool import Spool
from policies.verdict import Decision, Verdict, tempfail

_AT_END = Stage.END_OF_DATA.value
_MAX_REASON = 200


@dataclass(slots=True)
class Submission:
    """A message, its octets, and its header fields as the MTA has them. `queue_id` is the MTA's.

    With `is_cut` there was more header than is kept.
    """

    message: Message
    spool: Spool
    fields: Sequence[Field]
    is_cut: bool
    queue_id: str | None
    _is_closed: bool = False

    def close(self) -> None:
        """Give the octets back, on the loop; once, however often it is said."""
        if not self._is_closed:
            self._is_closed = True
            self.spool.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the MTA is to do: refuse with `reply`, throw the message away, or go on, with `changes`."""

    reply: Reply | None = None
    is_discard: bool = False
    changes: tuple[Change, ...] = ()


GO_ON = Answer()


class MilterTransaction:
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
        self._hearing = Hearing(service, session, envelope, case, early)
        self._party: _Asked | None = None

    @property
    def early_refusal(self) -> Judgement | None:
        """What the stages before RCPT came to, if that is a refusal."""
        return self._hearing.early_refusal

    async def add_recipient(self, recipient: Path, parameters: Parameters, known_as: str) -> Answer:
        """Whether this one may have the message; `known_as` is its address to the MTA."""
        heard = await self._hearing.hear(recipient, parameters, self._envelope)
        if heard.refusal is not None:
            return Answer(self._service.recorder.refused(heard.event, heard.refusal))
        party = self._party or _Asked(self._service, self._session, self._envelope, heard)
        separate = party.why_apart(heard)
        if separate is not None:
            judgement = Judgement(separate, None, Stage.RCPT.value)
            return Answer(self._service.recorder.refused(heard.event, judgement))
        self._party = party
        party.take(heard, known_as)
        self._envelope = replace(self._envelope, recipients=party.recipients)
        return GO_ON

    async def finish(self, submission: Submission) -> Answer:
        """The answer to the whole message. The transaction is over with it."""
        if self._party is None:
            # The MTA has recipients that we were not asked about, and they are nobody's here to judge.
            return self.refuse_here(
                tempfail("internal-error", status="4.3.0", detail="no recipient was named")
            )
        return await self._party.finish(submission)

    def refuse_here(self, verdict: Verdict) -> Answer:
        """Refuse the message for a reason of our own, before its content is known."""
        judgement = Judgement(verdict, None, _AT_END)
        return Answer(self._service.recorder.refused(self.event(), judgement))

    def record_abort(self, stage: Stage, detail: str) -> None:
        """Record that the MTA gave this transaction up, where anybody was to get the message."""
        if self._party is not None:
            event = replace(self._party.event(), spoken=stage.value)
            self._service.recorder.aborted(event, "given-up-by-mta", detail)

    def event(self) -> Event:
        """What happens to this transaction after RCPT, for the record."""
        if self._party is not None:
            return self._party.event()
        return Event(
            session=self._session,
            case=self._hearing.start.case,
            spoken=_AT_END,
            envelope=self._envelope,
        )


class _Asked(Party):
    """The recipients of one message, and what becomes of it."""

    def __init__(self, service: Service, session: Session, envelope: Envelope, first: Heard) -> None:
        super().__init__(service, session, envelope, first)
        self._named: list[Recipient] = []
        self._queue_id: str | None = None

    def take(self, heard: Heard, known_as: str) -> None:
        """One more recipient."""
        target = heard.case.take_redirect() or heard.recipient
        self.admit(heard)
        self._named.append(Recipient(heard.recipient, target, known_as))

    def event(self, message: Message | None = None) -> Event:
        """What happens to them after RCPT, for the record."""
        return replace(super().event(message), queue_id=self._queue_id)

    async def finish(self, submission: Submission) -> Answer:
        """Judge the message; record and say what becomes of it."""
        self._queue_id = submission.queue_id
        message, spool = submission.message, submission.spool
        refused = self._refuse_content(submission)
        if refused is not None:
            is_whole = not (spool.overflowed or spool.failure or submission.is_cut)
            return self._refuse(message if is_whole else None, Judgement(refused, None, _AT_END))
        judgement = await self.ask(message, self._trace(), self._service.next_deadline())
        refusal = self._case.conclude(judgement)
        try:
            return await (
                self._let_pass(message, submission.fields, judgement)
                if refusal is None
                else self._turn_back(message, refusal)
            )
        except CannotKeep as error:
            verdict = tempfail("storage-failed", code=452, status="4.3.1", detail=str(error))
            return self._refuse(message, Judgement(verdict, None, _AT_END))

    def _refuse_content(self, submission: Submission) -> Verdict | None:
        if submission.is_cut:
            return header_too_big("more header than is kept")
        hostname = self._service.hostname
        return refuse_content(submission.spool, submission.message, has_bare_newline=False, hostname=hostname)

    def _trace(self) -> bytes:
        """The Received field that the MTA puts on top, as far as we know it, for scanners to look at."""
        now = datetime.now().astimezone()
        by = self._session.mta.name if self._session.mta else ""
        return received_field(
            self._session, by or self._service.hostname, self.reference, self._envelope, now
        )

    def _refuse(self, message: Message | None, refusal: Judgement) -> Answer:
        event = self.event(message)
        return Answer(self._service.recorder.refused(event, refusal, reference=self.reference))

    async def _turn_back(self, message: Message, refusal: Judgement) -> Answer:
        if self._keeping.is_refusal_kept(refusal):
            left = recipients_of(self._case, self._named)
            event = self.event(message)
            await self._keeping.keep_refused(event, refusal, left, self._content(message))
        return self._refuse(message, refusal)

    async def _let_pass(
        self, message: Message, fields: Sequence[Field], judgement: Judgement | None
    ) -> Answer:
        """Go on with the message, or have it held or thrown away. Raises CannotKeep."""
        event = self.event(message)
        wanted = recipients_of(self._case, self._named)
        if self._keeping.is_copy_wanted:
            await self._keeping.keep(event, judgement, wanted, self._content(message))
        try:
            return self._answer(event, fields, wanted, judgement)
        except BaseException:
            self._keeping.forget_copy()
            raise

    def _answer(
        self, event: Event, fields: Sequence[Field], wanted: Sequence[Path], judgement: Judgement | None
    ) -> Answer:
        """What the MTA is to do, recorded."""
        recorder = self._service.recorder
        remark = "; ".join(self.unsaid())
        changes = [*self._header_changes(fields), *recipient_changes(self._named, wanted)]
        if judgement is None or not judgement.verdict.is_taking:
            recorder.passed(event, self.reference, judgement, remark)
            return Answer(changes=tuple(changes))
        recorder.left_to_mta(event, self.reference, judgement, remark)
        if judgement.verdict.decision is Decision.DISCARD:
            self.warn_of_discard(judgement)
            return Answer(is_discard=True)
        reason = f"{judgement.verdict.reason} (ref {self.reference})"
        return Answer(changes=(*changes, Hold(printable(reason)[:_MAX_REASON])))

    def _header_changes(self, fields: Sequence[Field]) -> Iterator[Change]:
        return header_changes(self._case, fields, self.reference, self._service.hostname)

    def _content(self, message: Message) -> Iterable[bytes]:
        """The message as the MTA is asked to pass it on."""
        hostname = self._service.hostname
        block = header_block(self._case, b"", self.reference, hostname)
        return relayed(self._case, block, message, hostname)
