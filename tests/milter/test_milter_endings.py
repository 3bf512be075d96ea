"""What becomes of a whole message: each verdict and effect of the policies, as the MTA carries it out."""

from pathlib import Path

import pytest

from gateway.quarantine.store import Quarantine, quarantine_directory
from tests.fakes.milter_delivery import TRACE, Delivery
from tests.fakes.milter_mta import MTA, Response
from tests.fakes.milter_protocol import ALL_STEPS, DeleteRecipient, Steps
from tests.fakes.rspamd import FakeRspamd
from tests.fakes.rspamd import answer as rspamd_answer
from tests.fakes.rspamd import report as rspamd_report
from tests.fakes.spamd import FakeSpamd, verdict
from tests.milter.asked import PLAIN, Asked, B, C, brief, deliver, order, unseen

# Whether the MTA gives values with the white space before them.
each_kind = pytest.mark.parametrize(
    "steps", [ALL_STEPS, ALL_STEPS & ~Steps.HDR_LEADSPC], ids=["blank", "none"]
)
OURS = [b"X-Spam-Score", b"X-Spam-Status", b"X-Sluicegate-Rspamd", b"X-Virus-Scanned"]


async def ask(
    asked: Asked, content: bytes, *recipients: bytes, steps: Steps = ALL_STEPS
) -> tuple[MTA, Response]:
    """One message; the response to its end."""
    async with asked.mta(steps=steps) as mta:
        await mta.greet()
        end = await deliver(mta, content, *recipients)
    return mta, end


async def delivery(asked: Asked, content: bytes, *recipients: bytes, steps: Steps = ALL_STEPS) -> Delivery:
    """What the MTA delivers of it."""
    mta, end = await ask(asked, content, *recipients, steps=steps)
    return mta.delivered(end)


def kept(asked: Asked) -> Quarantine:
    return Quarantine(quarantine_directory(asked.directory / "state"))


def kept_content(asked: Asked, reference: str) -> bytes:
    with kept(asked).open(reference) as file:
        return file.read()


# Refusals


@pytest.mark.parametrize(
    ("what", "code", "status", "verdict"),
    [
        ('reject("because")', 550, "5.7.1", "rejected"),
        ('reject("because", code=554, status="5.6.0")', 554, "5.6.0", "rejected"),
        ('tempfail("because")', 451, "4.7.1", "tempfailed"),
        ('tempfail("because", code=452, status="4.3.1")', 452, "4.3.1", "tempfailed"),
    ],
)
async def test_a_refusal_is_said_in_the_policys_words(
    asked: Asked, what: str, code: int, status: str, verdict: str
):
    _, end = await ask(asked, order(what))
    record = await asked.record()
    assert (end.reply.code, end.reply.status) == (code, status)
    assert end.reply.text.endswith(f" (ref {record['reference']})")
    assert brief(record, "policy") == (verdict, "end-of-data", "end-of-data", "because", "at_end")
    assert (record["reply"]["code"], record["reply"]["text"]) == (code, end.reply.text)
    assert not end.modifications


@pytest.mark.parametrize("text", ["100% sure, %s %d %%", "%", "x" * 1500, "x%" * 300])
async def test_a_text_arrives_as_it_is(asked: Asked, text: str):
    _, end = await ask(asked, order(f'reject("because", text={text!r})'))
    record = await asked.record()
    assert " ".join(end.reply.lines) == record["reply"]["text"]
    assert "".join(end.reply.lines) == f"{text} (ref {record['reference']})"


async def test_a_text_too_long_for_libmilter_is_cut_before_the_reference(asked: Asked):
    _, end = await ask(asked, order('reject("because", text="y" * 480 * 40)'))
    assert len(end.reply.lines) == 32
    assert end.reply.lines[-1].endswith(f" (ref {(await asked.record())['reference']})")


async def test_a_refusal_for_some_is_not_said_where_one_reply_is_for_all(asked: Asked):
    delivered = await delivery(asked, order('reject("because", recipients=["b@our.example"])'), B, C)
    assert delivered.recipients == (b"b@our.example", b"c@our.example")
    record = await asked.record()
    assert brief(record)[0] == "accepted"
    assert record["detail"] == "because for b@our.example alone could not be said to this client"


async def test_a_refusal_for_all_of_them_is_said(asked: Asked):
    _, end = await ask(asked, order('reject("because", recipients=["b@our.example"])'))
    assert end.is_reject
    assert (await asked.record())["verdict"] == "rejected"


