"""Judging a message that nobody is sending: the same pipeline, stage by stage, without a dialogue."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from gateway.assembly import Assembly
from gateway.casefile import CaseFile, Judgement
from gateway.journal.record import Record, decode, encode, new_reference
from gateway.pipeline import Pipeline
from gateway.profiles import Profile
from gateway.recorder import Event, Recorder
from gateway.smtp.address import Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Content, Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.trace import received_field
from gateway.smtp.transaction import Stage, Transaction, before_recipients
from policies.verdict import reject

WOULD_RELAY = Reply.of(250, "2.0.0", "Would be relayed")


class RecordCatcher:
    """Takes the records that would have gone to the journal."""

    is_full = False

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        """Keep it."""
        self.records.append(record)


def by_profile(assembly: Assembly, envelope: Envelope) -> list[Envelope]:
    """One envelope for each profile among the recipients: nobody could have sent to all at once."""
    apart: dict[Profile, list[Path]] = {}
    for recipient in envelope.recipients:
        profile, _ = assembly.profiles.find(recipient)
        apart.setdefault(profile, []).append(recipient)
    return [replace(envelope, recipients=tuple(each)) for each in apart.values()] or [envelope]


async def judge_message(
    assembly: Assembly, session: Session, envelope: Envelope, content: Content, skip: Sequence[Stage] = ()
) -> Record:
    """The record that this message would have had. Stages in `skip` are not judged.

    All recipients are taken to have the profile of the first. Where the session has an MTA, it is judged as
    behind a milter, and that MTA relays.
    """
    catcher = RecordCatcher()
    recorder = Recorder(catcher, assembly.config.gateway.hostname)
    message = Message(content)
    profile, case = assembly.profiles.general, CaseFile()
    if envelope.recipients:
        profile, case.profile = assembly.profiles.find(envelope.recipients[0])
    event = Event(
        session=session, case=case, spoken=Stage.END_OF_DATA.value, envelope=envelope, message=message
    )
    reference = new_reference()
    deadline = asyncio.get_running_loop().time() + assembly.config.gateway.deadline
    transactions = _transactions(assembly, session, envelope, message, reference, skip)
    ended = await _judge_stages(profile.pipeline, case, transactions, deadline)
    refusal = case.conclude(ended)
    if refusal is None and session.mta is None:
        refusal = _not_routed(assembly, envelope)
    if refusal is not None:
        recorder.refused(event, refusal)
    else:
        _take(recorder, event, reference, ended)
    return decode(encode(catcher.records[0]))


def _take(recorder: Recorder, event: Event, reference: str, ended: Judgement | None) -> None:
    """Record what becomes of a message that is not refused, as the front end would that it came by."""
    is_by_mta = event.session.mta is not None
    if ended is not None and ended.verdict.is_taking:
        if is_by_mta:
            recorder.left_to_mta(event, reference, ended, "")
        else:
            recorder.taken(event, reference, ended)
    elif is_by_mta:
        recorder.passed(event, reference, ended)
    else:
        recorder.accepted(event, reference, WOULD_RELAY, ended)


def _not_routed(assembly: Assembly, envelope: Envelope) -> Judgement | None:
    """What the gateway says of itself where no policy did: it relays only where it knows the way."""
    unknown = [recipient for recipient in envelope.recipients if assembly.router.find(recipient) is None]
    if not unknown:
        return None
    detail = f"no [[relay]] entry for {unknown[0]}"
    return Judgement(reject("relay-denied", detail=detail), None, Stage.RCPT.value)


async def _judge_stages(
    pipeline: Pipeline, case: CaseFile, transactions: Sequence[Transaction], deadline: float
) -> Judgement | None:
    """Ask stage after stage until one says something final."""
    for tx in transactions:
        own = case.fork(tx.stage)
        ended = await pipeline.judge(tx, own, deadline)
        case.absorb(own)
        # An acceptance at RCPT is about that recipient alone.
        if ended is not None and (ended.verdict.is_refusal or tx.stage is not Stage.RCPT):
            return ended
    return None


def _transactions(
    assembly: Assembly,
    session: Session,
    envelope: Envelope,
    message: Message,
    reference: str,
    skip: Sequence[Stage],
) -> list[Transaction]:
    """What the policies of each stage would have seen."""
    hostname = assembly.config.gateway.hostname
    received = received_field(session, hostname, reference, envelope, datetime.now().astimezone())
    stages = [
        *before_recipients(session, envelope),
        *(
            Transaction(Stage.RCPT, session, replace(envelope, recipient=recipient))
            for recipient in envelope.recipients
        ),
        Transaction(Stage.END_OF_DATA, session, envelope, message, received + message.border),
    ]
    return [tx for tx in stages if tx.stage not in skip]
