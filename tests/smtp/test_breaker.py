"""When an address is asked, asked last, and left in peace."""

from gateway.smtp.breaker import (
    BEHIND,
    BEHIND_BRIEFLY,
    COSTLY,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    TOLERATED,
    Breaker,
)

CHEAP = COSTLY / 2


def fail(breaker: Breaker, now: float, seconds: float = COSTLY) -> None:
    """Put a question that fails after so many seconds."""
    assert breaker.admits(now)
    probe = breaker.begin()
    breaker.fail(seconds, "silence", now, probe)
    breaker.end(probe)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(TOLERATED):
        fail(breaker, now)
    assert not breaker.admits(now)
    return breaker


def test_a_new_one_admits_everything():
    breaker = Breaker()
    assert breaker.is_closed
    assert breaker.admits(0.0)
    assert breaker.rank(0.0) == 0


def test_one_failure_only_moves_it_behind_others_for_a_while():
    breaker = Breaker()
    fail(breaker, 100.0)
    assert breaker.is_closed
    assert [breaker.rank(100.0 + since) for since in (0.0, BEHIND - 0.1, BEHIND)] == [1, 1, 0]


def test_a_success_forgives():
    breaker = Breaker()
    for _ in range(20):
        for _ in range(TOLERATED - 1):
            fail(breaker, 0.0)
        breaker.succeed()
    assert breaker.rank(0.0) == 0


def test_failures_in_a_row_open_it():
    assert opened().rank(0.5) == 2
    assert opened().explain(0.25) == "given up on for 0.8 s more after: silence"


def test_cheap_failures_never_open_it():
    breaker = Breaker()
    for _ in range(100):
        fail(breaker, 0.0, CHEAP)
    assert breaker.admits(0.0)
    assert [breaker.rank(now) for now in (0.0, BEHIND_BRIEFLY)] == [1, 0]


def test_a_cheap_failure_among_costly_ones_is_a_sign_of_life():
    breaker = Breaker()
    for seconds in [COSTLY, COSTLY, CHEAP] * 10:
        fail(breaker, 0.0, seconds)
    assert breaker.is_closed


def test_after_the_pause_one_question_passes():
    breaker = opened()
    assert not breaker.admits(0.9)
    assert breaker.rank(1.0) == 0
    assert breaker.begin()
    assert not breaker.admits(1.0)
    assert breaker.explain(1.0) == "being tried again after: silence"


def test_each_failed_probe_doubles_the_pause():
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(8):
        pause = next(seconds for seconds in range(1, 100) if breaker.admits(now + seconds))
        pauses.append(pause)
        now += pause
        fail(breaker, now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert max(pauses) == LONGEST_PAUSE


def test_a_probe_that_succeeds_closes_it_and_the_next_pause_is_short_again():
    breaker = opened()
    fail(breaker, 1.0)
    probe = breaker.begin()
    assert probe
    breaker.succeed()
    breaker.end(probe)
    assert breaker.rank(3.0) == 0
    for _ in range(TOLERATED):
        fail(breaker, 3.0)
    assert breaker.admits(4.0)


def test_a_probe_that_is_refused_at_once_closes_it():
    breaker = opened()
    fail(breaker, FIRST_PAUSE, CHEAP)
    assert breaker.is_closed
    assert breaker.rank(1.0) == 1


def test_a_probe_that_tells_nothing_gives_its_place_back():
    breaker = opened()
    breaker.end(breaker.begin())
    assert not breaker.is_closed
    assert breaker.admits(1.0)


def test_a_late_failure_of_an_earlier_question_neither_frees_the_place_nor_lengthens_the_pause():
    breaker = opened()
    breaker.fail(COSTLY, "late", 0.9)
    breaker.end(0)
    probe = breaker.begin()
    breaker.fail(COSTLY, "late", 1.0)
    breaker.end(0)
    assert not breaker.admits(1.0)
    breaker.end(probe)
    assert breaker.admits(1.0)


def test_a_late_answer_to_an_earlier_question_closes_it():
    breaker = opened()
    breaker.succeed()
    assert breaker.admits(0.0)


def test_each_change_is_news_once():
    breaker = opened()
    assert breaker.news(0.0) == "given up on for 1.0 s more after: silence"
    fail(breaker, 1.0)
    assert breaker.news(1.0) is None
    breaker.succeed()
    assert breaker.news(3.0) == "asked as usual again"
    assert breaker.news(3.0) is None