# What is let pass


@each_kind
async def test_a_message_gets_our_fields_below_the_mtas_own(asked: Asked, steps: Steps):
    delivered = await delivery(asked, PLAIN, steps=steps)
    record = await asked.record()
    first, *fields = delivered.queued.fields
    assert first is TRACE
    assert [field.octets for field in fields] == [
        b"X-Spam-Score: 0.0\r\n",
        b"X-Spam-Status: No, score=0.0 required=5.0 tests=NO_RECEIVED\r\n",
        b"X-Sluicegate-Rspamd: no action, score=0.0 required=15.0\r\n",
        b"X-Virus-Scanned: clamav at mx.our.example\r\n",
        b"X-Sluicegate-Reference: %s\r\n" % record["reference"].encode(),
        b"From: a@example.net\r\n",
        b"Subject: x\r\n",
    ]
    assert brief(record, "reply") == ("accepted", "end-of-data", "end-of-data", "accepted", None)


@each_kind
async def test_a_field_may_be_folded(asked: Asked, spamd: FakeSpamd, steps: Steps):
    spamd.behaviour = verdict(1.0, [f"A_RULE_OF_ANY_LENGTH_{number}" for number in range(10)])
    delivered = await delivery(asked, unseen(), steps=steps)
    (field,) = (each for each in delivered.message.fields if each.name == b"X-Spam-Status")
    lines = field.octets.split(b"\r\n")[:-1]
    assert len(lines) > 2
    assert lines[0].startswith(b"X-Spam-Status: No, score=1.0 required=5.0 tests=A_RULE")
    assert all(line.startswith(b"\tA_RULE") and len(line) < 80 for line in lines[1:])
    assert b"\r" not in field.octets.replace(b"\r\n", b"")


async def test_marks_stand_below_the_reference_and_a_flag_above_everything(asked: Asked):
    what = 'mark("X-One", "1") & mark("X-Spam-Flag", "NO") & mark("X-Two", "2") & mark("X-Spam-Flag", "YES")'
    delivered = await delivery(asked, order(what))
    names = [field.name for field in delivered.message.fields]
    assert names[:8] == [b"X-Spam-Flag", *OURS, b"X-Sluicegate-Reference", b"X-One", b"X-Two"]
    assert delivered.values(b"X-Spam-Flag") == [b"YES"]
    assert (await asked.record())["verdict"] == "accepted"


async def test_an_acceptance_ends_the_judging(asked: Asked):
    delivered = await delivery(asked, order('accept("because") & mark("X-One", "1")', "X-Break: reject"))
    assert delivered.values(b"X-One") == [b"1"]
    assert brief(await asked.record(), "policy") == (
        "accepted",
        "end-of-data",
        "end-of-data",
        "because",
        "at_end",
    )


# Words before the Subject


@each_kind
@pytest.mark.parametrize(
    ("field", "prefix", "expected"),
    [
        ("Subject: x", "[Bulk]", b"Subject: [Bulk] x\r\n"),
        ("SUBJECT:x", "[Bulk]", b"Subject: [Bulk] x\r\n"),
        ("Subject:", "[Bulk]", b"Subject: [Bulk]\r\n"),
        ("Subject: x\r\n y\r\n\tz", "[Bulk]", b"Subject: [Bulk] x\r\n y\r\n\tz\r\n"),
        ("Subject: x", "[Grün]", b"Subject: =?utf-8?b?W0dyw7xuXQ==?= x\r\n"),
        ("Subject: grün", "[Bulk]", "Subject: [Bulk] grün\r\n".encode()),
        ("Subject: " + "x" * 70, "[Bulk]", b"Subject: [Bulk]\r\n " + b"x" * 70 + b"\r\n"),
    ],
)
async def test_words_before_the_subject(asked: Asked, steps: Steps, field: str, prefix: str, expected: bytes):
    content = f"X-Order: subject({prefix!a})\r\n{field}\r\nX-Last: 1\r\n\r\nHello\r\n".encode()
    delivered = await delivery(asked, content, steps=steps)
    *_, subject, last = (each.octets for each in delivered.message.fields)
    assert (subject, last) == (expected, b"X-Last: 1\r\n")


