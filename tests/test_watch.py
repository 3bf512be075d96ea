"""Calling policies under watch. The timer's signal is played by the policies themselves."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from gateway import bulletin
from gateway.bulletin import Bulletin
from gateway.metrics.ledger import Ledger, Tally, totals
from gateway.watch import INTERVAL, Interrupted, Watch
from policies import Stage, Verdict, accept, policy, reject
from policies.testing import evidence, transaction

MIB = 1024 * 1024


class Bench:
    """A watch with a limit of one second and 64 MiB, and what it has counted."""

    def __init__(self) -> None:
        self.board = bulletin.share_memory()
        self._ledger = Ledger()
        tally = Tally(self._ledger.descriptor, self._ledger.take())
        self.signs_of_life: list[None] = []
        self.watch = Watch(
            Bulletin(self.board), tally, 1.0, 64 * MIB, lambda: self.signs_of_life.append(None)
        )

    def call(self, function: Callable[[], Verdict | None]) -> Verdict | None:
        @policy(at=Stage.END_OF_DATA)
        def judged(tx, evidence, *, word: str = ""):
            assert word == "x"
            return function()

        return self.watch.call(judged, transaction(), evidence(), {"word": "x"})

    def look(self, seconds: float = INTERVAL) -> None:
        """What happens in so many seconds."""
        for _ in range(int(seconds / INTERVAL)):
            self.watch._look()

    @property
    def counted(self) -> dict[tuple[str, ...], float]:
        """Everything but the time."""
        sums = totals(self._ledger.descriptor)
        return {(name, *labels): value for (name, labels), value in sums.items() if "seconds" not in name}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_failure_is_told_once_in_a_while_with_its_place(bench: Bench):
    def fail() -> None:
        raise KeyError("lost")

    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            with pytest.raises(KeyError):
                bench.call(fail)
    (line,) = said
    assert (line["event"], line["policy"], line["error"]) == ("a policy failed", "judged", "KeyError: 'lost'")
    file, _, number = line["at"].rpartition(":")
    assert file == __file__
    assert Path(file).read_text().splitlines()[int(number) - 1].strip() == 'raise KeyError("lost")'


@pytest.mark.parametrize(("verdict", "word"), [(None, "none"), (reject("x"), "reject")])
def test_a_verdict_is_passed_on_and_counted(bench: Bench, verdict: Verdict | None, word: str):
    assert bench.call(lambda: verdict) is verdict
    assert bench.counted == {("policy_calls", "judged", word): 1.0}


def test_cpu_time_is_counted(bench: Bench):
    bench.call(lambda: sum(range(100_000)) and None)
    assert totals(bench._ledger.descriptor)["policy_seconds", ("judged",)] > 0


def test_the_bulletin_says_what_is_under_way_and_nothing_afterwards(bench: Bench):
    seen = []
    bench.call(lambda: seen.append(bulletin.read(bench.board)))
    assert seen[0].policy == "judged"
    assert bulletin.read(bench.board) is None
    with pytest.raises(ZeroDivisionError):
        bench.call(lambda: 1 // 0)
    assert bulletin.read(bench.board) is None
    assert bench.counted["policy_errors", "judged", "exception"] == 1.0


def test_what_is_no_verdict_is_an_error(bench: Bench):
    with pytest.raises(TypeError, match="returned 'yes', not a verdict or None"):
        bench.call(lambda: "yes")
    assert bench.counted["policy_calls", "judged", "error"] == 1.0


def test_who_takes_too_long_is_interrupted(bench: Bench):
    bench.call(lambda: bench.look(1.0))
    with pytest.raises(Interrupted, match="interrupted: it took more than 1 s"):
        bench.call(lambda: bench.look(1.5))
    assert bench.counted["policy_errors", "judged", "time"] == 1.0
    assert len(bench.signs_of_life) == 1
    assert not bench.watch.overeater


def test_many_short_calls_are_not_one_long_one(bench: Bench):
    for _ in range(20):
        bench.call(bench.look)


def test_nobody_is_interrupted_outside_of_a_policy(bench: Bench):
    bench.look(100)
    with pytest.raises(Interrupted):
        bench.call(lambda: bench.look(100))
    bench.look(100)


def test_what_a_policy_makes_up_when_it_is_interrupted_does_not_count(bench: Bench):
    def swallow() -> Verdict:
        with contextlib.suppress(BaseException):
            bench.look(2)
        return accept("made-up")

    with pytest.raises(Interrupted):
        bench.call(swallow)
    assert bench.call(lambda: accept("of-the-next-one")) is not None


def test_who_goes_on_is_interrupted_again(bench: Bench):
    caught = []

    def insist() -> None:
        for _ in range(5):
            try:
                bench.look(2)
            except BaseException as error:
                caught.append(error)

    with pytest.raises(Interrupted):
        bench.call(insist)
    assert len(caught) == 5


def test_who_grows_too_much_is_interrupted(bench: Bench):
    hoard = []

    def grow() -> None:
        while len(hoard) < 1000:
            hoard.append(b"x" * MIB)
            bench.look(INTERVAL if len(hoard) % 100 == 0 else 0)

    with pytest.raises(Interrupted, match=r"interrupted: it took \d+ MiB of memory"):
        bench.call(grow)
    # Memory that the process had and did not need does not count, so it may be more than the limit.
    assert 64 <= len(hoard) < 1000
    assert bench.watch.overeater == "judged"
    # What was there before it began is not its fault.
    bench.call(bench.look)
