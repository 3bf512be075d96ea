"""The soak: many sessions of every kind at once, and what must be true of all of them in the end.

Each session is made from the seed and its number alone. Reloads, and kills where they are asked
for, happen in the first quarter, which is the warm-up: who runs at its end runs to the last.
"""

import asyncio
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.proofs import hostile, ordinary
from tests.proofs.daemons import Gateway, Surroundings
from tests.proofs.fakes import BROKEN, LISTED, SLUGGISH
from tests.proofs.guest import SentAway
from tests.proofs.ledger import Ledger, Visit
from tests.proofs.sampling import Sample, Samples, look_at
from tests.proofs.visitor import CutOff
from tests.waiting import eventually

WORKERS = 2
CONCURRENCY = 50
WARM_UP = 0.25
# How much more a worker may use at the end than at the end of the warm-up, in MiB.
GROWTH = 16.0
# What a worker has open besides what it started with: the file its records go to.
_OWN_DESCRIPTORS = 1
_LONGEST_VISIT = 60.0
_LOOK_EVERY = 2.0

KINDS = {**ordinary.KINDS, **hostile.KINDS}
_FAMILIES = {"client on a list": LISTED, "list does not answer": SLUGGISH, "list is broken": BROKEN}


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    sessions: int
    seed: int
    reloads: int = 2
    kills: int = 0

    def events(self) -> dict[int, str]:
        """What happens to the gateway before the session of which number."""
        names = ["reload"] * self.reloads + ["kill"] * self.kills
        random.Random(self.seed).shuffle(names)
        span = self.sessions * WARM_UP * 0.8
        return {int(span * (number + 1) / (len(names) + 1)): name for number, name in enumerate(names)}


@dataclass
class Result:
    """What came of it."""

    plan: Plan
    ledger: Ledger = field(default_factory=Ledger)
    samples: Samples = field(default_factory=Samples)
    idle: Sample | None = None
    final: dict[int, Sample] = field(default_factory=dict)
    idle_tasks: int = 0
    final_tasks: list[int] = field(default_factory=list)
    seconds: float = 0.0
    messages: int = 0
    records: int = 0
    violations: list[str] = field(default_factory=list)


class Soak:
    """One run."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan = plan
        self._around = Surroundings(directory)
        self._result = Result(plan)
        self._begun = 0
        self._to_come = plan.events()
        self._happening: set[asyncio.Task[None]] = set()
        # A successor that is killed before it is ready makes the reload fail, which is no event of ours.
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> Result:
        """Everything, the reckoning included."""
        with self._around, Gateway(self._around.directory, self._around, WORKERS) as self._gateway:
            fresh = self._gateway.children("smtp")[0]
            self._result.idle = look_at(fresh)
            self._result.idle_tasks = await self._gateway.tasks(fresh)
            looking = asyncio.create_task(self._keep_looking())
            started = time.monotonic()
            await self._sessions()
            self._result.seconds = time.monotonic() - started
            looking.cancel()
            await self._settle()
            await self._end()
        self._reckon()
        return self._result

    # Sessions

    async def _sessions(self) -> None:
        room = asyncio.Semaphore(CONCURRENCY)
        async with asyncio.TaskGroup() as visits:
            for number in range(1, self._plan.sessions + 1):
                await room.acquire()
                self._begun = number
                if number in self._to_come:
                    self._happening.add(visits.create_task(self._happen(self._to_come.pop(number))))
                visit = self._visit(number)
                visits.create_task(self._play(visit)).add_done_callback(lambda _: room.release())

    def _visit(self, number: int) -> Visit:
        chooser = random.Random(f"{self._plan.seed}:{number}")
        (kind,) = chooser.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
        visit = Visit(
            self._plan.seed,
            number,
            kind,
            self._gateway.port,
            self._around.trust,
            _FAMILIES.get(kind, 32),
            is_quiet=not self._to_come and all(event.done() for event in self._happening),
        )
        self._result.ledger.visits.append(visit)
        return visit

    async def _play(self, visit: Visit) -> None:
        try:
            async with asyncio.timeout(_LONGEST_VISIT):
                visit.outcome = await KINDS[visit.kind][1](visit)
        except SentAway:
            self._note_end(visit, "sent away", self._plan.reloads)
        except TimeoutError:
            self._note_end(visit, "no answer", 0)
        except (CutOff, OSError) as error:
            self._note_end(visit, "cut off", self._plan.kills, repr(error))
        except Exception as error:
            self._note_end(visit, "violation", 0, repr(error))

    @staticmethod
    def _note_end(visit: Visit, outcome: str, is_allowed: int, error: str = "") -> None:
        visit.outcome, visit.is_cut_off = outcome, True
        if not is_allowed:
            visit.violation = f"{outcome} {error}"

    # The gateway meanwhile

    async def _happen(self, event: str) -> None:
        """Something happens to the workers; return when their successors alone serve."""
        async with self._one_at_a_time:
            doomed = set(self._gateway.children("smtp"))
            if event == "reload":
                self._gateway.send(signal.SIGHUP)
            else:
                victim = doomed.pop()
                doomed = {victim}
                os.kill(victim, signal.SIGKILL)
            await eventually(lambda: not doomed & set(self._gateway.children("smtp")), _LONGEST_VISIT)
            await eventually(self._is_complete, _LONGEST_VISIT)

    def _is_complete(self) -> bool:
        """Whether all workers are there, and have opened what they need."""
        assert self._result.idle is not None
        looks = self._look_again().values()
        return len(looks) == WORKERS and all(
            look.descriptors >= self._result.idle.descriptors for look in looks
        )

    async def _keep_looking(self) -> None:
        while True:
            self._result.samples.look(self._gateway, self._begun / self._plan.sessions)
            await asyncio.sleep(_LOOK_EVERY)

    async def _settle(self) -> None:
        """Back to where it began: kept connections go with the downstream, sessions with their clients."""
        self._around.mta.kill()
        await eventually(lambda: len(self._gateway.children("smtp")) == WORKERS, 60)
        assert self._result.idle is not None
        most = self._result.idle.descriptors + _OWN_DESCRIPTORS
        await eventually(lambda: all(each.descriptors <= most for each in self._look_again().values()), 60)
        await eventually(lambda: not self._gateway.content_files())
        self._result.final = self._look_again()
        self._result.final_tasks = [await self._gateway.tasks(pid) for pid in self._result.final]

    def _look_again(self) -> dict[int, Sample]:
        looks = {pid: look_at(pid) for pid in self._gateway.children("smtp")}
        return {pid: look for pid, look in looks.items() if look is not None}

    async def _end(self) -> None:
        self._gateway.send(signal.SIGTERM)
        status = await asyncio.to_thread(self._gateway.exit_status, 60)
        assert status == 0, self._gateway.log
        assert not self._gateway.children()

    # The reckoning

    def _reckon(self) -> None:
        result, mailbox = self._result, self._around.mailbox
        delivered, records = mailbox.messages(), self._gateway.records_of()
        result.messages, result.records = len(delivered), len(records)
        result.violations += result.ledger.violations(delivered, records)
        result.violations += result.ledger.unasked(mailbox.commands())
        result.violations += mailbox.suspicions()
        result.violations += [
            line for line in self._gateway.log.splitlines() if "Traceback" in line or "Task exception" in line
        ]
        result.violations += _grown(result.samples)
        result.violations += [
            f"a worker with {tasks} tasks, of which {result.idle_tasks} are its own"
            for tasks in result.final_tasks
            if tasks > result.idle_tasks
        ]


@dataclass(frozen=True)
class Growth:
    """MiB resident of a process that ran through: after the warm-up, at the end, and at most."""

    role: str
    warm: float
    late: float
    peak: float


def growth(samples: Samples) -> Iterator[Growth]:
    """Medians of the second and of the last quarter of the run."""
    for pid, looks in samples.of.items():
        warm = [look.resident for look in looks if WARM_UP <= look.progress < 2 * WARM_UP]
        late = [look.resident for look in looks if look.progress >= 1 - WARM_UP]
        if warm and late:
            peak = max(look.resident for look in looks)
            yield Growth(samples.roles[pid], statistics.median(warm), statistics.median(late), peak)


def _grown(samples: Samples) -> Iterator[str]:
    for each in growth(samples):
        if each.late - each.warm > GROWTH:
            yield f"{each.role} grew from {each.warm:.0f} to {each.late:.0f} MiB"
