"""A Postfix whose milter the gateway is, while that is killed, absent, or loads another configuration."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load import process_ids
from deploy.demo.client import Client, Reply
from deploy.demo.gateway_process import MilterGateway, spamassassin
from deploy.demo.messages import clean, message
from deploy.demo.postfix_milter import MilterPostfix
from filters.testing.server import Conversation
from tests.fakes.mta import FakeMTA
from tests.fakes.spamd import FakeSpamd, judge
from tests.integration.behind_postfix import PATIENCE, A, begin, delivered, finish, recorded
from tests.waiting import soon


class Thinking:
    """A spamd that answers once it may."""

    def __init__(self) -> None:
        self.was_asked = threading.Event()
        self.may_answer = threading.Event()

    def __call__(self, talk: Conversation) -> None:
        self.was_asked.set()
        if self.may_answer.wait(PATIENCE):
            judge(talk)


@pytest.fixture
def scanner() -> Iterator[FakeSpamd]:
    with FakeSpamd() as server:
        yield server


@pytest.fixture
def gateway(asking_postfix: MilterPostfix, scanner: FakeSpamd) -> Iterator[MilterGateway]:
    """A gateway for each test."""
    with MilterGateway(
        asking_postfix.socket,
        filters=[spamassassin(scanner.address)],
        order=["recipients", "spam"],
    ) as running:
        yield running


def milters(gateway: MilterGateway) -> set[int]:
    """The processes that serve it."""
    return {pid for pid in process_ids(gateway.pid) if "milter" in command(pid)}


def command(pid: int) -> list[str]:
    """Nothing where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def test_a_process_that_dies_takes_no_message_with_it(
    asking_postfix: MilterPostfix, gateway: MilterGateway, scanner: FakeSpamd, sink: FakeMTA
):
    scanner.behaviour = thinking = Thinking()
    content = message("Killed at work", b"Hello\r\n")
    (victim,) = milters(gateway)
    replies: list[Reply] = []
    with Client(asking_postfix.port) as client:
        begin(client, "s@example.org", A)
        sending = threading.Thread(target=lambda: replies.append(finish(client, content)))
        sending.start()
        assert thinking.was_asked.wait(PATIENCE)
        os.kill(victim, signal.SIGKILL)
        sending.join()
        # Postfix asks nobody any more for this client, and takes nothing from it.
        assert client.say(b"MAIL FROM:<s@example.org>\r\n").code == 451
    assert [reply.code for reply in replies] == [451]
    thinking.may_answer.set()
    with Client(asking_postfix.port) as client:
        reply = client.send(clean(), [A])[-1]
    delivered(sink, reply)
    assert recorded(gateway, reply)["verdict"] == "accepted"
    assert victim not in milters(gateway)
    assert not [each for each in sink.messages if b"Killed at work" in each.content]


def test_nothing_passes_where_no_gateway_runs(
    asking_postfix: MilterPostfix, gateway: MilterGateway, sink: FakeMTA
):
    gateway.stop()
    with Client(asking_postfix.port) as client:
        assert [reply.code for reply in begin(client, "s@example.org", A)] == [451, 503]
    gateway.start()
    with Client(asking_postfix.port) as client:
        assert delivered(sink, client.send(clean(), [A])[-1])


def refused_newcomer(postfix: MilterPostfix) -> Reply | None:
    with Client(postfix.port) as client:
        reply = client.send(clean(), [A])[-1]
    return None if reply.accepted else reply


def test_a_session_goes_on_over_a_reload(
    asking_postfix: MilterPostfix, gateway: MilterGateway, sink: FakeMTA
):
    (old,) = milters(gateway)
    with Client(asking_postfix.port) as client:
        first = client.send(clean(), [A])[-1]
        text = gateway.configuration.read_text()
        gateway.configuration.write_text(
            text.replace("[policies]", "[policies.spam]\nreject_score = -1\n[policies]")
        )
        os.kill(gateway.pid, signal.SIGHUP)
        soon(lambda: "the new configuration is in force" in gateway.log.read_text(), PATIENCE)
        second = client.send(clean(), [A])[-1]
        # The old process may still have accepted one that came at the same time.
        refused = soon(lambda: refused_newcomer(asking_postfix), PATIENCE)
        third = client.send(clean(), [A])[-1]
    for reply in (first, second, third):
        delivered(sink, reply)
        assert recorded(gateway, reply)["verdict"] == "accepted"
    assert (refused.code, recorded(gateway, refused)["reason"]) == (550, "spam-score")
    soon(lambda: old not in milters(gateway), PATIENCE)
