"""What a policy can answer, by its source."""

from pathlib import Path

import pytest

from gateway.plugins.discovery import discover
from gateway.plugins.sources import read_sources
from gateway.replay.answers import EVERYTHING, possible_answers
from policies.blocklist import blocklist
from policies.spam import spam
from policies.verdict import Decision

HEAD = "from policies import Evidence, Stage, Transaction, Verdict, policy\n"
POLICY = """
@policy(at=Stage.MAIL)
def it(tx: Transaction, evidence: Evidence) -> Verdict | None:
    found: Verdict | None = None
    """

REJECT, TEMPFAIL, ACCEPT, MARK = Decision.REJECT, Decision.TEMPFAIL, Decision.ACCEPT, Decision.MARK


@pytest.mark.parametrize(
    ("head", "body", "answers"),
    [
        ("", "return None", set()),
        ("from policies import reject", "return reject('a')", {REJECT}),
        ("from policies import reject, mark", "return mark('A', 'b')", {REJECT, MARK}),
        ("from policies import accept as good", "return good('a')", {ACCEPT}),
        ("import re, ipaddress\nfrom policies import tempfail", "return tempfail('a')", {TEMPFAIL}),
        ("from dataclasses import dataclass\nfrom filters import Finding", "return None", set()),
        ("from gateway.smtp import domains", "return None", set()),
        # Nobody can say
        ("", "return Verdict(1, 'a')", EVERYTHING),
        ("import policies", "return policies.reject('a')", EVERYTHING),
        ("from policies import spam", "return spam.spam.function(tx, evidence)", EVERYTHING),
        ("from policies.spam import spam", "return spam(tx, evidence)", EVERYTHING),
        ("from policies.verdict import *", "return None", EVERYTHING),
        ("from dataclasses import replace", "return replace(found, reason='b')", EVERYTHING),
        ("from operator import attrgetter", "return None", EVERYTHING),
        ("import json", "return getattr(json, 'a')", EVERYTHING),
        ("import click", "return None", EVERYTHING),
        ("def wrap(f): return f", "import importlib", EVERYTHING),
    ],
)
def test_the_source_says_what_a_policy_can_answer(
    tmp_path: Path, head: str, body: str, answers: set[Decision]
):
    (tmp_path / "it.py").write_text(f"{HEAD}{head}\n{POLICY}{body}\n")
    assert possible_answers(discover(read_sources(tmp_path)).policies["it"].load()) == answers


def test_a_policy_behind_a_decorator_may_answer_anything(tmp_path: Path):
    wrapped = POLICY.replace("def it", "@functools.lru_cache\ndef it")
    (tmp_path / "it.py").write_text(f"import functools\n{HEAD}{wrapped}return None\n")
    assert possible_answers(discover(read_sources(tmp_path)).policies["it"].load()) == EVERYTHING


def test_what_is_built_in_is_understood():
    assert possible_answers(spam) == {REJECT, MARK}
    assert possible_answers(blocklist) == {REJECT}