@each_kind
async def test_octets_of_a_subject_that_are_no_text_stay_as_they_are(asked: Asked, steps: Steps):
    octets = bytes(range(1, 256)).translate(None, b"\r\n")
    content = b'X-Order: subject("[Bulk]")\r\nSubject: a' + octets + b"z\r\n\r\nHello\r\n"
    delivered = await delivery(asked, content, steps=steps)
    assert (
        delivered.message.fields[-1].octets.replace(b"\r\n ", b" ")
        == b"Subject: [Bulk] a" + octets + b"z\r\n"
    )


async def test_a_message_without_a_subject_gets_one(asked: Asked):
    delivered = await delivery(asked, b'X-Order: subject("[Bulk]") & mark("X-One", "1")\r\n\r\nHello\r\n')
    assert [field.octets for field in delivered.message.fields[5:]] == [
        b"X-One: 1\r\n",
        b"Subject: [Bulk]\r\n",
        b'X-Order: subject("[Bulk]") & mark("X-One", "1")\r\n',
    ]


async def test_only_the_first_of_several_subjects_is_changed(asked: Asked):
    delivered = await delivery(asked, order('subject("[Bulk]")', "subject: first"))
    assert delivered.values(b"Subject") == [b"[Bulk] first", b"x"]


# What only we may say


@each_kind
async def test_forged_fields_are_taken_out_and_all_others_stay(asked: Asked, steps: Steps):
    forged = [
        b"X-Spam-Flag: NO",
        b"x-spam-FLAG: no",
        b"X-SPAM-STATUS: No,\r\n\tscore=-100",
        b"X-Spam-Score:-5",
        b"X-Virus-Scanned: yes",
        b"X-Sluicegate-Reference: AAAA-AAAA",
        b"X-sluicegate-Anything: 1",
        b"Authentication-Results: mx.our.example; spf=pass",
        b'authentication-results: (c) "mx.our.example" ; dkim=pass',
    ]
    others = [
        b"Received: from x\r\n\tby y",
        b"Authentication-Results: elsewhere.example; spf=fail",
        b"X-Spam-Report: something",
        b"Subject: x",
        b"Authentication-Results: mx.our.example.evil; spf=pass",
        b"X-Other:no blank",
        b"X-Empty:",
        b"X-Wide:   3 blanks ",
    ]
    lines = [line for pair in zip(forged, [*others, b"X-Last: 1"], strict=True) for line in pair]
    content = b"".join(line + b"\r\n" for line in lines) + b"\r\nX-Spam-Flag: NO\r\n"
    delivered = await delivery(asked, content, steps=steps)
    fields = [field.octets for field in delivered.message.fields]
    assert fields[5:] == [line + b"\r\n" for line in [*others, b"X-Last: 1"]]
    assert delivered.message.body == b"X-Spam-Flag: NO\r\n"
    assert delivered.values(b"X-Spam-Flag") == []


async def test_many_forged_fields_of_one_name(asked: Asked):
    results = [
        b"Authentication-Results: %s; n=%d" % (name, n)
        for n in range(50)
        for name in (b"mx.our.example", b"b.example")
    ]
    content = b"".join(line + b"\r\n" for line in results) + b"\r\nHello\r\n"
    delivered = await delivery(asked, content)
    assert delivered.values(b"Authentication-Results") == [b"b.example; n=%d" % n for n in range(50)]


async def test_only_one_opinion_on_spam_is_ours(asked: Asked, rspamd: FakeRspamd, spamd: FakeSpamd):
    spamd.behaviour = verdict(7.0, ["BAD"])
    rspamd.behaviour = rspamd_answer(rspamd_report(3.0))
    delivered = await delivery(asked, unseen("X-Sluicegate-Rspamd: forged", "X-Spam-Status: forged"))
    assert delivered.values(b"X-Spam-Status") == [b"Yes, score=7.0 required=5.0 tests=BAD"]
    assert delivered.values(b"X-Sluicegate-Rspamd") == [b"no action, score=3.0 required=15.0"]


# Whom it reaches


