"""What fails, is too big, or finds no room: never does mail pass because of it that nobody has let pass."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from filters.testing.server import mute
from gateway.smtp.header import MAX_FIELDS
from tests.fakes.clamd import FakeClamd
from tests.fakes.milter_mta import MTA
from tests.fakes.milter_response import Decision
from tests.fakes.rspamd import FakeRspamd
from tests.fakes.spamd import FakeSpamd
from tests.milter.asked import PLAIN, A, Asked, B, brief, deliver, order, unseen

UNSCANNED = b"X-Sluicegate-Unscanned"
LIMIT = 2_097_152
CHUNK = 65_535
HEADER = b"Subject: x\r\n\r\n"
HOP = b"Received: from x by %s with SMTP; Mon, 23 Nov 2026 10:00:00 +0000\r\n"


# Policies


@pytest.mark.parametrize(
    ("on_error", "code", "status", "verdict"),
    [("tempfail", 451, "4.3.0", "tempfailed"), ("reject", 550, "5.3.0", "rejected")],
)
async def test_a_policy_that_fails_refuses(asked: Asked, on_error: str, code: int, status: str, verdict: str):
    async with asked.mta() as mta:
        await mta.greet()
        reply = (await deliver(mta, order("None", f"X-Break: {on_error}"))).reply
        assert (reply.code, reply.status) == (code, status)
        assert "told so" not in reply.text
        assert (await deliver(mta)).is_continue
    failed, _ = await asked.recorded(2)
    assert brief(failed) == (verdict, "end-of-data", "end-of-data", "policy-error")
    assert "told so" in failed["detail"]


async def test_a_policy_whose_failure_lets_mail_pass_is_named_in_it(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        end = await deliver(mta, order("None", "X-Break: accept", "X-Sluicegate-Unscanned: nothing"))
        assert mta.delivered(end).values(UNSCANNED) == [b"breaks_and_accepts"]
    record = await asked.record()
    assert brief(record) == ("accepted", "end-of-data", "end-of-data", "policy-error")
    assert record["detail"] == "not scanned by breaks_and_accepts"


@pytest.mark.parametrize("what", ["1 / 0", "True", "redirect('no address')", "mark('X', 'two\\nlines')"])
async def test_an_answer_that_is_none_refuses(asked: Asked, what: str):
    async with asked.mta() as mta:
        await mta.greet()
        reply = (await deliver(mta, order(what))).reply
        assert (reply.code, reply.status) == (451, "4.3.0")
    assert brief(await asked.record(), "policy")[3:] == ("policy-error", "at_end")


# Filters


async def test_a_filter_that_does_not_answer_defers(asked: Asked, clamd: FakeClamd):
    clamd.behaviour = mute
    async with asked.mta() as mta:
        await mta.greet()
        reply = (await deliver(mta, unseen())).reply
        assert (reply.code, reply.status) == (451, "4.7.1")
    record = await asked.record()
    assert brief(record, "policy")[0::3] == ("tempfailed", "evidence-unavailable")
    assert "unavailable" in record["evidence"]["VirusReport"]


async def test_a_filter_that_mail_may_pass_without_is_named_in_it(asked: Asked, spamd: FakeSpamd):
    spamd.behaviour = mute
    async with asked.mta() as mta:
        await mta.greet()
        delivered = mta.delivered(await deliver(mta, unseen()))
    assert delivered.values(UNSCANNED) == [b"spamassassin"]
    # The only opinion on spam is Rspamd's.
    assert delivered.values(b"X-Spam-Status") == [b"No, score=0.0 tests=MIME_TRACE"]
    record = await asked.record()
    assert brief(record)[0::3] == ("accepted", "evidence-unavailable")
    assert record["detail"] == "not scanned by spamassassin"


async def test_a_filter_without_which_mail_is_refused(asked: Asked, rspamd: FakeRspamd):
    rspamd.behaviour = mute
    async with asked.mta() as mta:
        await mta.greet()
        assert (await deliver(mta, unseen())).is_reject
    assert brief(await asked.record())[0::3] == ("rejected", "evidence-unavailable")


async def test_a_refusal_comes_before_what_is_not_known(asked: Asked, clamd: FakeClamd):
    clamd.behaviour = mute
    async with asked.mta() as mta:
        await mta.greet()
        assert (await deliver(mta, order('reject("because")'))).is_reject
    assert (await asked.record())["reason"] == "because"


# Too much


async def begin(mta: MTA, header: bytes = HEADER) -> None:
    """A message up to the beginning of its body."""
    await mta.mail(A)
    await mta.rcpt(B)
    assert (await mta.data()).goes_on
    for field in header.removesuffix(b"\r\n").splitlines():
        name, _, value = field.partition(b":")
        assert (await mta.header(name, value)).goes_on
    assert (await mta.eoh()).goes_on


async def fill(mta: MTA, size: int) -> Decision:
    """So many octets of a body, or as many as are wanted; the answer to the last of them."""
    decision = Decision.CONTINUE
    while size and decision is Decision.CONTINUE:
        chunk = b"x" * min(size, CHUNK)
        decision = (await mta.body(chunk)).decision
        size -= len(chunk)
    return decision


@pytest.mark.parametrize(("more", "is_refused"), [(0, False), (1, True), (LIMIT, True)])
async def test_a_message_that_is_too_big_is_refused_and_the_rest_not_wanted(
    asked: Asked, more: int, is_refused: bool
):
    async with asked.mta() as mta:
        await mta.greet()
        await begin(mta)
        decision = await fill(mta, LIMIT - len(HEADER) + more)
        assert decision is (Decision.SKIP if is_refused else Decision.CONTINUE)
        end = await mta.end()
        assert end.is_continue is not is_refused
        if is_refused:
            assert (end.reply.code, end.reply.status) == (552, "5.3.4")
        await mta.abort()
        assert (await deliver(mta)).is_continue
    first, second = await asked.recorded(2)
    # What spamd does not look at passes without it.
    reason = "message-too-big" if is_refused else "scan-skipped"
    assert brief(first)[2:] == ("end-of-data", reason)
    assert first["recipients"] == ["b@our.example"]
    assert (second["verdict"], second["message"]["size"]) == ("accepted", len(PLAIN))


@pytest.mark.parametrize(
    "header",
    [b"X-Long: " + b"x" * 60_000 + b"\r\n", b"X: 1\r\n" * (MAX_FIELDS // 10)],
    ids=["octets", "fields"],
)
async def test_a_header_that_is_too_big_is_refused_and_no_body_wanted(asked: Asked, header: bytes):
    async with asked.mta() as mta:
        await mta.greet()
        await begin(mta, header * 20 + HEADER)
        assert await fill(mta, CHUNK * 3) is Decision.SKIP
        reply = (await mta.end()).reply
        assert (reply.code, reply.status) == (552, "5.3.4")
    record = await asked.record()
    assert brief(record) == ("rejected", "end-of-data", "end-of-data", "header-too-big")
    assert (record["reverse_path"], record["recipients"]) == ("a@example.net", ["b@our.example"])
    # Of such a message not all is kept.
    assert (record["message"], record["detail"]) == (None, "more header than is kept")


@pytest.mark.parametrize("count", [500, 501])
async def test_no_mta_is_asked_to_take_out_more_fields_than_it_can(asked: Asked, count: int):
    async with asked.mta() as mta:
        await mta.greet()
        end = await deliver(mta, b"X-Spam-Flag: NO\r\n" * count + PLAIN)
        if count == 500:
            assert len(end.modifications) >= count
            assert mta.delivered(end).content.endswith(b"\r\n" + PLAIN)
            assert mta.delivered(end).values(b"X-Spam-Flag") == []
        else:
            assert (end.reply.code, end.reply.status, end.modifications) == (552, "5.3.4", ())
    record = await asked.record()
    assert record["message"]["size"] == len(PLAIN) + 17 * count
    expected = (
        ("accepted", "") if count == 500 else ("header-too-big", f"{count} fields that only we may add")
    )
    assert (record["reason"], record["detail"]) == expected


@pytest.mark.parametrize(
    ("hops", "is_loop"),
    [
        (HOP % b"mx.our.example" * 9, False),
        (HOP % b"mx.our.example" * 10, True),
        (HOP % b"mx.example" * 99, False),
        (HOP % b"mx.example" * 100, True),
    ],
)
async def test_mail_that_goes_in_circles_is_refused(asked: Asked, hops: bytes, is_loop: bool):
    async with asked.mta() as mta:
        await mta.greet()
        end = await deliver(mta, hops + PLAIN)
        assert end.is_reject is is_loop
        if is_loop:
            assert (end.reply.code, end.reply.status) == (554, "5.4.6")
    assert (await asked.record())["reason"] == ("mail-loop" if is_loop else "accepted")


# No room


@contextlib.asynccontextmanager
async def two_that_take(asked: Asked, octets: int) -> AsyncIterator[None]:
    """Two messages under way that have so many octets each."""
    async with asked.mta() as first, asked.mta() as second:
        for mta in (first, second):
            await mta.greet()
            await begin(mta)
            assert await fill(mta, octets - len(HEADER)) is Decision.CONTINUE
        yield
        for mta in (first, second):
            await mta.abort()


async def test_where_there_is_no_room_the_message_is_refused_before_it_comes(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        async with two_that_take(asked, LIMIT):
            await mta.mail(A)
            await mta.rcpt(B)
            reply = (await mta.data()).reply
            assert (reply.code, reply.status) == (452, "4.3.1")
            await mta.abort()
        await asked.recorded(3)
        assert (await deliver(mta)).is_continue
    refused, *_ = await asked.recorded(4)
    assert brief(refused) == ("tempfailed", "end-of-data", "end-of-data", "overloaded")
    assert "messages waiting to be judged use up 4194304 octets" in refused["detail"]
    assert refused["recipients"] == ["b@our.example"]


async def test_a_message_for_which_the_room_does_not_suffice_is_deferred(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        async with two_that_take(asked, LIMIT - 50_000):
            await begin(mta)
            assert await fill(mta, 500_000) is Decision.SKIP
            reply = (await mta.end()).reply
            assert (reply.code, reply.status) == (452, "4.3.1")
        await asked.recorded(3)
        assert (await deliver(mta)).is_continue
    refused, *_ = await asked.recorded(4)
    assert brief(refused, "message") == ("tempfailed", "end-of-data", "end-of-data", "storage-failed", None)


async def test_a_disk_that_fails_defers_the_message(tmp_path: Path):
    with Asked(tmp_path) as asked:
        content = tmp_path / "state" / "spool" / "content"
        async with asked.mta() as mta:
            await mta.greet()
            await begin(mta)
            content.rmdir()
            assert await fill(mta, 500_000) is Decision.SKIP
            assert (await mta.end()).reply.code == 452
            content.mkdir()
            assert (await deliver(mta)).is_continue
        refused, _ = await asked.recorded(2)
        assert refused["reason"] == "storage-failed"
        assert "No such file or directory" in refused["detail"]


async def test_without_a_journal_no_mail_is_taken(tmp_path: Path):
    """Records that the disk does not take are kept for a while; before there are too many, mail waits."""
    asked = Asked(tmp_path)
    asked.role = "milter"
    with asked:
        records = tmp_path / "state" / "spool" / "records"
        records.rename(records.with_name("elsewhere"))
        async with asked.mta() as mta, asked.mta() as begun, asked.mta() as in_content:
            for each in (mta, begun, in_content):
                await each.greet()
            await begun.mail(A)
            await begun.rcpt(B)
            await begin(in_content)
            await mta.mail(A)
            for _ in range(750):
                assert (await mta.rcpt(b"<refused@our.example>")).is_reject
            await mta.abort()
            assert (await mta.mail(A)).reply.code == 452
            assert (await begun.data()).reply.code == 452
            # There is room left for those that are under way.
            assert (await in_content.end()).is_continue
            records.mkdir()
            records.with_name("elsewhere").rmdir()
            taken = await asked.recorded(751)
            assert [record["verdict"] for record in taken] == ["rejected"] * 750 + ["accepted"]
            assert (await deliver(mta)).is_continue


# Faults of ours

BREAK = 'setattr(__import__("gateway.{module}", fromlist=["x"]){place}, "{name}", None)'


@pytest.mark.parametrize(
    ("module", "place", "name"),
    [
        ("recorder", ".Recorder", "passed"),
        ("milter.transaction", "", "recipient_changes"),
        ("hearing.party", ".Party", "unsaid"),
    ],
)
async def test_a_fault_of_our_own_defers_and_is_recorded(tmp_path: Path, module: str, place: str, name: str):
    with Asked(tmp_path) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            reply = (await deliver(mta, order(BREAK.format(module=module, place=place, name=name)))).reply
            assert (reply.code, reply.status) == (451, "4.3.0")
            # It stays broken, and whoever is refused for another reason does not notice.
            assert (await deliver(mta)).is_tempfail
            await mta.mail(A)
            assert (await mta.rcpt(b"<refused@our.example>")).is_reject
        *broken, refused = await asked.recorded(3)
        for record in broken:
            assert brief(record) == ("tempfailed", "end-of-data", "end-of-data", "internal-error")
            assert "TypeError" in record["detail"]
            assert (record["reverse_path"], record["recipients"]) == ("a@example.net", ["b@our.example"])
        assert refused["verdict"] == "rejected"
        assert "a fault of the gateway's own" in asked.log


async def test_a_fault_behind_the_record_defers_as_well(tmp_path: Path):
    """What the MTA cannot be asked for is not done, and so the message does not pass."""
    with Asked(tmp_path) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            reply = (
                await deliver(mta, order(BREAK.format(module="milter.library", place="", name="_value")))
            ).reply
            assert (reply.code, reply.status) == (451, "4.3.0")
        passed, failed = await asked.recorded(2)
        assert brief(passed)[0::3] == ("accepted", "accepted")
        assert brief(failed) == ("tempfailed", "end-of-data", "end-of-data", "internal-error")
        for key in ("reverse_path", "recipients", "mta", "client"):
            assert failed[key] == passed[key]
        assert (failed["reverse_path"], failed["recipients"]) == ("a@example.net", ["b@our.example"])
        assert failed["mta"]["queue_id"] == mta.queue_id


async def test_a_fault_before_rcpt_is_said_there(tmp_path: Path):
    """Where the MTA waits for no answer, it hears of it at the first step at which it does."""
    with Asked(tmp_path) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            what = BREAK.format(module="hearing.early", place=".EarlyStages", name="judge_sender")
            assert (await deliver(mta, order(what))).is_continue
            for _ in range(2):
                assert (await mta.mail(A)).is_continue
                reply = (await mta.rcpt(B)).reply
                assert (reply.code, reply.status) == (451, "4.3.0")
                await mta.abort()
        _, *broken = await asked.recorded(3)
        assert [brief(record) for record in broken] == [("tempfailed", "rcpt", "rcpt", "internal-error")] * 2


@pytest.mark.parametrize("name", ["judge_client", "judge_greeting"])
async def test_a_fault_at_a_stage_without_an_answer_lets_nothing_pass(tmp_path: Path, name: str):
    with Asked(tmp_path) as asked:
        async with asked.mta() as mta:
            await mta.greet()
            what = BREAK.format(module="hearing.early", place=".EarlyStages", name=name)
            assert (await deliver(mta, order(what))).is_continue
        async with asked.mta() as mta:
            await mta.greet()
            await mta.mail(A)
            assert (await mta.rcpt(B)).is_tempfail
        _, broken = await asked.recorded(2)
        assert broken["reason"] == "internal-error"
