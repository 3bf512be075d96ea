"""From what a front end knows to a record: one method per kind of event.

Both front ends write their records through this, so a refusal looks the same whoever spoke it.
"""

import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from gateway.casefile import CaseFile, Judgement
from gateway.journal.record import (
    ClientRecord,
    DownstreamRecord,
    MessageRecord,
    MTARecord,
    Record,
    ReplyRecord,
    new_reference,
    timestamp,
)
from gateway.journal.writer import JournalFull
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from policies.verdict import Decision, tempfail

# What is said, unrecorded, where no record could be kept.
JOURNAL_FULL = Reply.of(452, "4.3.1", "Insufficient system storage, please try again later")
_MAX_DETAIL = 4000
# The record's word for each decision that is recorded as such.
VERDICTS = {
    Decision.REJECT: "rejected",
    Decision.TEMPFAIL: "tempfailed",
    Decision.QUARANTINE: "quarantined",
    Decision.DISCARD: "discarded",
}
# Of the header fields that were asked for: names, fields of one name, characters of one value.
_MAX_NAMES, _MAX_NAME, _MAX_FIELDS = 32, 100, 16
MAX_VALUE = 1000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, to whom. `spoken` is where the client hears of it.

    `answers_for_each` says whether the client takes a reply for each recipient after the end of data;
    `None` where that makes no difference. `queue_id` is the message's in the MTA that asked.
    """

    session: Session
    case: CaseFile
    spoken: str
    envelope: Envelope | None = None
    message: Message | None = None
    downstream: DownstreamRecord | None = None
    answers_for_each: bool | None = None
    queue_id: str | None = None

    @property
    def recipients(self) -> list[str]:
        """The one in question if there is one, else those accepted so far."""
        if self.envelope is None:
            return []
        if self.envelope.recipient is not None:
            return [str(self.envelope.recipient)]
        return [str(recipient) for recipient in self.envelope.recipients]


def only(event: Event, numbers: Iterable[int]) -> Event:
    """The same event for some of its recipients, by their numbers."""
    assert event.envelope is not None
    recipients = tuple(event.envelope.recipients[number] for number in numbers)
    return replace(event, envelope=replace(event.envelope, recipients=recipients))


class RecordWriter(Protocol):
    """What takes records: the journal's writer, or a stand-in that keeps them."""

    @property
    def is_full(self) -> bool:
        """True when another record could not be kept."""

    def write(self, record: Record) -> None:
        """Take one record. Raises JournalFull."""


