"""Calls policies and watches them: one that takes too long or too much memory is interrupted.

A policy runs in the thread of the event loop, and nothing else of the worker goes on meanwhile. A timer
looks at it twice a second by way of a signal, whose handler runs between two instructions of the policy
(also in the middle of a regular expression, or of a call that sleeps) and raises. What cannot be
interrupted so, code that never comes back to the interpreter or a policy that catches everything, is left to
the supervisor, for which the bulletin says who it is.
"""

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from filters.evidence import Evidence
from gateway.bulletin import Bulletin
from gateway.casefile import Gathered
from gateway.metrics.ledger import Counter
from gateway.smtp.transaction import Transaction
from policies.policy import Policy
from policies.verdict import Verdict

# Seconds between two looks.
INTERVAL = 0.5
# Seconds for which a policy that fails again and again is not complained about again.
_QUIET = 60.0
_PAGE = resource.getpagesize()
_MIB = 1024 * 1024

_log = structlog.get_logger()


class Interrupted(BaseException):
    """A policy was stopped. No `Exception`, which a policy may catch for reasons of its own.

    `kind` is what it took too much of, `time` or `memory`.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"interrupted: {why}")
        self.kind = kind
        self.why = why


class Caller(Protocol):
    """What calls policies."""

    def call(
        self, policy: Policy, tx: Transaction, evidence: Evidence, options: Mapping[str, Any]
    ) -> Verdict | None:
        """The policy's verdict. Raises what it raises, TypeError for what is no verdict, Interrupted."""

    def note(self, gathered: Gathered) -> None:
        """A filter has been asked for the next policy."""


class Plainly:
    """Calls policies and watches nothing: for one message at a time, with somebody in front of it."""

    def call(
        self, policy: Policy, tx: Transaction, evidence: Evidence, options: Mapping[str, Any]
    ) -> Verdict | None:
        """The policy's verdict. Raises what it raises, TypeError for none, ValueError at the wrong stage."""
        verdict: object = policy(tx, evidence, **options)
        if not isinstance(verdict, Verdict | None):
            raise TypeError(f"policy {policy.name!r} returned {verdict!r}, not a verdict or None")
        if verdict is not None:
            verdict.check_stage(tx.stage)
        return verdict

    def note(self, gathered: Gathered) -> None:
        """Nobody counts."""


class Watch:
    """One worker's. A single call may take `seconds`, and `memory` octets more than there were before it.

    `say_alive` is called for each policy that was interrupted: some of them in a row are no worker that is
    stuck.
    """

    def __init__(
        self,
        bulletin: Bulletin,
        counter: Counter,
        seconds: float,
        memory: int,
        say_alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._bulletin = bulletin
        self._counter = counter
        self._seconds = seconds
        self._memory = memory
        self._say_alive = say_alive
        self._plainly = Plainly()
        self._calls = 0
        self._quiet_until: dict[str, float] = {}
        # Whether the handler may raise. Nothing but a plain attribute: see `call`.
        self._is_under_way = False
        self._interruption: tuple[str, str] | None = None
        self._looked_at = 0
        self._looks = 0
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self.resident = self._before = self._read_resident()
        self._policy = ""
        # The last policy that was stopped for taking too much memory.
        self.overeater = ""

    def start(self) -> None:
        """Begin to look. To be called in the main thread, which is where policies run."""
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)

    def close(self) -> None:
        """Look no more."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.close(self._statm)

    def call(
        self, policy: Policy, tx: Transaction, evidence: Evidence, options: Mapping[str, Any]
    ) -> Verdict | None:
        """The policy's verdict. Raises what it raises, TypeError for what is no verdict, Interrupted."""
        self._bulletin.post(policy.name, tx)
        self._policy = policy.name
        self._calls += 1
        self._interruption = None
        began = time.thread_time()
        # The interpreter runs signal handlers behind calls, at jumps backwards and at function entries.
        # There is none of these between either end of the call and the line that says it is over:
        # Interrupted is raised in there or not at all.
        try:
            self._is_under_way = True
            verdict = self._plainly.call(policy, tx, evidence, options)
            self._is_under_way = False
            if self._interruption:
                # It was told to stop, swallowed that, and made something up.
                raise Interrupted(*self._interruption)
        except BaseException as error:
            self._is_under_way = False
            self._count(policy.name, began, "error")
            kind = "exception"
            if isinstance(error, Interrupted):
                kind = error.kind
                self._say_alive()
            self._counter.add("policy_errors", (policy.name, kind))
            self._complain(policy, error)
            raise
        self._count(policy.name, began, verdict.decision.value if verdict else "none")
        return verdict

    def note(self, gathered: Gathered) -> None:
        """Count what a filter said, and the time until then."""
        labels = (gathered.source, gathered.kind)
        self._counter.add("filter_answers", labels)
        self._counter.add("filter_seconds", labels, gathered.elapsed)

    def _count(self, policy: str, began: float, verdict: str) -> None:
        """The call is over."""
        self._bulletin.clear()
        self._counter.add("policy_seconds", (policy,), time.thread_time() - began)
        self._counter.add("policy_calls", (policy, verdict))

    def _complain(self, policy: Policy, error: BaseException) -> None:
        """Tell the operator, who may not be looking at records; of each policy once a minute."""
        now = time.monotonic()
        if now < self._quiet_until.get(policy.name, 0.0):
            return
        self._quiet_until[policy.name] = now + _QUIET
        file = policy.location.rpartition(":")[0]
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
        ]
        where = f"{file}:{lines[-1]}" if lines else policy.location
        _log.error("a policy failed", policy=policy.name, at=where, error=f"{type(error).__name__}: {error}")

    def _look(self, *_: object) -> None:
        """What the signal's handler does: nothing, or raise Interrupted."""
        before, self.resident = self.resident, self._read_resident()
        if not self._is_under_way:
            return
        if self._calls != self._looked_at:
            # Seen for the first time: the last look was before it began.
            self._looked_at, self._looks, self._before = self._calls, 0, before
        self._interruption = self._excess() or self._interruption
        self._looks += 1
        if self._interruption:
            raise Interrupted(*self._interruption)

    def _excess(self) -> tuple[str, str] | None:
        grown = self.resident - self._before
        if grown > self._memory:
            self.overeater = self._policy
            return "memory", f"it took {grown // _MIB} MiB of memory"
        # Counted in looks and not by a clock: who was stopped meanwhile is not to blame.
        if self._looks * INTERVAL >= self._seconds:
            return "time", f"it took more than {self._seconds:g} s"
        return None

    def _read_resident(self) -> int:
        """Octets of this process in memory."""
        return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE
