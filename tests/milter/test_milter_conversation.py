"""One MTA connection on the event loop, whose early stages take longer than the MTA waits."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from filters.base import Filter
from filters.evidence import Evidence, Listings
from gateway.hearing.service import Service
from gateway.journal.layout import Layout
from gateway.journal.search import Query, search_lines
from gateway.milter import conversation
from gateway.milter.conversation import Conversation
from gateway.milter.macros import session_of
from gateway.milter.transaction import GO_ON, Answer
from gateway.pipeline import FilterSetting, Pipeline, PolicySetting
from gateway.profiles import Profile, Profiles
from gateway.smtp.address import Path as Mailbox
from gateway.smtp.envelope import Envelope
from gateway.smtp.transaction import Stage, Transaction
from gateway.terms import Speak
from policies.policy import policy
from policies.verdict import Verdict
from tests.milter.asked import brief
from tests.milter.lone import service

SESSION = replace(session_of("lone", "c.example", ("192.0.2.1", 25_000), {}.get), helo_name="c.example")
B, C = Mailbox("b", "our.example"), Mailbox("c", "our.example")
BEGINNING = (SESSION, Envelope(Mailbox("a", "example.net")))
# Seconds: of the whole test, and until what is slow is not waited for any more.
PATIENCE, SOON = 30.0, 0.05


class Lists(Filter):
    """Answers once it may."""

    name, finds, stage = "lists", Listings, Stage.CONNECT

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def find(self, tx: Transaction) -> Listings:
        await self.may_answer.wait()
        return Listings()


@policy(at=Stage.CONNECT, needs=[Listings])
def listed(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None


@pytest.fixture
async def lists() -> Lists:
    return Lists()


def slow(directory: Path, lists: Lists, speak: Speak) -> Service:
    pipeline = Pipeline([PolicySetting(listed)], [FilterSetting(lists, timeout=PATIENCE)])
    profiles = Profiles(Profile(pipeline, []), [])
    return replace(service(directory), profiles=profiles, speak=speak, deadline=PATIENCE)


def records(directory: Path) -> list[dict[str, Any]]:
    layout = Layout(directory)
    lines = search_lines(layout.index, layout.spool, Query(limit=None))
    return [json.loads(line) for line in lines]


def told(answer: Answer) -> tuple[int, str | None]:
    assert answer.reply is not None
    return answer.reply.code, answer.reply.status


async def test_early_stages_that_are_slow_defer_in_time_and_only_meanwhile(
    tmp_path: Path, lists: Lists, monkeypatch: pytest.MonkeyPatch
):
    talk = Conversation(slow(tmp_path, lists, "rcpt"))
    assert await talk.connect(SESSION) is GO_ON
    assert await talk.helo(SESSION) is GO_ON
    monkeypatch.setattr(conversation, "_MARGIN", SOON - PATIENCE)
    async with asyncio.timeout(PATIENCE / 2):
        assert told(await talk.rcpt(B, {}, "b@our.example", BEGINNING)) == (451, "4.4.7")
        assert told(await talk.rcpt(C, {}, "c@our.example", None)) == (451, "4.4.7")
        monkeypatch.undo()
        lists.may_answer.set()
        # What was under way goes on, and answers for those who come later.
        assert await talk.rcpt(B, {}, "b@our.example", None) is GO_ON
    await talk.abort()
    await talk.close()
    *late, aborted = records(tmp_path)
    for record, recipient in zip(late, (B, C), strict=True):
        assert brief(record) == ("tempfailed", "rcpt", "rcpt", "deadline-exceeded")
        assert (record["reverse_path"], record["recipients"]) == ("a@example.net", [str(recipient)])
    assert (aborted["verdict"], aborted["recipients"]) == ("aborted", ["b@our.example"])


async def test_where_it_speaks_at_once_it_is_deferred_at_mail(
    tmp_path: Path, lists: Lists, monkeypatch: pytest.MonkeyPatch
):
    serving = slow(tmp_path, lists, "rcpt")
    talk = Conversation(serving)
    assert await talk.connect(SESSION) is GO_ON
    # At connect and HELO nobody waits: this is about what is waited for at MAIL.
    talk._service = replace(serving, speak="connect")
    monkeypatch.setattr(conversation, "_MARGIN", SOON - PATIENCE)
    async with asyncio.timeout(PATIENCE / 2):
        assert told(await talk.mail(BEGINNING)) == (451, "4.4.7")
        monkeypatch.undo()
        lists.may_answer.set()
        assert await talk.mail(BEGINNING) is GO_ON
    await talk.close()
    (late,) = records(tmp_path)
    assert brief(late) == ("tempfailed", "mail", "mail", "deadline-exceeded")
    assert (late["reverse_path"], late["recipients"]) == ("a@example.net", [])
