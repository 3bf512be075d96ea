"""What is remembered of an address that fails: whether to ask it, to ask it last, or to leave it in peace.

A circuit breaker without I/O and without a clock: `now` is passed in, in seconds of any clock that
only goes forward. The pools of scanners and of downstream MTAs have one for each address.
"""

# A failure that took so many seconds has cost whoever waited for it; one that came sooner has not.
COSTLY = 1.0
# So many costly failures in a row, and an address is left in peace.
TOLERATED = 3
# How long at first; each failed probe doubles it.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
# How long an address is asked behind others, after a costly failure and after one that was not.
BEHIND = 10.0
BEHIND_BRIEFLY = 1.0


class Breaker:
    """The memory of one address.

    It is closed, and questions pass, until TOLERATED costly failures came in a row. Then it is open
    for a pause, and none passes. After that it is half open: one question passes, the probe, whose
    end says whether the breaker closes or is open for longer.

    Only time counts. A connection that is refused, an answer that breaks off or makes no sense: if
    it comes at once, asking again does no harm, who is started again is not kept waiting, and a
    message on which a scanner breaks keeps no other message from it.

    Every question that `admits` let pass is told with `begin`, what became of it with `succeed` or
    `fail`, and its end, however it came, with `end`.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause = 0.0
        self._open_until = 0.0
        self._behind_until = 0.0
        self._probe = 0
        self._probes = 0
        self._cause = ""
        self._is_news = False

    @property
    def is_closed(self) -> bool:
        """Whether questions pass without more ado."""
        return not self._pause

    def admits(self, now: float) -> bool:
        """Whether one more question may be put."""
        return self.is_closed or (now >= self._open_until and not self._probe)

    def rank(self, now: float) -> int:
        """Who is asked first: 0 for the healthy, 1 for who failed lately, 2 for who is not asked at all."""
        if not self.admits(now):
            return 2
        return int(now < self._behind_until)

    def begin(self) -> int:
        """A question is put. Returns its number if it is the probe, which its end has to be told, or 0."""
        if self.is_closed:
            return 0
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def succeed(self) -> None:
        """It was answered."""
        self._close()
        self._behind_until = 0.0

    def fail(self, seconds: float, cause: str, now: float, probe: int = 0) -> None:
        """It was not answered, and to learn that took so many seconds."""
        # One that began before the breaker closed and opened again is a question like any other.
        is_probe = probe != 0 and probe == self._probe
        self._cause = cause
        is_costly = seconds >= COSTLY
        self._behind_until = max(self._behind_until, now + (BEHIND if is_costly else BEHIND_BRIEFLY))
        if is_costly:
            self._count(now, is_probe)
        elif is_probe or self.is_closed:
            # Nothing is lost by asking who says no at once, and it may be about to be back.
            self._close()

    def end(self, probe: int) -> None:
        """Nobody waits for it any more; if it was a probe that told nothing, its place is free again."""
        if probe == self._probe:
            self._probe = 0

    def explain(self, now: float) -> str:
        """Why no question passes."""
        if now < self._open_until:
            return f"given up on for {self._open_until - now:.1f} s more after: {self._cause}"
        return f"being tried again after: {self._cause}"

    def news(self, now: float) -> str | None:
        """What there is to tell people: once when it opens, once when it closes."""
        if not self._is_news:
            return None
        self._is_news = False
        return "asked as usual again" if self.is_closed else self.explain(now)

    def _count(self, now: float, is_probe: bool) -> None:
        if is_probe:
            self._open(min(self._pause * 2, LONGEST_PAUSE), now)
        elif self.is_closed:
            self._failures += 1
            if self._failures >= TOLERATED:
                self._open(FIRST_PAUSE, now)
                self._is_news = True

    def _close(self) -> None:
        self._is_news = self._is_news or not self.is_closed
        self._failures, self._pause, self._probe = 0, 0.0, 0

    def _open(self, pause: float, now: float) -> None:
        self._pause = pause
        self._open_until = now + pause
        # When the pause is over it is asked like any other, else a probe would never come to it.
        self._behind_until = self._open_until
