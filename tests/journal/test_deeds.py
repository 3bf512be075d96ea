"""What is told of what policies did, would have done, and of how they failed."""

from typing import Any

import pytest

from gateway.journal.advice import what_would_change
from gateway.journal.explain import explain
from gateway.journal.record import MTARecord
from tests.journal.records import make_record
from tests.journal.test_explain import squeezed

DEATH = """the worker died (Segmentation fault), 0.2 s after it had called policy mine
Fatal Python error: Segmentation fault

Current thread 0x00007f601e007b80 (most recent call first):
  File "/lib/ctypes/__init__.py", line 519 in string_at
  File "/p/mine.py", line 7 in mine
  File "/lib/policies/policy.py", line 43 in __call__
  File "/lib/gateway/watch.py", line 69 in call
  File "/lib/gateway/pipeline.py", line 223 in _call

Extension modules: msgspec._core, uvloop.loop (total: 2)
"""


def test_of_a_policy_that_ended_its_worker_nothing_is_said_that_nobody_knows():
    record = make_record(verdict="aborted", reason="policy-error", policy="mine", detail=DEATH)
    story = explain(record)
    where = "/p/mine.py:7, in mine"
    assert f"Where       {where}\n" in story
    assert f"Policy mine ended its worker: {DEATH.splitlines()[0]}, at {where}." in story
    assert story.count("what was known until then ended with the worker") == 2
    assert 'mode = "off" in [policies.mine]; "warn" does not help' in story
    for untrue in ("only recorded", "was asked", "must not raise", "Extension", "gateway/", "__call__"):
        assert untrue not in story


def test_of_an_interrupted_policy_the_place_comes_first():
    detail = (
        'Traceback (most recent call last):\n  File "/p/mine.py", line 9, in mine\n    loops()\n'
        '  File "/p/mine.py", line 4, in loops\n    while True:\n'
        "gateway.watch.Interrupted: interrupted: it took more than 5 s\n"
    )
    story = explain(make_record(reason="policy-error", policy="mine", detail=detail))
    assert story.index("Where       /p/mine.py:4, in loops") < story.index("Traceback")
    assert "Policy mine was interrupted: it took more than 5 s, at /p/mine.py:4, in loops;" in story


@pytest.mark.parametrize(
    ("verdict", "extra", "words"),
    [
        ("would-reject", {"reason": "odd"}, "would have refused it: odd."),
        ("would-tempfail", {"reason": "odd"}, "would have refused it for now: odd."),
        ("would-accept", {"reason": "friend"}, "would have accepted it: friend."),
        (
            "would-accept",
            {"reason": "friend", "exempt_from": ["spam", "bulk"]},
            "would have exempted it from spam bulk: friend.",
        ),
        ("would-quarantine", {"reason": "odd"}, "would have kept it in the quarantine instead of delivering"),
        ("would-discard", {"reason": "odd"}, "would have dropped it, and told nobody: odd."),
        (
            "would-copy",
            {"reason": "odd", "effects": [{"effect": "copy", "reason": "odd"}]},
            "would have kept a copy of it in the quarantine: odd.",
        ),
        (
            "would-redirect",
            {"reason": "redirected", "effects": [{"effect": "redirect", "address": "c@d.example"}]},
            "would have sent it to c@d.example instead of its recipients.",
        ),
        (
            "would-add-recipient",
            {"reason": "recipient-added", "effects": [{"effect": "add-recipient", "address": "c@d.example"}]},
            "would have sent it to c@d.example as well.",
        ),
        (
            "would-mark",
            {"reason": "marked", "effects": [{"effect": "mark", "name": "X-A", "value": "1"}]},
            "would have added X-A: 1.",
        ),
        (
            "would-subject",
            {"reason": "subject-prefixed", "effects": [{"effect": "subject", "prefix": "[?]"}]},
            "would have put '[?]' before its Subject.",
        ),
        (
            "would-reject",
            {"reason": "odd", "recipients": ["b@example.com"]},
            "would have refused it for b@example.com: odd.",
        ),
    ],
)
def test_a_policy_in_warn_mode_is_told_by_what_it_said(verdict: str, extra: dict[str, Any], words: str):
    opinion = {"verdict": verdict, "mode": "warn", "stage": "end-of-data", **extra}
    record = make_record(verdict="accepted", reason="accepted", policy=None, opinions={"mine": opinion})
    first = what_would_change(record)[0]
    assert first.startswith(f'Policy mine in mode = "enforce" {words}')
    assert "What policies did" not in explain(record)


def in_force(*effects: dict[str, str], **extra: Any) -> dict[str, Any]:
    """An opinion with these effects."""
    fields = {"verdict": effects[0]["effect"], "mode": "enforce", "stage": "end-of-data", "reason": "odd"}
    return {**fields, "effects": list(effects), **extra}


COPY = {"effect": "copy", "reason": "odd"}
MARK = {"effect": "mark", "name": "X-A", "value": "1"}
THERE = {"effect": "redirect", "address": "there@d.example"}
ELSEWHERE = {"effect": "redirect", "address": "elsewhere@d.example"}
ADDED = {"effect": "add-recipient", "address": "c@d.example"}


