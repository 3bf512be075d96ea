"""Invariant: one question at a time tries a failing address again, and no address is given up for good."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.breaker import COSTLY, LONGEST_PAUSE, Breaker

# What happens: to the question under way of that number, or on the clock.
ends = st.tuples(st.sampled_from(["succeed", "cheap", "costly", "costly", "leave"]), st.integers(0, 5))
waits = st.tuples(st.just("wait"), st.sampled_from([0, 1, 5, 30]))
events = st.lists(st.one_of(st.tuples(st.just("begin"), st.just(0)), ends, waits), max_size=80)


@given(events)
def test_one_at_a_time_tries_again_and_none_is_given_up_for_good(happening: list[tuple[str, int]]):
    breaker, now = Breaker(), 0.0
    under_way: list[int] = []
    for what, number in happening:
        if what == "wait":
            now += number
        elif what == "begin":
            if breaker.admits(now):
                was_closed = breaker.is_closed
                under_way.append(breaker.begin())
                assert was_closed or not breaker.admits(now), "two probes"
        elif under_way:
            probe = under_way.pop(number % len(under_way))
            _end(breaker, what, probe, now)
        assert breaker.explain(now)
        assert breaker.rank(now) == 2 or breaker.admits(now)
    for probe in under_way:
        breaker.end(probe)
    assert breaker.admits(now + LONGEST_PAUSE)


def _end(breaker: Breaker, how: str, probe: int, now: float) -> None:
    match how:
        case "succeed":
            breaker.succeed()
            assert breaker.rank(now) == 0
        case "cheap" | "costly":
            is_open = not breaker.admits(now)
            breaker.fail(COSTLY if how == "costly" else 0.0, how, now, probe)
            assert how == "costly" or is_open or breaker.admits(now), "a cheap failure closed the door"
    breaker.end(probe)
