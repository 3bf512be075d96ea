"""One MTA connection on the event loop: whose mail it brings, and the transaction that is open.

What is asked here is answered in the order in which it was asked. No octet of the protocol and no thread
is known here; `link` knows them.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from gateway.casefile import Judgement
from gateway.hearing.early import EarlyStages, cancel
from gateway.hearing.service import Service
from gateway.milter.transaction import GO_ON, Answer, MilterTransaction, Submission
from gateway.pipeline import DeadlineExceeded, verdict_for
from gateway.recorder import Event
from gateway.smtp.address import Path
from gateway.smtp.command import Parameters
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage
from policies.verdict import Verdict

P = ParamSpec("P")
T = TypeVar("T")
# Seconds beyond the deadline after which the stages before this one are waited for no longer. Less than the
# patience of the thread that waits, for which nobody answers then.
_MARGIN = 10.0
# Whose transaction begins, and by what it said with MAIL.
Beginning = tuple[Session, Envelope]
_Method = Callable[Concatenate["Conversation", P], Coroutine[Any, Any, T]]


def _in_turn(method: _Method[P, T]) -> _Method[P, T]:
    """One after the other, in the order of the calls."""

    async def call(self: "Conversation", /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self.turn:
            return await method(self, *args, **kwargs)

    return call


class Conversation:
    """What is known of one MTA connection. A refusal is recorded before it is returned."""

    def __init__(self, service: Service) -> None:
        self.turn = asyncio.Lock()
        self._service = service
        self._early = EarlyStages(service)
        self._session: Session | None = None
        self._envelope: Envelope | None = None
        self._opening: asyncio.Task[MilterTransaction] | None = None
        self._transaction: MilterTransaction | None = None
        self._answered: MilterTransaction | None = None
        self._stage = Stage.CONNECT
        self._fault: Exception | None = None

    @_in_turn
    async def connect(self, session: Session) -> Answer:
        """Who is connected to the MTA."""
        self._session = session
        with self._noting_faults():
            self._early.judge_client(session)
        return await self._refusal_at_once(Stage.CONNECT)

    @_in_turn
    async def helo(self, session: Session) -> Answer:
        """What it calls itself."""
        self._session = session
        with self._noting_faults():
            await self._early.judge_greeting(session)
        return await self._refusal_at_once(Stage.HELO)

    async def _refusal_at_once(self, stage: Stage) -> Answer:
        self._stage = stage
        refusal = await self._early.refusal_at_once()
        return GO_ON if refusal is None else self._refuse(refusal)

    @_in_turn
    async def mail(self, beginning: Beginning) -> Answer:
        """A transaction begins; the stages so far are judged while the MTA goes on."""
        await self._begin(beginning)
        if self._service.speak != "connect":
            return GO_ON
        answer = await self._in_time(self._early_answer(), beginning[1])
        if answer is not GO_ON:
            await self._forget()
        return answer

    async def _early_answer(self) -> Answer:
        refusal = (await self._opened()).early_refusal
        return GO_ON if refusal is None else self._refuse(refusal)

    @_in_turn
    async def refuse(
        self, stage: Stage, session: Session, envelope: Envelope | None, verdict: Verdict
    ) -> Answer:
        """Refuse what no policy has to look at, at MAIL or RCPT."""
        self._session, self._stage = session, stage
        if stage is Stage.MAIL or envelope is not None:
            self._envelope = envelope
        return self._refuse(Judgement(verdict, None, stage.value))

    @_in_turn
    async def rcpt(
        self, recipient: Path, parameters: Parameters, known_as: str, beginning: Beginning | None
    ) -> Answer:
        """Whether this recipient may have the message; `beginning` is a transaction's not told yet."""
        if beginning is not None:
            await self._begin(beginning)
        self._stage = Stage.RCPT
        assert self._envelope is not None
        envelope = replace(self._envelope, recipient=recipient, recipient_parameters=parameters)
        return await self._in_time(self._add(recipient, parameters, known_as), envelope)

    async def _add(self, recipient: Path, parameters: Parameters, known_as: str) -> Answer:
        return await (await self._opened()).add_recipient(recipient, parameters, known_as)

    @_in_turn
    async def refuse_content(self, verdict: Verdict) -> Answer:
        """Refuse the message before it comes; the transaction is over."""
        answer = (await self._opened()).refuse_here(verdict)
        await self._forget()
        return answer

    async def end_of_message(self, submission: Submission) -> Answer:
        """The decisive answer; the transaction is over with it, and the content closed."""
        try:
            return await self._finish(submission)
        finally:
            submission.close()

    @_in_turn
    async def let_go(self, submission: Submission) -> None:
        """Nobody waits for an answer about this message, if it was asked for at all."""
        submission.close()

    @_in_turn
    async def _finish(self, submission: Submission) -> Answer:
        self._stage = Stage.END_OF_DATA
        transaction = await self._opened()
        # Where that breaks, or carrying it out, the record of it is still to be written.
        answer = await transaction.finish(submission)
        self._answered = transaction
        await self._forget()
        return answer

    @_in_turn
    async def abort(self) -> None:
        """The MTA gave the transaction up: its client did, or it refused the mail itself."""
        transaction, stage = self._transaction, self._stage
        await self._forget()
        if transaction is not None:
            transaction.record_abort(stage, f"given up by the MTA at {stage.value}")

    @_in_turn
    async def close(self) -> None:
        """The connection is gone: give up what nobody waits for any more."""
        await self._forget()
        await self._early.close()

    async def fail(self, session: Session, error: Exception) -> None:
        """Something of ours broke, or took too long: nothing of the transaction can be trusted."""
        self._session = session
        event = self._event()
        transaction = self._transaction or self._answered
        if transaction is not None:
            event = replace(transaction.event(), spoken=event.spoken)
        await self._forget()
        self._service.recorder.failed(event, error)

    # Inside

    async def _begin(self, beginning: Beginning) -> None:
        await self._forget()
        self._answered = None
        self._session, self._envelope = beginning
        self._stage = Stage.MAIL
        self._opening = asyncio.create_task(self._open(*beginning))

    async def _opened(self) -> MilterTransaction:
        """The transaction, once the stages before RCPT have been judged."""
        if self._transaction is None:
            assert self._opening is not None
            # Shielded, because one who waits for it may run out of time, and the next will ask again.
            self._transaction = await asyncio.shield(self._opening)
        return self._transaction

    async def _in_time(self, answering: Coroutine[Any, Any, Answer], envelope: Envelope) -> Answer:
        """The answer, or a refusal before the MTA gives us up: earlier stages may be slow as well."""
        try:
            async with asyncio.timeout(self._service.deadline + _MARGIN):
                return await answering
        except TimeoutError:
            verdict = verdict_for(DeadlineExceeded())
            assert verdict is not None
            event = replace(self._event(), envelope=envelope)
            judgement = Judgement(verdict, None, self._stage.value)
            return Answer(self._service.recorder.refused(event, judgement))

    @contextlib.contextmanager
    def _noting_faults(self) -> Iterator[None]:
        """Without a stage, whose answer nobody may have waited for, no transaction begins."""
        try:
            yield
        except Exception as error:
            self._fault = error
            raise

    async def _open(self, session: Session, envelope: Envelope) -> MilterTransaction:
        if self._fault is not None:
            raise self._fault
        case, early = await self._early.judge_sender(session, envelope)
        return MilterTransaction(self._service, session, envelope, case, early)

    async def _forget(self) -> None:
        opening, self._opening = self._opening, None
        self._transaction = self._envelope = None
        await cancel(opening)

    def _event(self) -> Event:
        assert self._session is not None
        return Event(
            session=self._session,
            case=self._early.case,
            spoken=self._stage.value,
            envelope=self._envelope,
        )

    def _refuse(self, refusal: Judgement) -> Answer:
        return Answer(self._service.recorder.refused(self._event(), refusal))