@pytest.mark.parametrize(
    ("opinions", "fields", "done"),
    [
        ({"a": in_force(COPY)}, {}, ["a kept a copy of it in the quarantine (odd); see: SHOW"]),
        (
            {"a": in_force(MARK, ADDED), "b": in_force(THERE, stage="rcpt")},
            {},
            [
                "a added X-A: 1 (odd)",
                "a sent it to c@d.example as well (odd)",
                "b sent it to there@d.example instead of the recipient in question (odd)",
            ],
        ),
        (
            {"a": in_force(THERE), "b": in_force(ELSEWHERE)},
            {},
            ["b sent it to elsewhere@d.example instead of its recipients (odd)"],
        ),
        ({"a": in_force(MARK, mode="warn", verdict="would-mark")}, {}, []),
        (
            {"a": in_force(MARK, COPY, THERE)},
            {"verdict": "quarantined", "reason": "held-it", "policy": "held"},
            [
                "a added X-A: 1 (odd)",
                "held kept it in the quarantine instead of delivering it (held-it); see: SHOW",
            ],
        ),
        (
            {"a": in_force(MARK)},
            {"verdict": "discarded", "reason": "held-it", "policy": "held"},
            ["held dropped it, and told nobody (held-it)"],
        ),
        (
            {"a": in_force(MARK, COPY)},
            {"verdict": "rejected", "policy": "spam"},
            ["a kept a copy of it in the quarantine (odd); see: SHOW"],
        ),
        ({"a": in_force(COPY)}, {"verdict": "rejected", "policy": None, "stage": "relay"}, []),
        ({"a": in_force(COPY)}, {"verdict": "tempfailed", "policy": "spam"}, []),
        (
            {"a": in_force(COPY), "spam": {"recipients": ["b@example.com"]}},
            {"verdict": "rejected", "policy": "spam", "answers_for_each": True},
            [],
        ),
        ({"a": {"mode": "enforce", "effects": "odd"}, "b": {"mode": "enforce", "effects": ["odd"]}}, {}, []),
    ],
)
def test_what_was_done_is_told_with_who_did_it(
    opinions: dict[str, Any], fields: dict[str, Any], done: list[str]
):
    as_usual: dict[str, Any] = {"verdict": "accepted", "reason": "accepted", "policy": None}
    record = make_record(opinions=opinions, **{**as_usual, **fields})
    _, _, section = squeezed(explain(record)).partition("\nWhat policies did to it\n")
    told = [line.strip() for line in section.partition("\n\n")[0].splitlines()]
    assert told == [line.replace("SHOW", f"sluicegate quarantine show {record.reference}") for line in done]


@pytest.mark.parametrize(("queue_id", "named"), [("9B93523EC6E", "9B93523EC6E"), (None, "ID")])
def test_of_what_an_mta_holds_its_commands_are_named(queue_id: str | None, named: str):
    mta = MTARecord("mx.test", "smtpd", queue_id)
    opinions = {"a": in_force(COPY), "held": {"verdict": "quarantine", "mode": "enforce", "reason": "odd"}}
    record = make_record(verdict="quarantined", reason="odd", policy="held", opinions=opinions, mta=mta)
    assert (
        "  held  had the MTA hold it instead of delivering it (odd);"
        f" Postfix shows it with postcat -q {named} and lets it go with postsuper -H {named}"
    ) in explain(record)
    assert "postcat" not in explain(record, is_trial=True)
    thrown_away = make_record(verdict="discarded", reason="odd", policy="held", opinions=opinions, mta=mta)
    assert "postcat" not in explain(thrown_away)


def test_who_did_something_could_only_have_warned():
    opinions = {"a": in_force(COPY, MARK)}
    record = make_record(verdict="accepted", reason="accepted", policy=None, opinions=opinions)
    assert what_would_change(record) == [
        'With mode = "warn" in [policies.a] what policy a did is only recorded.'
    ]


def test_nothing_is_said_to_be_kept_of_a_message_that_nobody_has_sent():
    record = make_record(verdict="accepted", reason="accepted", policy=None, opinions={"a": in_force(COPY)})
    story = explain(record, is_trial=True)
    assert "What policies would have done to it\n  a  kept a copy of it" in story
    assert "quarantine show" not in story


def test_a_policy_that_sends_mail_where_there_is_no_way_did_not_raise():
    record = make_record(
        verdict="tempfailed",
        reason="policy-error",
        policy=None,
        detail="redirected: there is no [[relay]] entry for c@d.example",
        opinions={"mover": in_force(THERE), "spam": {"verdict": None, "mode": "enforce"}},
    )
    advice = what_would_change(record)
    assert advice[0].endswith("it cannot go: redirected: there is no [[relay]] entry for c@d.example.")
    assert advice[-1].startswith('With mode = "warn" in [policies.mover]')
    assert not any("raise" in sentence or "None" in sentence for sentence in advice)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [("quarantined", "held-it"), ("discarded", "held-it"), ("quarantined", "spam-score")],
)
def test_what_was_taken_was_not_accepted(verdict: str, reason: str):
    story = explain(make_record(verdict=verdict, reason=reason, policy="held"))
    assert "accepted it" not in story
    assert 'With mode = "warn" in [policies.held]' in story


@pytest.mark.parametrize(("mode", "count"), [("warn", 1), ("enforce", 2)])
def test_a_policy_that_failed_while_mail_passed_is_told(mode: str, count: int):
    detail = 'Traceback (most recent call last):\n  File "x.py", line 3, in mine\nValueError: boom\n'
    opinion = {"verdict": None, "mode": mode, "reason": "policy-error", "detail": detail}
    record = make_record(verdict="accepted", policy=None, opinions={"mine": opinion})
    advice = what_would_change(record)
    assert advice[0] == "Policy mine failed: ValueError: boom, at x.py:3, in mine."
    assert len(advice) == count
