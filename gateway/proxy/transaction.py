"""One mail transaction, from MAIL to the reply after the end of data (RFC 5321 section 3.3).

It judges recipients, sorts them into groups (`group`), and has each group's message judged and relayed.
Resetting means dropping it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from gateway.casefile import CaseFile, Judgement
from gateway.profiles import Profile
from gateway.proxy.group import Group, Start
from gateway.proxy.service import Service
from gateway.recorder import Event
from gateway.relay.pool import Connections
from gateway.relay.router import Destination
from gateway.smtp.address import Path
from gateway.smtp.command import Parameters
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import MAX_HEADER_SECTION, Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage, Transaction
from gateway.spool import Spool
from policies.verdict import Verdict, reject, tempfail

_ABORTED_AT = {
    Stage.MAIL: "after MAIL, before any recipient",
    Stage.RCPT: "after RCPT, before DATA",
    Stage.END_OF_DATA: "after DATA, before our reply",
}
# Why a recipient cannot go with those before it (RFC 5321 section 4.5.3.1.10: the sender sends the
# message to it in a transaction of its own).
_APART = {
    "other-profile": "This recipient has other settings, please send the message to it separately",
    "other-relay": "This recipient has another destination, please send the message to it separately",
    "other-exemption": "Other rules hold for this recipient, please send the message to it separately",
    "other-recipient": "Each recipient there is answered for by itself, please send to it separately",
}


class MailTransaction:
    """Created at MAIL with a fork of the session's case file and the verdict of the stages so far.

    `answers_for_each` says that the client takes a reply for each recipient after the end of data.
    """

    def __init__(
        self,
        service: Service,
        connections: Connections,
        session: Session,
        envelope: Envelope,
        case: CaseFile,
        early: Judgement | None,
        answers_for_each: bool = False,
    ) -> None:
        self._service = service
        self._connections = connections
        self._session = session
        self._envelope = envelope
        self._start = Start(case, early)
        self._starts: dict[Profile, Start] = {}
        self._answers_for_each = answers_for_each
        self._groups: list[Group] = []
        # The group of each accepted recipient, in the order of RCPT.
        self._accepted: list[Group] = []
        self._tried_recipients = 0
        self._refused_recipients = 0

    @property
    def is_committed(self) -> bool:
        """True once the end of data went to a downstream: from then on its answer is awaited."""
        return any(group.is_committed for group in self._groups)

    @property
    def envelope(self) -> Envelope:
        """The sender, and the recipients accepted so far."""
        return self._envelope

    @property
    def recipient_count(self) -> int:
        """How many recipients were accepted so far."""
        return len(self._accepted)

    @property
    def is_all_refused(self) -> bool:
        """Whether there were recipients, and each was refused: those refusals are its record."""
        return self._refused_recipients == self._tried_recipients > 0

    @property
    def early_refusal(self) -> Judgement | None:
        """What the stages before RCPT came to, if that is a refusal."""
        return self._start.case.conclude(self._start.early)

    def lose_client(self) -> None:
        """Nobody will hear the reply to a message that the downstream has already."""
        for group in self._groups:
            group.client_has_gone = True

    def drop(self) -> None:
        """Give up, wherever it is; nothing is delivered."""
        for group in self._groups:
            group.drop()

    def record_abort(self, stage: Stage, reason: str) -> None:
        """Record that this transaction, or what is undecided of it, ended without our answer."""
        events = [group.event() for group in self._groups if group.recipients and not group.answers]
        if not any(group.answers for group in self._groups):
            nobody = Event(session=self._session, case=self._start.case, spoken="", envelope=self._envelope)
            events = events or [nobody]
        for event in events:
            event = replace(event, spoken=stage.value)
            self._service.recorder.aborted(event, reason, _ABORTED_AT[stage])

    # RCPT

    async def add_recipient(self, recipient: Path, parameters: Parameters) -> Reply:
        """The reply to RCPT: a policy's, else the downstream's own."""
        self._tried_recipients += 1
        profile, entry = self._service.profiles.find(recipient)
        start = await self._start_by(profile)
        case = start.case.fork(Stage.RCPT)
        case.profile = entry
        envelope = replace(self._envelope, recipient=recipient, recipient_parameters=parameters)
        event = Event(session=self._session, case=case, spoken=Stage.RCPT.value, envelope=envelope)
        refusal = await self._judge_recipient(event, recipient, profile, start)
        reply = (
            await self._find_group(event, recipient, profile, start)
            if refusal is None
            else self._service.recorder.refused(event, refusal)
        )
        if not reply.is_positive:
            self._refused_recipients += 1
        return reply

    async def _start_by(self, profile: Profile) -> Start:
        """What the stages before RCPT come to by this profile."""
        if not profile.overrides_early:
            return self._start
        if profile not in self._starts:
            case = self._start.case.begun_again()
            self._starts[profile] = Start(case, await self._judge_early(profile, case))
        return self._starts[profile]

    async def _judge_early(self, profile: Profile, case: CaseFile) -> Judgement | None:
        deadline = self._service.next_deadline()
        connected = replace(self._session, helo_name=None, esmtp=False)
        for tx in (
            Transaction(Stage.CONNECT, connected),
            Transaction(Stage.HELO, self._session),
            Transaction(Stage.MAIL, self._session, self._envelope),
        ):
            judgement = await profile.pipeline.judge(tx, case, deadline)
            if judgement is not None:
                return judgement
        return None

    async def _judge_recipient(
        self, event: Event, recipient: Path, profile: Profile, start: Start
    ) -> Judgement | None:
        early = start.early
        if recipient.is_postmaster:
            # Whoever is refused must be able to ask why (RFC 5321 section 4.5.1).
            event.case.deferral = None
        elif early is not None and early.verdict.is_refusal:
            return early
        judgement = None
        if not start.is_exempt:
            assert event.envelope is not None
            tx = Transaction(Stage.RCPT, self._session, event.envelope)
            judgement = await profile.pipeline.judge(tx, event.case, self._service.next_deadline())
        return event.case.conclude(judgement)

    async def _find_group(self, event: Event, recipient: Path, profile: Profile, start: Start) -> Reply:
        """Put the recipient to those it can go with, and ask the downstream."""
        redirect = event.case.take_redirect()
        target = redirect or recipient
        destination = self._service.router.find(target)
        if destination is None:
            detail = f"there is no [[relay]] entry for {target}"
            lost = tempfail("policy-error", status="4.3.0", detail=f"redirected: {detail}")
            return self._refuse(event, lost if redirect else reject("relay-denied", detail=detail))
        exempt = frozenset(event.case.exempt)
        group = self._group_of(profile, destination, exempt)
        if group is None:
            apart = self._why_apart(profile, destination, exempt)
            if apart is not None:
                return self._refuse(event, tempfail(apart, text=_APART[apart], code=452, status="4.5.3"))
            group = Group(
                self._service,
                self._connections,
                self._session,
                self._envelope,
                destination,
                profile,
                start,
                exempt,
                self._answers_for_each,
            )
            self._groups.append(group)
        reply = await group.add(event, recipient, target)
        if reply.is_positive:
            self._accepted.append(group)
            self._envelope = replace(self._envelope, recipients=(*self._envelope.recipients, recipient))
        return reply

    def _group_of(self, profile: Profile, destination: Destination, exempt: frozenset[str]) -> Group | None:
        """The group that this recipient belongs to, if it is there and can take another one."""
        for group in self._groups:
            if (group.profile, group.destination, group.exempt) == (profile, destination, exempt):
                is_full = bool(group.recipients) and destination.answers_for_each
                return group if self._answers_for_each or not is_full else None
        return None

    def _why_apart(self, profile: Profile, destination: Destination, exempt: frozenset[str]) -> str | None:
        """Why one reply to the client could not be true for this recipient and those before it."""
        if self._answers_for_each:
            return None
        # Where nobody was accepted, nothing keeps the message from going elsewhere.
        self._drop_empty()
        if not self._groups:
            return None
        (first,) = self._groups
        if first.profile is not profile:
            return "other-profile"
        if first.exempt != exempt:
            return "other-exemption"
        return "other-recipient" if first.destination is destination else "other-relay"

    def _drop_empty(self) -> None:
        """Let go of groups whose every recipient was refused."""
        for empty in [group for group in self._groups if not group.recipients]:
            empty.drop()
            self._groups.remove(empty)

    # End of data

    async def finish(self, spool: Spool, has_bare_newline: bool) -> Sequence[Reply]:
        """The replies after the end of data, one for each recipient. The transaction is over with them."""
        self._drop_empty()
        message = Message(spool)
        refused = _refuse_content(spool, message, has_bare_newline, self._service.hostname)
        if refused is not None:
            shown = None if spool.overflowed or spool.failure else message
            return self._refuse_all(shown, Judgement(refused, None, Stage.END_OF_DATA.value))
        deadline = self._service.next_deadline()
        # All are judged before any is relayed: until then a client that leaves stops everything.
        await _side_by_side(self._groups, lambda group: group.judge(message, deadline))
        await _side_by_side(self._groups, lambda group: group.relay(message, deadline))
        return self._in_order()

    def _refuse_all(self, message: Message | None, refusal: Judgement) -> Sequence[Reply]:
        for group in self._groups:
            group.refuse(group.event(message), refusal)
        return self._in_order()

    def _in_order(self) -> list[Reply]:
        answers = {group: iter(group.answers) for group in self._groups}
        return [next(answers[group]) for group in self._accepted]

    def _refuse(self, event: Event, verdict: Verdict) -> Reply:
        return self._service.recorder.refused(event, Judgement(verdict, None, Stage.RCPT.value))


async def _side_by_side(groups: Sequence[Group], step: Callable[[Group], Awaitable[None]]) -> None:
    if len(groups) == 1:
        await _contained(groups[0], step)
    else:
        # Waits for all, even when cancelled: nothing of a transaction goes on behind its end.
        await asyncio.gather(*(_contained(group, step) for group in groups), return_exceptions=True)


async def _contained(group: Group, step: Callable[[Group], Awaitable[None]]) -> None:
    """What breaks in one group is that one's fault alone."""
    try:
        await step(group)
    except Exception as error:
        group.fail(error)


def _refuse_content(spool: Spool, message: Message, has_bare_newline: bool, hostname: str) -> Verdict | None:
    """What no policy has to look at: too big, undeliverable by its line endings, not stored, looping."""
    if spool.overflowed:
        return reject("message-too-big", code=552, status="5.3.4", detail=f"{spool.size} octets")
    if spool.failure:
        return tempfail("storage-failed", code=452, status="4.3.1", detail=spool.failure)
    if has_bare_newline:
        return reject("bare-newline", status="5.6.11")
    if message.is_all_header:
        detail = f"more than {MAX_HEADER_SECTION} octets"
        return reject("header-too-big", code=552, status="5.3.4", detail=detail)
    if message.is_looping(hostname):
        return reject("mail-loop", code=554, status="5.4.6")
    return None
