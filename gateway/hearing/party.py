"""Recipients of one transaction whose message is judged as one: the same profile, the same exemptions."""

from collections.abc import Awaitable, Iterator
from dataclasses import replace

import structlog

from gateway.casefile import Judgement
from gateway.hearing.keeping import Keeping
from gateway.hearing.recipients import Heard
from gateway.hearing.service import Service
from gateway.journal.record import new_reference
from gateway.recorder import Event
from gateway.smtp.address import Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage, Transaction
from policies.verdict import Verdict, tempfail

_log = structlog.get_logger()


def apart(reason: str, text: str) -> Verdict:
    """For a recipient that cannot go with those before it: the sender sends the message to it in a
    transaction of its own (RFC 5321 section 4.5.3.1.10).
    """
    return tempfail(reason, text=text, code=452, status="4.5.3")


_OTHER_PROFILE = apart(
    "other-profile", "This recipient has other settings, please send the message to it separately"
)
_OTHER_EXEMPTION = apart(
    "other-exemption", "Other rules hold for this recipient, please send the message to it separately"
)


class Party:
    """Created for its first recipient, which is not in it yet.

    `answers_for_each` says that the client takes a reply for each of them after the end of data.
    """

    def __init__(
        self,
        service: Service,
        session: Session,
        envelope: Envelope,
        first: Heard,
        answers_for_each: bool = False,
    ) -> None:
        self.profile = first.profile
        self.exempt = first.exempt
        self.reference = new_reference()
        self._service = service
        self._session = session
        self._envelope = replace(envelope, recipients=())
        self._start = first.start
        self._case = first.start.case_of_message()
        self._answers_for_each = answers_for_each
        self._keeping = Keeping(service.quarantine, self._case, self.reference)

    @property
    def recipients(self) -> tuple[Path, ...]:
        """The recipients accepted so far."""
        return self._envelope.recipients

    def why_apart(self, heard: Heard) -> Verdict | None:
        """The refusal of a recipient that is not of this party, where there cannot be another."""
        if heard.profile is not self.profile:
            return _OTHER_PROFILE
        return _OTHER_EXEMPTION if heard.exempt != self.exempt else None

    def admit(self, heard: Heard) -> None:
        """One more recipient."""
        self._case.absorb(heard.case)
        self._envelope = replace(self._envelope, recipients=(*self.recipients, heard.recipient))

    def event(self, message: Message | None = None) -> Event:
        """What happens to this party after RCPT, for the record."""
        return Event(
            session=self._session,
            case=self._case,
            spoken=Stage.END_OF_DATA.value,
            envelope=self._envelope,
            message=message,
            answers_for_each=self._answers_for_each,
        )

    async def ask(self, message: Message, trace: bytes, deadline: float) -> Judgement | None:
        """What ended the judging of the message; `trace` is what will stand on top of it."""

        def ask() -> Awaitable[Judgement | None]:
            tx = Transaction(Stage.END_OF_DATA, self._session, self._envelope, message, trace)
            return self.profile.pipeline.judge(tx, self._case, deadline)

        return await self._start.judge_message(ask)

    def warn_of_discard(self, judgement: Judgement) -> None:
        """Mail that is lost on purpose is never lost in silence."""
        about = {"policy": judgement.policy, "reason": judgement.verdict.reason}
        _log.warning("a message is thrown away, and nobody is told", reference=self.reference, **about)

    def unsaid(self) -> Iterator[str]:
        """Refusals for some recipients that the client did not get to hear, for the operator."""
        if not self._answers_for_each:
            for recipient, judgement in self._case.refusals.items():
                yield f"{judgement.verdict.reason} for {recipient} alone could not be said to this client"
