"""Invariant: fields of ours in a relayed message come from us, and every other octet is as received."""

import re
from email import message_from_bytes, policy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.casefile import CaseFile
from gateway.headers import relayed
from gateway.smtp.header import Field, split_fields
from policies.effects import Effect, SubjectPrefix
from policies.testing import message

HOSTNAME = "mx.our.example"
BLOCK = b"Received: from a by b; date\r\nX-Spam-Score: 1.0\r\nX-Sluicegate-Reference: 7K3F-Q2MD\r\n"
OURS = {
    *("x-spam-flag", "x-spam-score", "x-spam-status", "x-virus-scanned"),
    *("x-sluicegate-unscanned", "x-sluicegate-reference", "x-sluicegate-verdict"),
}

pieces = st.sampled_from(
    [
        *(b"X-Spam-Flag", b"x-spam-flag", b"X-Sluicegate-Reference", b"Authentication-Results", b"Subject"),
        b"X-Sluicegate-Verdict",
        *(
            b": NO",
            b":",
            b" : NO",
            b" mx.our.example; dkim=pass",
            b" (c) MX.our.example/1;",
            b'"mx.our.example";',
        ),
        *(
            b" other.example; spf=pass",
            b" ",
            b"\t",
            b"\r\n",
            b"\r\n ",
            b"\r\n\t",
            b"\r\n\r\n",
            b"From x y\r\n",
        ),
        *(b"\0", b"\xff", b"body", b"=?utf-8?q?X-Spam-Flag?="),
    ]
)
contents = st.lists(st.one_of(pieces, pieces, st.binary(max_size=3)), max_size=25).map(
    lambda parts: re.sub(rb"\r(?!\n)|(?<!\r)\n", b"", b"".join(parts)) + b"\r\n"
)


def relay(content: bytes, *effects: Effect) -> bytes:
    case = CaseFile(effects=list(effects))
    return b"".join(relayed(case, BLOCK, message(content=content), HOSTNAME))


@given(contents)
def test_a_prefix_changes_one_field_and_nothing_else(content: bytes):
    """Each field but the first Subject, and everything behind the header section, is as without it."""
    plain, prefixed = relay(content), relay(content, SubjectPrefix("[SPAM]"))
    before, after = split_fields(plain), split_fields(prefixed)
    kept = [plain[field.start : field.end] for field in before]
    found = [prefixed[field.start : field.end] for field in after]
    subjects = [number for number, field in enumerate(before) if field.name == "subject"]
    place = subjects[0] if subjects else BLOCK.count(b"\r\n")
    changed = found.pop(place)
    assert changed.startswith((b"Subject: [SPAM] ", b"Subject: [SPAM]\r\n"))
    if subjects:
        value = before[place].value.strip()
        assert changed.partition(b"[SPAM]")[2].strip() == value
        kept.pop(place)
    assert found == kept
    end = after[-1].end
    assert prefixed[end:] == plain[before[-1].end if before else 0 :]


@pytest.mark.parametrize(
    ("content", "passed"),
    [
        (b"Subject: x\r\n\r\nX-Spam-Flag: NO\r\n", b"Subject: x\r\n\r\nX-Spam-Flag: NO\r\n"),
        (b"X-Spam-Flag: NO\r\nSubject: x\r\n\r\nb", b"Subject: x\r\n\r\nb"),
        (b"A: 1\r\nx-SPAM-flag\t: NO\r\n folded\r\nB: 2\r\n\r\nb", b"A: 1\r\nB: 2\r\n\r\nb"),
        (b"Authentication-Results: mx.our.example; dkim=pass\r\n\r\n", b"\r\n"),
        (b"Authentication-Results: (x)\r\n MX.OUR.example 1; dkim=pass\r\n\r\n", b"\r\n"),
        # Comments in comments, and comments that end where they seem not to
        (b"Authentication-Results: ((c)) mx.our.example; dkim=pass\r\n\r\n", b"\r\n"),
        (b"Authentication-Results: (\\)) mx.our.example; dkim=pass\r\n\r\n", b"\r\n"),
        (b'Authentication-Results: (") mx.our.example; x="y"\r\n\r\n', b"\r\n"),
        (b'Authentication-Results: "mx.\\our.example"(c);x=y\r\n\r\n', b"\r\n"),
        (b"Authentication-Results: (mx.our.example; dkim=pass) mx.other.example; spf=pass\r\n\r\n", None),
        (b"Authentication-Results: mx.other.example; dkim=pass\r\n\r\n", None),
        (b"ARC-Authentication-Results: i=1; mx.our.example; spf=pass\r\n\r\n", None),
        (b"Received-SPF: pass\r\n\r\n", None),
        (b"", None),
        (b"\r\nbody\r\n", None),
        # Would go on with our last field, and with fields of its own below it
        (b" \r\nX-Spam-Flag: NO\r\n\r\nb", b"\r\n \r\nX-Spam-Flag: NO\r\n\r\nb"),
        (b"\tx\r\nX-Spam-Flag: NO\r\n\r\nb", b"\r\n\tx\r\nX-Spam-Flag: NO\r\n\r\nb"),
        (b" body without a header\r\n", b"\r\n body without a header\r\n"),
    ],
)
def test_what_is_passed_on(content: bytes, passed: bytes | None):
    assert relay(content) == BLOCK + (content if passed is None else passed)


@given(contents)
@example(b"From x y\r\n folded\r\nX-Spam-Flag: NO\r\n\r\n")
@example(b" \r\nX-Spam-Flag: NO\r\n\r\n")
@example(b"X-Spam-Flag: NO\r\n \r\nX-Spam-Flag: NO\r\n\r\n")
def test_our_fields_are_ours(content: bytes):
    passed = relay(content)
    assert passed.startswith(BLOCK)
    fields = split_fields(passed)
    ours = [field for field in fields if field.name in OURS]
    assert [passed[field.start : field.end] for field in ours] == BLOCK.splitlines(keepends=True)[1:]
    # By Python's parser, too, which goes on where ours takes a line for the end of the header.
    spoken = message_from_bytes(passed.partition(b"\r\n\r\n")[0], policy=policy.compat32)
    if not spoken.defects:
        names = [name.lower() for name in spoken.keys()]  # noqa: SIM118 - iterating is not what it has
        assert [name for name in names if name in OURS] == ["x-spam-score", "x-sluicegate-reference"]


@given(contents)
@example(b"From x y\r\nX-Spam-Flag: NO\r\nSubject: x\r\n\r\n")
def test_nothing_else_is_changed(content: bytes):
    fields = split_fields(content)
    kept = [content[field.start : field.end] for field in fields if not is_forged(field)]
    above, below = (content[: fields[0].start], content[fields[-1].end :]) if fields else (b"", content)
    border = b"\r\n" if content[:1] in {b" ", b"\t"} else b""
    if re.match(rb">?From [^\n]*\n", content):
        border = b"X-Mailbox-Line: "
    assert relay(content) == BLOCK + border + above + b"".join(kept) + below


def is_forged(field: Field) -> bool:
    claim = re.match(rb'(?:\s|\([^()]*\))*"?mx\.our\.example"?(?=[\s;/(]|$)', field.value, re.IGNORECASE)
    return field.name in OURS or (field.name == "authentication-results" and claim is not None)
