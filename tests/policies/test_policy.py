"""The decorator: what it makes of a function, and what it refuses with file and line."""

import functools
import re
from pathlib import Path

import pytest

from policies import (
    Evidence,
    Finding,
    Policy,
    PolicyError,
    SpamReport,
    Stage,
    Transaction,
    Verdict,
    policy,
    reject,
)
from policies.testing import evidence, transaction


@policy(at=Stage.END_OF_DATA, needs=[SpamReport])
def example(tx: Transaction, evidence: Evidence, *, limit: float = 1.0, word: str = "x") -> Verdict | None:
    """What it does."""
    return reject("example", detail=word) if evidence[SpamReport].score > limit else None


def test_a_policy_knows_what_it_is():
    assert isinstance(example, Policy)
    assert (example.name, example.stage, example.needs) == ("example", Stage.END_OF_DATA, (SpamReport,))
    assert example.__doc__ == "What it does."
    assert [option.name for option in example.options()] == ["limit", "word"]
    assert repr(example) == "<policy example at end-of-data>"


def test_calling_it_calls_the_function():
    assert example(transaction(), evidence(SpamReport(1.0))) is None
    verdict = example(transaction(), evidence(SpamReport(1.0)), limit=0.5, word="y")
    assert verdict is not None
    assert verdict.detail == "y"


def test_it_says_where_it_stands():
    file, _, line = example.location.rpartition(":")
    assert file == __file__
    assert Path(file).read_text().splitlines()[int(line) - 1].startswith("@policy(at=Stage.END_OF_DATA")


async def waits(tx, evidence):
    return None


async def yields(tx, evidence):
    yield None


def yields_verdicts(tx, evidence):
    yield None


@functools.wraps(waits)
def waits_inside(tx, evidence):
    return waits(tx, evidence)


def größe(tx, evidence):
    return None


nameless = lambda tx, evidence: None  # noqa: ARG005, E731


def takes_one(tx):
    return None


def takes_three(tx, evidence, score):
    return None


def takes_any(tx, *evidence):
    return None


def takes_any_option(tx, **options):
    return None


def has_no_default(tx, evidence, *, limit: float):
    return None


def has_no_annotation(tx, evidence, *, limit=1.0):
    return None


def fine(tx, evidence):
    return None


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (waits, "write `def`, not `async def`"),
        (yields, "write `def`, not `async def`"),
        (yields_verdicts, "write `return`, not `yield`"),
        (größe, "take ASCII letters, digits and _"),
        (nameless, "take ASCII letters, digits and _"),
        (takes_one, "it must take (tx, evidence)"),
        (takes_three, "it must take (tx, evidence)"),
        (takes_any, "it must take (tx, evidence)"),
        (takes_any_option, "it must take (tx, evidence)"),
        (has_no_default, "option 'limit' needs an annotation and a default"),
        (has_no_annotation, "option 'limit' needs an annotation and a default"),
    ],
)
def test_a_function_of_another_shape_is_refused(function, problem: str):
    assert_refused(function, problem, at=Stage.MAIL, needs=[])


@pytest.mark.parametrize("thing", [example, functools.partial(fine), Policy, "fine"])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(TypeError, match=r"makes a policy of a function, and .* is none"):
        policy(at=Stage.MAIL)(thing)


def test_what_waits_is_refused_in_whatever_it_is_wrapped():
    with pytest.raises(PolicyError, match="write `def`, not `async def`"):
        policy(at=Stage.MAIL)(waits_inside)


@pytest.mark.parametrize(
    ("needs", "problem"),
    [
        ([float], "needs takes evidence types, not <class 'float'>"),
        (["SpamReport"], "needs takes evidence types, not 'SpamReport'"),
        ([SpamReport(1.0)], "needs takes evidence types, not SpamReport("),
        (SpamReport, "needs takes a list of evidence types, not <class "),
        ("SpamReport", "needs takes evidence types, not 'S'"),
    ],
)
def test_needs_are_evidence_types(needs, problem: str):
    assert_refused(fine, problem, at=Stage.MAIL, needs=needs)


@pytest.mark.parametrize("at", ["rcpt", None, 3])
def test_a_stage_is_a_stage(at):
    assert_refused(fine, f"at takes a Stage, not {at!r}", at=at, needs=[])


def test_evidence_of_ones_own_can_be_needed():
    class Weather(Finding):
        pass

    assert policy(at=Stage.MAIL, needs=[Weather])(fine).needs == (Weather,)


def assert_refused(function, problem: str, **arguments):
    line = function.__code__.co_firstlineno
    with pytest.raises(PolicyError, match=re.escape(problem)) as refusal:
        policy(**arguments)(function)
    assert str(refusal.value).startswith(f"{__file__}:{line}: policy {function.__name__!r}: ")
