"""What a milter's modifications come to with a real Postfix is what `tests.fakes.milter_delivery` says."""

import asyncio
import json
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from deploy.demo.daemons import LOOPBACK, free_port
from deploy.demo.postfix import Postfix
from tests.fakes import ordered_milter
from tests.fakes.milter_delivery import TRACE, Delivery
from tests.fakes.milter_mta import MTA
from tests.fakes.milter_protocol import Steps

# What delivery to the mailbox adds, and Postfix's own field.
_ADDED = re.compile(rb"(?:Return-Path|X-Original-To|Delivered-To):[^\r]*\r\n")
_TRACE = re.compile(rb"Received: from [^\r]*\r\n\tby downstream\.example\.com[^\r]*\r\n(?:\t[^\r]*\r\n)*")


@dataclass
class Site:
    """A Postfix whose port `smtp` asks the milter on the port `milter`."""

    postfix: Postfix
    smtp: int
    milter: int

    def send(self, content: bytes) -> str:
        """The queue identifier of the message, which was taken."""
        with smtplib.SMTP(LOOPBACK, self.smtp) as client:
            client.ehlo("client.example")
            client.mail("s@example.net")
            client.rcpt("a@example.com")
            code, text = client.data(content)
        assert code == 250, text
        return text.rpartition(b" ")[2].decode()

    def deliver(self, content: bytes) -> bytes:
        """The message in the mailbox, without what delivery added, Postfix's own field as `TRACE`."""
        mail = self.postfix.message(self.send(content))
        return _TRACE.sub(TRACE.octets, _ADDED.sub(b"", mail), count=1)

    async def predict(self, content: bytes) -> Delivery:
        """What the MTA of the tests makes of it."""
        async with MTA.connect((LOOPBACK, self.milter)) as mta:
            await mta.greet()
            await mta.mail(b"<s@example.net>")
            await mta.rcpt(b"<a@example.com>")
            return mta.delivered(await mta.message(content))


@pytest.fixture(scope="module", params=[Steps(0), Steps.HDR_LEADSPC], ids=["plain", "leading space"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        port, smtp = free_port(), free_port()
        command = [
            sys.executable,
            ordered_milter.__file__,
            f"inet:{port}@{LOOPBACK}",
            str(int(request.param)),
        ]
        milter = stack.enter_context(subprocess.Popen([*command, "{}"], stdout=subprocess.PIPE))
        stack.callback(milter.kill)
        assert milter.stdout is not None
        assert milter.stdout.readline() == b"ready\n"
        postfix = Postfix()
        postfix.services = [f"{LOOPBACK}:{smtp} inet n - n - - smtpd -o smtpd_milters=inet:{LOOPBACK}:{port}"]
        yield Site(stack.enter_context(postfix), smtp, port)


CASES: list[list[list[Any]]] = [
    [],
    [["addheader", "A", "4"]],
    [["addheader", "A", " 4\n 5\n6"]],
    [["addheader", "C", "4", 0], ["addheader", "D", "5", 1], ["addheader", "E", "6", 2]],
    [["addheader", "C", "4", 99]],
    [["chgheader", "a", 1, "x"]],
    [["chgheader", "A", 2, "x"], ["chgheader", "A", 1, ""]],
    [["chgheader", "A", 0, "x"]],
    [["chgheader", "A", 3, "x"]],
    [["chgheader", "A", 1, ""], ["chgheader", "A", 2, "x"]],
    [["addheader", "A", "0", 0], ["chgheader", "A", 2, "x"]],
    [["addheader", "A", "4"], ["chgheader", "A", 3, "x"], ["chgheader", "A", 3, "y\n\tz"]],
    [["chgheader", "Received", 1, "x"]],
    [["chgheader", "Received", 1, ""], ["addheader", "Received", "y", 0], ["chgheader", "Received", 1, "z"]],
    [["replacebody", "new\r\nbody\nend", 1]],
    [["replacebody", "x" * 99 + "\r\n", 2_000], ["addheader", "A", "4"]],
]


@pytest.mark.parametrize("calls", CASES, ids=map(str, range(len(CASES))))
async def test_postfix_delivers_what_is_predicted(site: Site, calls: list[list[Any]]):
    order = json.dumps([*calls, "continue"], separators=(",", ":")).encode()
    content = b"A: 1\r\nB:2\r\na  : 3\r\n\t4\r\nOrder: " + order + b"\r\n\r\nbody\r\n.\r\n\r\nend\r\n"
    predicted = await site.predict(content)
    assert await asyncio.to_thread(site.deliver, content) == predicted.queued.octets


async def test_postfix_holds_what_is_predicted_to_be_held(site: Site):
    changes = b'["delrcpt","a@example.com"],["addrcpt","<b@example.com>"],["quarantine","why"]'
    content = b"Order: [" + changes + b',"accept"]\r\n'
    predicted = await site.predict(content)
    queue_id = await asyncio.to_thread(site.send, content)
    (held,) = [each for each in site.postfix.queue() if each["queue_id"] == queue_id]
    assert (held["queue_name"], predicted.held) == ("hold", "why")
    assert [each["address"].encode() for each in held["recipients"]] == list(predicted.recipients)
    assert predicted.recipients == (b"b@example.com",)
