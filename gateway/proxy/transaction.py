"""One mail transaction, from MAIL to the reply after the end of data (RFC 5321 section 3.3).

It judges recipients, sorts them into groups (`group`), and has each group's message judged and relayed.
Resetting means dropping it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from gateway.casefile import CaseFile, Judgement
from gateway.hearing.party import apart
from gateway.hearing.recipients import Heard, Hearing
from gateway.hearing.refusals import refuse_content
from gateway.proxy.group import Group
from gateway.proxy.service import ProxyService
from gateway.recorder import Event
from gateway.relay.pool import Connections
from gateway.relay.router import Destination
from gateway.smtp.address import Path
from gateway.smtp.command import Parameters
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage
from gateway.spool import Spool
from policies.verdict import Verdict, reject, tempfail

_ABORTED_AT = {
    Stage.MAIL: "after MAIL, before any recipient",
    Stage.RCPT: "after RCPT, before DATA",
    Stage.END_OF_DATA: "after DATA, before our reply",
}
_OTHER_RELAY = apart(
    "other-relay", "This recipient has another destination, please send the message to it separately"
)
_OTHER_RECIPIENT = apart(
    "other-recipient", "Each recipient there is answered for by itself, please send to it separately"
)


class MailTransaction:
    """Created at MAIL with a fork of the session's case file and the verdict of the stages so far.

    `answers_for_each` says that the client takes a reply for each recipient after the end of data.
    """

    def __init__(
        self,
        service: ProxyService,
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
        self._hearing = Hearing(service, session, envelope, case, early)
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
        return self._hearing.early_refusal

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
            nobody = Event(
                session=self._session, case=self._hearing.start.case, spoken="", envelope=self._envelope
            )
            events = events or [nobody]
        for event in events:
            event = replace(event, spoken=stage.value)
            self._service.recorder.aborted(event, reason, _ABORTED_AT[stage])

    # RCPT

    async def add_recipient(self, recipient: Path, parameters: Parameters) -> Reply:
        """The reply to RCPT: a policy's, else the downstream's own."""
        self._tried_recipients += 1
        heard = await self._hearing.hear(recipient, parameters, self._envelope)
        if heard.refusal is None:
            reply = await self._find_group(heard)
        else:
            reply = self._service.recorder.refused(heard.event, heard.refusal)
        if not reply.is_positive:
            self._refused_recipients += 1
        return reply

    async def _find_group(self, heard: Heard) -> Reply:
        """Put the recipient to those it can go with, and ask the downstream."""
        redirect = heard.case.take_redirect()
        target = redirect or heard.recipient
        destination = self._service.router.find(target)
        if destination is None:
            detail = f"there is no [[relay]] entry for {target}"
            lost = tempfail("policy-error", status="4.3.0", detail=f"redirected: {detail}")
            return self._refuse(heard.event, lost if redirect else reject("relay-denied", detail=detail))
        group = self._group_of(heard, destination)
        if group is None:
            separate = self._why_apart(heard, destination)
            if separate is not None:
                return self._refuse(heard.event, separate)
            group = Group(
                self._service,
                self._connections,
                self._session,
                self._envelope,
                destination,
                heard,
                self._answers_for_each,
            )
            self._groups.append(group)
        reply = await group.add(heard, target)
        if reply.is_positive:
            self._accepted.append(group)
            recipients = (*self._envelope.recipients, heard.recipient)
            self._envelope = replace(self._envelope, recipients=recipients)
        return reply

    def _group_of(self, heard: Heard, destination: Destination) -> Group | None:
        """The group that this recipient belongs to, if it is there and can take another one."""
        for group in self._groups:
            if group.destination is destination and group.why_apart(heard) is None:
                is_full = bool(group.recipients) and destination.answers_for_each
                return group if self._answers_for_each or not is_full else None
        return None

    def _why_apart(self, heard: Heard, destination: Destination) -> Verdict | None:
        """Why one reply to the client could not be true for this recipient and those before it."""
        if self._answers_for_each:
            return None
        # Where nobody was accepted, nothing keeps the message from going elsewhere.
        self._drop_empty()
        if not self._groups:
            return None
        (first,) = self._groups
        elsewhere = _OTHER_RECIPIENT if first.destination is destination else _OTHER_RELAY
        return first.why_apart(heard) or elsewhere

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
        refused = refuse_content(spool, message, has_bare_newline, self._service.hostname)
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
