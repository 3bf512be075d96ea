"""The hearing of one mail transaction: what the policies say up to and at each RCPT.

The order of the stages, and what one means for the next, is said here and nowhere else: front ends and the
replay of records only differ in how they ask.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from gateway.casefile import CaseFile, Judgement
from gateway.hearing.service import Service
from gateway.profiles import Profile
from gateway.recorder import Event
from gateway.smtp.address import Path
from gateway.smtp.command import Parameters
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage, Transaction, before_recipients
from policies.verdict import Decision

# Asks the policies of one stage.
Ask = Callable[[], Awaitable[Judgement | None]]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a transaction starts by one profile: what the stages before RCPT found and came to."""

    case: CaseFile
    early: Judgement | None

    @property
    def is_exempt(self) -> bool:
        """Whether a policy has accepted already, so that no later one is asked."""
        return self.early is not None and self.early.verdict.decision is Decision.ACCEPT

    async def judge_recipient(self, recipient: Path, case: CaseFile, ask: Ask) -> Judgement | None:
        """The refusal of this recipient, if any; `case` is the recipient's own."""
        early = self.early
        if recipient.is_postmaster:
            # Whoever is refused must be able to ask why (RFC 5321 section 4.5.1).
            case.deferral = None
        elif early is not None and early.verdict.is_refusal:
            return early
        return case.conclude(None if self.is_exempt else await ask())

    def case_of_message(self) -> CaseFile:
        """A new file for the message; those of its recipients are to be absorbed."""
        case = self.case.fork(Stage.RCPT)
        # Only postmaster gets beyond RCPT with a deferral behind it, and is not deferred in the end.
        case.deferral = None
        return case

    async def judge_message(self, ask: Ask) -> Judgement | None:
        """What ended the judging, at the end of data or before."""
        return self.early if self.is_exempt else await ask()


@dataclass(frozen=True, slots=True)
class Heard:
    """One recipient that was judged, and what its mail is to be judged by.

    `event` is for the record, its case file the recipient's own; `refusal` is what the policies came to.
    """

    event: Event
    recipient: Path
    profile: Profile
    start: Start
    refusal: Judgement | None

    @property
    def case(self) -> CaseFile:
        """What is known and was said about this recipient."""
        return self.event.case

    @property
    def exempt(self) -> frozenset[str]:
        """The policies that are not asked about mail for this recipient."""
        return frozenset(self.case.exempt)


class Hearing:
    """Opened at MAIL with a fork of the session's case file and the verdict of the stages so far."""

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
        self.start = Start(case, early)
        self._starts: dict[Profile, Start] = {}

    @property
    def early_refusal(self) -> Judgement | None:
        """What the stages before RCPT came to, if that is a refusal."""
        return self.start.case.conclude(self.start.early)

    async def hear(self, recipient: Path, parameters: Parameters, envelope: Envelope) -> Heard:
        """Judge a recipient by its profile; `envelope` has those that were accepted before it."""
        profile, entry = self._service.profiles.find(recipient)
        start = await self._start_by(profile)
        case = start.case.fork(Stage.RCPT)
        case.profile = entry
        envelope = replace(envelope, recipient=recipient, recipient_parameters=parameters)
        event = Event(session=self._session, case=case, spoken=Stage.RCPT.value, envelope=envelope)

        def ask() -> Awaitable[Judgement | None]:
            tx = Transaction(Stage.RCPT, self._session, envelope)
            return profile.pipeline.judge(tx, case, self._service.next_deadline())

        refusal = await start.judge_recipient(recipient, case, ask)
        return Heard(event, recipient, profile, start, refusal)

    async def _start_by(self, profile: Profile) -> Start:
        """What the stages before RCPT come to by this profile."""
        if not profile.overrides_early:
            return self.start
        if profile not in self._starts:
            case = self.start.case.begun_again()
            self._starts[profile] = Start(case, await self._judge_early(profile, case))
        return self._starts[profile]

    async def _judge_early(self, profile: Profile, case: CaseFile) -> Judgement | None:
        deadline = self._service.next_deadline()
        for tx in before_recipients(self._session, self._envelope):
            judgement = await profile.pipeline.judge(tx, case, deadline)
            if judgement is not None:
                return judgement
        return None
