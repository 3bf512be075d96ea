"""Invariant: whatever mail says, a built-in policy has a verdict or none, and never an error."""

from hypothesis import given
from hypothesis import strategies as st

from policies import AttachedFile, Attachments, FileSet, Stage, Verdict
from policies.attachments import attachments
from policies.backscatter import backscatter
from policies.bulk import bulk
from policies.header_sanity import header_sanity
from policies.testing import evidence, message, transaction

PIECES = st.sampled_from(
    [
        *(
            b"From",
            b"Date",
            b"Subject",
            b"Precedence",
            b"List-Unsubscribe",
            b"Content-Type",
            b": ",
            b"\r\n",
            b"\n",
        ),
        *(
            b"<",
            b">",
            b"@",
            b"=?utf-8?B?",
            b"?=",
            b";",
            b"name=",
            b"filename*=utf-8''%E2%80%AE",
            b'"',
            b"\0",
            b" ",
        ),
        *(
            b"Tue, 24 Nov 2026 12:00:00 +0100",
            b"-9999",
            b"multipart/mixed; boundary=x",
            b"\r\n--x\r\n",
            b"\xff",
        ),
    ]
)
CONTENTS = st.lists(PIECES | st.binary(max_size=20), max_size=60).map(b"".join)
NAMES = st.text(max_size=30) | st.sampled_from(["a.pdf.exe", "a.zip/../b.js ", "...", "/", "\u202e.exe"])
FILES = st.builds(
    AttachedFile,
    name=NAMES,
    declared_type=st.none() | st.text(max_size=10),
    true_type=st.none() | st.text(max_size=10),
    is_encrypted=st.booleans(),
    macros=st.lists(st.text(max_size=10), max_size=3).map(tuple),
)
FINDINGS = st.builds(
    Attachments,
    files=st.lists(FILES, max_size=5).map(tuple),
    defects=st.lists(st.sampled_from(["too-deep", "time-out", "malformed-mime", "new"]), max_size=3).map(
        tuple
    ),
)
SENDERS = FileSet.of("anna@example.com", "@example.org")


@given(CONTENTS, CONTENTS, FINDINGS)
def test_any_message(content: bytes, trace: bytes, found: Attachments):
    tx = transaction(message=message(content=content), trace=trace)
    for verdict in (
        header_sanity(tx, evidence()),
        header_sanity(tx, evidence(), only_mark=frozenset()),
        bulk(tx, evidence(), subject_prefix="[Bulk]"),
        bulk(tx, evidence(), one_click=True, action="reject"),
        attachments(tx, evidence(found)),
        attachments(tx, evidence(found), forbidden="mark", bombs="quarantine", disguised="accept"),
    ):
        assert verdict is None or isinstance(verdict, Verdict)


@given(st.text("prvs=0123456789abcdef+SRS-", min_size=1, max_size=40), st.booleans())
def test_any_recipient_of_a_bounce(local_part: str, tagged: bool):
    recipient = f"{local_part}@example.com"
    tx = transaction(stage=Stage.RCPT, reverse_path="", recipients=(), recipient=recipient)
    verdict = backscatter(tx, evidence(), senders=SENDERS, tagged=tagged)
    assert verdict is None or verdict.reason == "backscatter"
