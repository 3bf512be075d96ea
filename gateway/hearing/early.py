"""The stages before RCPT, judged in the background while the dialogue goes on.

What is found out about the client is asked once for the connection, what about its greeting once for
each HELO or EHLO. Each transaction starts from a fork of that.
"""

import asyncio

from gateway.casefile import CaseFile, Judgement
from gateway.hearing.service import Service
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage, Transaction


class EarlyStages:
    """One connection's connect and HELO stages, and the start of each transaction's judging."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # About the client as such, and about it under the name it gave last.
        self._client_case = self.case = CaseFile()
        self._connecting: asyncio.Task[Judgement | None] | None = None
        self._latest: asyncio.Task[Judgement | None] | None = None

    def judge_client(self, session: Session) -> None:
        """Start judging who connected; the dialogue does not wait for it."""
        if self._service.pipeline.has_policies(Stage.CONNECT):
            tx = Transaction(Stage.CONNECT, session)
            judging = self._service.pipeline.judge(tx, self._client_case, self._service.next_deadline())
            self._connecting = self._latest = asyncio.create_task(judging)

    async def judge_greeting(self, session: Session) -> None:
        """Start judging a HELO or EHLO, as if there had been none before."""
        if self._latest is not self._connecting:
            await cancel(self._latest)
        self._latest, self.case = self._connecting, self._client_case
        if self._service.pipeline.has_policies(Stage.HELO):
            self.case = CaseFile()
            judging = self._judge_name(Transaction(Stage.HELO, session), self.case)
            self._latest = asyncio.create_task(judging)

    async def refusal_at_once(self) -> Judgement | None:
        """With `speak = "connect"`: the refusal to speak now, not at RCPT."""
        if self._service.speak != "connect" or self._latest is None:
            return None
        return self.case.conclude(await self._latest)

    async def judge_sender(self, session: Session, envelope: Envelope) -> tuple[CaseFile, Judgement | None]:
        """A transaction's own case file, and what the stages up to MAIL came to."""
        # Shielded, because RSET cancels this, and what is asked about the session goes on.
        early = None if self._latest is None else await asyncio.shield(self._latest)
        case = self.case.fork(Stage.MAIL)
        if early is None:
            tx = Transaction(Stage.MAIL, session, envelope)
            early = await self._service.pipeline.judge(tx, case, self._service.next_deadline())
        return case, early

    async def close(self) -> None:
        """Give up what nobody waits for any more."""
        await cancel(self._latest)
        await cancel(self._connecting)

    async def _judge_name(self, tx: Transaction, case: CaseFile) -> Judgement | None:
        # Shielded, because the next HELO cancels this.
        decided = None if self._connecting is None else await asyncio.shield(self._connecting)
        case.absorb(self._client_case)
        if decided is not None:
            return decided
        return await self._service.pipeline.judge(tx, case, self._service.next_deadline())


async def cancel(task: "asyncio.Task[object] | None") -> None:
    """Cancel a task and wait until it is gone."""
    if task is None:
        return
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