@pytest.mark.parametrize(
    ("what", "named", "expected"),
    [
        ('redirect("target@our.example")', [B, C], [b"target@our.example"]),
        ('redirect("c@our.example")', [B, C], [b"c@our.example"]),
        ('redirect("x@our.example") & redirect("y@our.example")', [B], [b"y@our.example"]),
        ('add_recipient("more@our.example")', [B], [b"b@our.example", b"more@our.example"]),
        ('add_recipient("b@our.example")', [B, C], [b"b@our.example", b"c@our.example"]),
        (
            'redirect("x@our.example") & add_recipient("b@our.example")',
            [B, C],
            [b"b@our.example", b"x@our.example"],
        ),
        ("None", [b"<sent-on@our.example>"], [b"target@our.example"]),
        ("None", [B, b"<sent-on@our.example>"], [b"b@our.example", b"target@our.example"]),
        ("None", [b"<sent-on@Our.Example>", b"<target@our.example>"], [b"target@our.example"]),
        ('redirect("y@our.example")', [b"<sent-on@our.example>"], [b"y@our.example"]),
        ('redirect("y@our.example")', [b"<B@Our.Example>", b"c@our.example"], [b"y@our.example"]),
        ('redirect("y@our.example")', [b"<postmaster>", b"<postmaster@mx.example>"], [b"y@our.example"]),
        ('redirect("y@our.example")', [b'<"a b"@our.example>', b"<local>"], [b"y@our.example"]),
        ('redirect("postmaster@mx.example")', [b"<postmaster>"], [b"postmaster"]),
    ],
)
async def test_whom_the_message_reaches(asked: Asked, what: str, named: list[bytes], expected: list[bytes]):
    delivered = await delivery(asked, order(what), *named)
    assert sorted(delivered.recipients) == expected
    record = await asked.record()
    assert (record["verdict"], len(record["recipients"])) == ("accepted", len(named))


async def test_who_was_named_by_a_source_route_is_deleted_without_it(asked: Asked):
    """As Postfix has them."""
    _, end = await ask(asked, order('redirect("y@our.example")'), b"<@h.example:c@our.example>")
    assert DeleteRecipient(b"<c@our.example>") in end.modifications


async def test_nobody_is_added_who_is_there(asked: Asked):
    _, end = await ask(asked, order('add_recipient("c@our.example")'), B, C)
    assert "Recipient" not in "".join(type(each).__name__ for each in end.modifications)


# What is taken and not delivered


async def test_a_message_in_quarantine_is_held_by_the_mta(asked: Asked):
    what = 'quarantine("because") & mark("X-One", "1") & redirect("target@our.example")'
    delivered = await delivery(asked, order(what), B)
    record = await asked.record()
    assert delivered.held == f"because (ref {record['reference']})"
    assert delivered.recipients == (b"target@our.example",)
    assert delivered.values(b"X-One") == [b"1"]
    assert brief(record, "policy", "reply") == (
        "quarantined",
        "end-of-data",
        "end-of-data",
        "because",
        "at_end",
        None,
    )
    assert kept(asked).find(record["reference"]) is None


async def test_a_copy_is_kept_as_it_is_delivered(asked: Asked):
    content = order('quarantine("because", deliver=True) & mark("X-One", "1")', "X-Spam-Flag: NO")
    delivered = await delivery(asked, content)
    record = await asked.record()
    assert brief(record)[0] == "accepted"
    entry = kept(asked).find(record["reference"])
    assert entry is not None
    assert (entry.reason, entry.is_copy, entry.recipients) == ("because", True, ["b@our.example"])
    assert kept_content(asked, record["reference"]) == delivered.content


async def test_a_copy_is_kept_of_what_is_refused_as_well(asked: Asked):
    _, end = await ask(asked, order('quarantine("because", deliver=True) & reject("no")'))
    assert end.is_reject
    record = await asked.record()
    entry = kept(asked).find(record["reference"])
    assert entry is not None
    assert (entry.is_copy, record["verdict"]) == (True, "rejected")


async def test_without_its_copy_no_message_goes_on(tmp_path: Path):
    with Asked(tmp_path) as asked:
        quarantine_directory(tmp_path / "state").rmdir()
        _, end = await ask(asked, order('quarantine("because", deliver=True)'))
        assert (end.reply.code, end.reply.status) == (452, "4.3.1")
        assert brief(await asked.record())[0::3] == ("tempfailed", "storage-failed")


async def test_a_message_is_thrown_away(asked: Asked):
    mta, end = await ask(asked, order('discard("because") & mark("X-One", "1")'))
    assert end.is_discard
    assert mta.delivered(end).recipients == ()
    record = await asked.record()
    assert brief(record, "reply") == ("discarded", "end-of-data", "end-of-data", "because", None)
    assert f"reference={record['reference']}" in asked.log
