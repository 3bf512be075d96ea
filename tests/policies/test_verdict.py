"""Verdicts: what can be built, and what cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.reply import Reply
from policies import (
    Stage,
    Verdict,
    accept,
    add_recipient,
    discard,
    mark,
    quarantine,
    redirect,
    reject,
    subject,
    tempfail,
)
from policies.effects import HeaderField
from policies.verdict import Decision


@pytest.mark.parametrize(
    ("verdict", "reply"),
    [
        (reject("spam-score"), "550 5.7.1 Message refused: it looks like spam"),
        (reject("no-such-reason"), "550 5.7.1 Message refused"),
        (reject("x", text="Go away"), "550 5.7.1 Go away"),
        (reject("x", text=""), "550 5.7.1 "),
        (reject("message-too-big", code=552, status="5.3.4"), "552 5.3.4 Message too big"),
        (tempfail("greylisted"), "451 4.7.1 Please try again later"),
        (tempfail("no-such-reason"), "451 4.7.1 Please try again later"),
        (
            tempfail("rate-limited", code=450),
            "450 4.7.1 Too much mail from you, please try again later",
        ),
    ],
)
def test_a_refusal_has_a_reply(verdict: Verdict, reply: str):
    assert verdict.is_refusal
    assert str(verdict.reply) == reply


@pytest.mark.parametrize("verdict", [accept("trusted"), mark("X-Spam-Flag", "YES")])
def test_what_lets_mail_pass_has_none(verdict: Verdict):
    assert not verdict.is_refusal
    assert verdict.reply is None


@pytest.mark.parametrize(
    "reason", ["", "Spam", "spam score", "spam_score", "-spam", "spam-", "a--b", "späm", "a\n"]
)
def test_a_reason_is_a_slug(reason: str):
    with pytest.raises(ValueError, match="kebab-case"):
        accept(reason)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (reject, {"code": 450, "status": "4.7.1"}),
        (reject, {"code": 250, "status": "2.0.0"}),
        (reject, {"code": 550, "status": "4.7.1"}),
        (reject, {"code": 600}),
        (reject, {"status": "5.7"}),
        (reject, {"status": "5.٧.1"}),
        (tempfail, {"code": 550, "status": "5.7.1"}),
        (tempfail, {"code": 451, "status": "5.7.1"}),
        (tempfail, {"code": 354, "status": None}),
    ],
)
def test_code_and_status_must_agree_with_the_verdict(make, options):
    with pytest.raises(ValueError):
        make("reason", **options)


OK = Reply.of(250, "2.0.0", "Ok")
GONE = Reply.of(550, "5.7.1", "No")
FLAG = HeaderField("X-Flag", "yes")


@pytest.mark.parametrize(
    ("decision", "reply", "effects"),
    [
        (Decision.REJECT, OK, ()),
        (Decision.REJECT, None, ()),
        (Decision.TEMPFAIL, GONE, ()),
        (Decision.TEMPFAIL, None, ()),
        (Decision.ACCEPT, GONE, ()),
        (Decision.QUARANTINE, None, ()),
        (Decision.QUARANTINE, GONE, ()),
        (Decision.DISCARD, GONE, ()),
        (Decision.MARK, None, ()),
        (Decision.MARK, GONE, (FLAG,)),
        (Decision.REJECT, GONE, (FLAG,)),
    ],
)
def test_the_constructor_is_no_way_round(decision: Decision, reply: Reply | None, effects):
    with pytest.raises(ValueError):
        Verdict(decision, "reason", reply, effects=effects)


EFFECTS = {
    "mark": mark("X-Flag", "yes", detail="because"),
    "subject": subject("[SPAM]"),
    "copy": quarantine("odd", deliver=True),
    "redirect": redirect("abuse@example.com"),
    "add_recipient": add_recipient("archive@example.com"),
}


@pytest.mark.parametrize("verdict", EFFECTS.values(), ids=EFFECTS)
def test_an_effect_does_not_end_the_judging(verdict: Verdict):
    assert not verdict.ends_judging
    assert len(verdict.effects) == 1
    assert verdict.reply is None


@pytest.mark.parametrize("verdict", [reject("a"), tempfail("a"), accept("a"), quarantine("a"), discard("a")])
def test_a_decision_ends_it(verdict: Verdict):
    assert verdict.ends_judging
    assert verdict.effects == ()


def test_an_acceptance_for_some_policies_does_not_end_it():
    verdict = accept("friend", exempt_from=["spam", "bulk"])
    assert not verdict.ends_judging
    assert verdict.as_record() == {"exempt_from": ["bulk", "spam"]}
    with pytest.raises(ValueError, match="names of policies"):
        accept("friend", exempt_from="spam")


@pytest.mark.parametrize("verdict", [accept("friend"), quarantine("odd"), discard("junk")])
@pytest.mark.parametrize("is_first", [True, False])
def test_effects_join_a_decision_from_either_side(verdict: Verdict, is_first: bool):
    marked, both = EFFECTS["mark"], EFFECTS["mark"] & EFFECTS["subject"]
    joined = verdict & both if is_first else both & verdict
    assert (joined.decision, joined.reason, joined.reply) == (verdict.decision, verdict.reason, verdict.reply)
    assert joined.effects == both.effects
    assert joined.detail == marked.detail
    assert joined.ends_judging


def test_a_refusal_takes_a_copy_along_and_nothing_else():
    assert (reject("spam-score") & EFFECTS["copy"]).is_refusal
    for name in EFFECTS.keys() - {"copy"}:
        with pytest.raises(ValueError, match="cannot be changed"):
            EFFECTS[name] & reject("spam-score")


def test_two_decisions_contradict_each_other():
    with pytest.raises(ValueError, match="cannot both be"):
        accept("friend") & reject("spam-score")
    with pytest.raises(TypeError):
        accept("friend") & "spam-score"


STAGES = {
    "anything": (reject("a"), set(Stage)),
    "mark": (EFFECTS["mark"], set(Stage)),
    "redirect": (EFFECTS["redirect"], {Stage.RCPT, Stage.END_OF_DATA}),
    "quarantine": (quarantine("a"), {Stage.END_OF_DATA}),
    "discard": (discard("a"), {Stage.END_OF_DATA}),
    "add_recipient": (EFFECTS["add_recipient"], {Stage.END_OF_DATA}),
    "copy with mark": (EFFECTS["mark"] & EFFECTS["copy"], {Stage.END_OF_DATA}),
    "some recipients": (reject("a", recipients=["b@example.com"]), {Stage.END_OF_DATA}),
}


@pytest.mark.parametrize(("verdict", "stages"), STAGES.values(), ids=STAGES)
def test_a_verdict_has_its_stages(verdict: Verdict, stages: set[Stage]):
    verdict.check_stage(Stage.END_OF_DATA)
    for stage in Stage:
        if stage in stages:
            verdict.check_stage(stage)
        else:
            with pytest.raises(ValueError, match=f"end-of-data, not for {stage.value}"):
                verdict.check_stage(stage)


@pytest.mark.parametrize("address", ["", "no address", "a@b@c", "<a@example.com>", "a@example.com\r\nDATA"])
@pytest.mark.parametrize("make", [redirect, add_recipient])
def test_a_recipient_is_an_address(make, address: str):
    with pytest.raises(ValueError):
        make(address)


@pytest.mark.parametrize("prefix", ["", "  ", "a\r\nBcc: v@victim.example", "x" * 61, "a\x00"])
def test_a_prefix_is_a_few_words(prefix: str):
    with pytest.raises(ValueError):
        subject(prefix)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Flag", "a\r\nBcc: v@victim.example\r\n\r\nbody"),
        ("X-Flag", "a\nb"),
        ("X-Flag", "a\x00b"),
        ("X-Flag", "gr\xfc\xdfe"),
        ("X-Flag:", "a"),
        ("X Flag", "a"),
        ("X-Fl\xe4g", "a"),
        ("X-Flag\r\nBcc", "a"),
        ("", "a"),
    ],
)
def test_a_mark_is_one_header_field(name: str, value: str):
    with pytest.raises(ValueError):
        mark(name, value)


@given(st.text(), st.integers(-1000, 1000), st.text(alphabet="0123456789.٧x", max_size=9))
def test_whatever_a_policy_writes_the_reply_is_whole_or_is_none(text: str, code: int, status: str):
    try:
        verdict = reject("reason", text=text, code=code, status=status)
    except ValueError:
        return
    assert verdict.reply is not None
    octets = verdict.reply.encode()
    assert all(line.startswith(str(code).encode()) and len(line) <= 510 for line in octets.splitlines())
    assert octets.endswith(b"\r\n")
    assert all(32 <= octet <= 126 or octet in b"\r\n" for octet in octets)
