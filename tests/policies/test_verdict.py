"""Verdicts: what can be built, and what cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.reply import Reply
from policies import Verdict, accept, mark, reject, tempfail
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


@pytest.mark.parametrize(
    ("decision", "reply", "field"),
    [
        (Decision.REJECT, OK, None),
        (Decision.REJECT, None, None),
        (Decision.TEMPFAIL, GONE, None),
        (Decision.TEMPFAIL, None, None),
        (Decision.ACCEPT, GONE, None),
        (Decision.MARK, None, None),
        (Decision.MARK, GONE, ("X-Flag", "yes")),
        (Decision.REJECT, GONE, ("X-Flag", "yes")),
        (Decision.MARK, None, ("X-Flag", "yes\r\nBcc: victim@example.org")),
    ],
)
def test_the_constructor_is_no_way_round(decision: Decision, reply: Reply | None, field):
    with pytest.raises(ValueError):
        Verdict(decision, "reason", reply, field=field)


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