class Recorder:
    """Builds records and appends them to the journal."""

    def __init__(self, writer: RecordWriter, node: str) -> None:
        self._writer = writer
        self._node = node

    @property
    def is_full(self) -> bool:
        """True when another record could not be kept, so no other message may be judged."""
        return self._writer.is_full

    def refused(
        self, event: Event, judgement: Judgement, reply: Reply | None = None, reference: str | None = None
    ) -> Reply:
        """Record a refusal; the reply to speak, with its reference.

        `reply` is for a refusal that is not the verdict's own words but the downstream's, `reference`
        for one that the message is kept under.
        """
        return self._say(event, judgement, reply or judgement.verdict.reply, reference or new_reference())

    def taken(self, event: Event, reference: str, judgement: Judgement, remark: str = "") -> Reply:
        """Record a message that we took and did not hand on; the reply to speak, with its reference.

        `remark` is for the operator.
        """
        return self._say(event, judgement, judgement.verdict.reply, reference, remark)

    def _say(
        self, event: Event, judgement: Judgement, reply: Reply | None, reference: str, remark: str = ""
    ) -> Reply:
        assert reply is not None
        spoken = reply.with_reference(reference)
        self._decided(event, judgement, spoken, reference, remark)
        return spoken

    def _decided(
        self, event: Event, judgement: Judgement, reply: Reply | None, reference: str, remark: str
    ) -> None:
        verdict = judgement.verdict
        self._write(
            event,
            reference=reference,
            verdict=VERDICTS[verdict.decision],
            stage=judgement.stage,
            reason=verdict.reason,
            policy=judgement.policy,
            detail="; ".join(filter(None, (verdict.detail, remark))),
            reply=reply,
        )

    def accepted(
        self,
        event: Event,
        reference: str,
        reply: Reply,
        accepted_by: Judgement | None = None,
        remark: str = "",
    ) -> None:
        """Record a message that the downstream took. `remark` is for the operator."""
        try:
            self._write_accepted(event, reference, reply, accepted_by, remark)
        except Exception:
            # Cannot happen while front ends ask `is_full` first. If it does, the downstream has the
            # message all the same, and to say anything but its 250 would duplicate it.
            _log.exception("an accepted message has no record", reference=reference, reply=str(reply))

    def passed(self, event: Event, reference: str, accepted_by: Judgement | None, remark: str = "") -> None:
        """Record a message that we let pass to the MTA that asked, whose reply the client hears.

        Raises JournalFull.
        """
        self._write_accepted(event, reference, None, accepted_by, remark)

    def left_to_mta(self, event: Event, reference: str, judgement: Judgement, remark: str) -> None:
        """Record a message that the MTA that asked is to hold or to throw away. Raises JournalFull."""
        self._decided(event, judgement, None, reference, remark)

    def _write_accepted(
        self, event: Event, reference: str, reply: Reply | None, accepted_by: Judgement | None, remark: str
    ) -> None:
        unscanned = sorted(set(event.case.unscanned.values()))
        reason = accepted_by.verdict.reason if accepted_by else (unscanned or ["accepted"])[0]
        self._write(
            event,
            reference=reference,
            verdict="accepted",
            stage="relay" if reply else event.spoken,
            reason=reason,
            policy=accepted_by.policy if accepted_by else None,
            detail="; ".join(
                filter(None, [*(f"not scanned by {name}" for name in event.case.unscanned), remark])
            ),
            reply=reply,
        )

    def failed(self, event: Event, error: Exception) -> Reply:
        """Record that something of ours broke; the reply to speak, which says nothing about it."""
        _log.error("a fault of the gateway's own", listener=event.session.listener, exc_info=error)
        trace = "".join(traceback.format_exception(error))
        verdict = tempfail("internal-error", status="4.3.0", detail=trace)
        try:
            return self.refused(event, Judgement(verdict, None, event.spoken))
        except JournalFull:
            assert verdict.reply is not None
            return verdict.reply

    def aborted(self, event: Event, reason: str, detail: str) -> None:
        """Record a transaction that ended without an answer from us."""
        try:
            self._write(
                event,
                reference=new_reference(),
                verdict="aborted",
                stage=event.spoken,
                reason=reason,
                policy=None,
                detail=detail,
                reply=None,
            )
        except JournalFull:
            # Nobody waits for a reply that could be held back.
            _log.error("an aborted transaction has no record", reason=reason)

    def _write(
        self,
        event: Event,
        *,
        reference: str,
        verdict: str,
        stage: str,
        reason: str,
        policy: str | None,
        detail: str,
        reply: Reply | None,
    ) -> None:
        session = event.session
        self._writer.write(
            Record(
                reference=reference,
                time=timestamp(),
                node=self._node,
                listener=session.listener,
                verdict=verdict,
                stage=stage,
                spoken=event.spoken,
                reason=reason,
                policy=policy,
                detail=detail[-_MAX_DETAIL:],
                reply=ReplyRecord(reply.code, reply.status, reply.text) if reply else None,
                client=_client(session),
                reverse_path=_reverse_path(event.envelope),
                recipients=event.recipients,
                message=_message(event.message),
                evidence={kind.__name__: found.as_record() for kind, found in event.case.evidence.items()},
                opinions={name: opinion.as_record() for name, opinion in event.case.opinions.items()},
                downstream=event.downstream,
                mta=_mta(event),
                elapsed=dict(event.case.elapsed),
                profile=event.case.profile,
                parameters=dict(event.envelope.parameters) if event.envelope else None,
                answers_for_each=event.answers_for_each,
            )
        )


def _client(session: Session) -> ClientRecord:
    return ClientRecord(
        address=session.client_address.compressed,
        port=session.client_port,
        name=session.client_name,
        helo=session.helo_name,
        tls=session.tls.version if session.tls else None,
        authenticated=session.authenticated,
        cipher=session.tls.cipher if session.tls else None,
        protocol=_protocol(session),
    )


def _mta(event: Event) -> MTARecord | None:
    mta = event.session.mta
    return None if mta is None else MTARecord(mta.name, mta.daemon, event.queue_id)


def _protocol(session: Session) -> str | None:
    if session.helo_name is None:
        return None
    return "LMTP" if session.lmtp else "ESMTP" if session.esmtp else "SMTP"


def _reverse_path(envelope: Envelope | None) -> str | None:
    if envelope is None:
        return None
    return str(envelope.reverse_path) or "<>"


def _message(message: Message | None) -> MessageRecord | None:
    if message is None:
        return None
    return MessageRecord(
        size=message.size,
        digest=message.digest,
        message_id=first_value(message, "Message-ID"),
        subject=first_value(message, "Subject"),
        from_=first_value(message, "From"),
        fields={name: _kept(message.decoded(name, _MAX_FIELDS + 1)) for name in _names(message)},
    )


def _names(message: Message) -> list[str]:
    return [name for name in message.asked if len(name) <= _MAX_NAME][:_MAX_NAMES]


def first_value(message: Message, name: str) -> str | None:
    """The first field of that name, as UTF-8 can say it: encoded-words can yield lone surrogates."""
    for text in message.decoded(name):
        return text.encode("utf-8", "replace").decode("utf-8")[:MAX_VALUE]
    return None


def _kept(values: tuple[str, ...]) -> list[str] | None:
    """Wholly or not at all: with a part of it nobody could judge the message again."""
    if len(values) > _MAX_FIELDS or any(len(value) > MAX_VALUE for value in values):
        return None
    return list(values)
