"""The processes of the kill matrix as one thing: whom to kill, and what has to be done afterwards.

Afterwards means what an operator's service manager does: start again what was killed. The workers
and the journal are the supervisor's children, and its business.
"""

import asyncio
import enum
import os
import signal
from pathlib import Path
from typing import Self

from tests.proofs.daemons import Gateway, Surroundings
from tests.waiting import eventually


class Victim(enum.Enum):
    """Who is killed. A client's kernel closes for it: with RST if replies are unread, else with FIN."""

    CLIENT_FIN = "client, FIN"
    CLIENT_RST = "client, RST"
    WORKER = "worker"
    SUPERVISOR = "supervisor"
    JOURNAL = "journal"
    DOWNSTREAM = "downstream"
    SCANNERS = "scanners"

    @property
    def is_client(self) -> bool:
        """Whether it is the sender itself, who then sends again."""
        return self in {Victim.CLIENT_FIN, Victim.CLIENT_RST}


# A process that keeps dying is started more and more slowly. A fresh supervisor knows of no deaths.
_DEATHS = 2


class Scene:
    """One gateway with one worker, and what is around it."""

    def __init__(self, directory: Path) -> None:
        self.around = Surroundings(directory)
        self._deaths = 0
        self._stopped: list[int] = []

    def __enter__(self) -> Self:
        self.around.__enter__()
        self.gateway = Gateway(self.around.directory, self.around, workers=1)
        self.gateway.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.gateway.__exit__()
        self.around.__exit__()

    async def prepare(self) -> None:
        """See to it that one worker serves."""
        if self._deaths >= _DEATHS:
            await self._start_afresh()
        await eventually(lambda: len(self.gateway.children("smtp")) == 1)

    def stop_worker(self) -> None:
        """SIGSTOP: it neither reads nor writes until it is killed or let go on."""
        self._stopped = self.gateway.children("smtp")
        for pid in self._stopped:
            os.kill(pid, signal.SIGSTOP)

    def let_worker_go_on(self) -> None:
        """SIGCONT to the worker that was stopped, unless it was killed."""
        for pid in set(self._stopped) & set(self.gateway.children("smtp")):
            os.kill(pid, signal.SIGCONT)
        self._stopped = []

    async def kill(self, victim: Victim) -> None:
        """SIGKILL, and wait until the process is gone."""
        match victim:
            case Victim.WORKER | Victim.JOURNAL:
                await self._kill_child("smtp" if victim is Victim.WORKER else "journal")
            case Victim.SUPERVISOR:
                self.gateway.send(signal.SIGKILL)
                await asyncio.to_thread(self.gateway.exit_status)
            case Victim.DOWNSTREAM:
                self.around.mta.kill()
            case Victim.SCANNERS:
                self.around.scanners.kill()

    async def recover(self, victim: Victim) -> None:
        """Start what was killed and has nobody else to start it."""
        match victim:
            case Victim.SUPERVISOR:
                await eventually(lambda: not self.gateway.children())
                await self._start()
            case Victim.DOWNSTREAM:
                self.around.mta.start()
            case Victim.SCANNERS:
                self.around.scanners.start()

    async def close(self) -> None:
        """SIGTERM: it ends, and takes its children with it."""
        self.gateway.send(signal.SIGTERM)
        assert await asyncio.to_thread(self.gateway.exit_status) == 0, self.gateway.log
        assert not self.gateway.children()

    async def _kill_child(self, role: str) -> None:
        victims = self.gateway.children(role)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        self._deaths += 1
        await eventually(lambda: not set(victims) & set(self.gateway.children(role)))

    async def _start_afresh(self) -> None:
        await self.close()
        await self._start()

    async def _start(self) -> None:
        self._deaths = 0
        await asyncio.to_thread(self.gateway.start)
