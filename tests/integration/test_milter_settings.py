"""What deploy/postfix/milter.cf makes of a real Postfix, whoever the milter is."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.demo.client import Client, on_the_wire
from deploy.demo.daemons import find_program
from deploy.demo.messages import clean
from deploy.demo.postfix_milter import MILTER_CF, MilterPostfix
from gateway.config.schema import GatewaySection
from tests.fakes.mta import FakeMTA
from tests.waiting import soon

MARKING = Path(__file__).parents[1] / "fakes" / "marking_milter.py"
SENDER = "jürgen@bücher.example"
CONTENT = "Subject:no blank\r\nX-Folded: a\r\n\tb\r\nX-8: ü\r\n\r\n.\r\nbody ü\r\n".encode()


@contextmanager
def marking(postfix: MilterPostfix) -> Iterator[subprocess.Popen[str]]:
    """The milter, for as long as wanted; killed where it stands."""
    postfix.socket.unlink(missing_ok=True)
    command = [sys.executable, str(MARKING), str(postfix.socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def milter(asking_postfix: MilterPostfix) -> Iterator[subprocess.Popen[str]]:
    with marking(asking_postfix) as process:
        yield process


def begin(client: Client, sender: str, *recipients: str) -> list[int]:
    """The codes after EHLO, MAIL and each RCPT."""
    lines = ["EHLO client.example.org", f"MAIL FROM:<{sender}> SMTPUTF8"]
    lines += [f"RCPT TO:<{recipient}>" for recipient in recipients]
    return [client.say(f"{line}\r\n".encode()).code for line in lines]


def number(parameter: str, file: Path = MILTER_CF) -> int:
    found = re.search(rf"(?m)^{parameter} = (\d+)s?$", file.read_text(encoding="utf-8"))
    assert found, parameter
    return int(found[1])


def test_postfix_knows_every_parameter(asking_postfix: MilterPostfix):
    command = [find_program("postconf"), "-c", str(asking_postfix.directory / "config"), "-n"]
    known = subprocess.run(command, capture_output=True, text=True, check=True)
    assert known.stderr == ""
    ours = set(re.findall(r"(?m)^\w+(?= =)", MILTER_CF.read_text(encoding="utf-8")))
    assert {"smtpd_milters", "milter_default_action"} < ours
    assert ours <= {line.partition(" = ")[0] for line in known.stdout.splitlines()}


@pytest.mark.parametrize("parameter", ["milter_command_timeout", "milter_content_timeout"])
def test_postfix_waits_longer_than_the_gateway_takes(parameter: str):
    # And no longer than a client waits for the reply to DATA (RFC 5321, section 4.5.3.2.4).
    assert GatewaySection(hostname="mx").deadline + 20 < number(parameter) < 120


@pytest.mark.parametrize("name", ["main.cf", "milter.cf"])
@pytest.mark.parametrize("parameter", ["mailbox_size_limit", "virtual_mailbox_limit"])
def test_a_mailbox_takes_what_a_message_may_be(name: str, parameter: str):
    file = MILTER_CF.with_name(name)
    largest = number("message_size_limit", file)
    assert largest > GatewaySection(hostname="mx").max_message_size
    # Else Postfix's delivery agents end with a fatal error. 0 is no limit.
    assert number(parameter, file) in {0, largest}


@pytest.mark.usefixtures("milter")
@pytest.mark.parametrize("where", ["port", "confined_port"])
def test_what_is_delivered_is_what_came(asking_postfix: MilterPostfix, sink: FakeMTA, where: str):
    with Client(getattr(asking_postfix, where)) as client:
        assert begin(client, SENDER, "a@example.com", "b@example.com") == [250, 250, 250, 550]
        refused = client.say(b"RCPT TO:<b@example.com>\r\n")
        assert (refused.code, refused.text) == (550, "5.7.1 First 100%\n5.7.1 Second")
        assert client.say(b"DATA\r\n").code == 354
        queue_id = client.say(on_the_wire(CONTENT)).queue_id
    assert queue_id
    seen = f"\r\nX-Seen: {queue_id}\r\n".encode()
    delivered = soon(lambda: next((each for each in sink.messages if seen in each.content), None))
    assert delivered.mail.encode("latin-1").startswith(f"MAIL FROM:<{SENDER}>".encode())
    assert delivered.recipients == ["RCPT TO:<a@example.com>"]
    received, _, rest = delivered.content.partition(seen)
    assert received.startswith(b"Received: from client.example.org")
    assert rest == CONTENT


@pytest.mark.usefixtures("milter")
def test_what_is_held_stays_in_the_hold_queue(asking_postfix: MilterPostfix):
    with Client(asking_postfix.port) as client:
        queue_id = client.send(b"Subject: hold\r\n\r\nbody\r\n", ["a@example.com"])[-1].queue_id
    (held,) = [each for each in asking_postfix.held() if each["queue_id"] == queue_id]
    assert [each["address"] for each in held["recipients"]] == ["a@example.com"]


def test_nothing_passes_without_a_milter(asking_postfix: MilterPostfix):
    with marking(asking_postfix) as milter, Client(asking_postfix.port) as client:
        assert client.send(clean(), ["a@example.com"])[-1].queue_id
        milter.kill()
        milter.wait()
        assert begin(client, "s@example.org")[-1] == 451
        with Client(asking_postfix.port) as other:
            assert begin(other, "s@example.org")[-1] == 451
        with marking(asking_postfix), Client(asking_postfix.port) as other:
            # Postfix asks no more for those who were connected, and at once for everybody else.
            assert begin(client, "s@example.org")[-1] == 451
            assert other.send(clean(), ["a@example.com"])[-1].queue_id


@pytest.mark.usefixtures("milter")
def test_an_unknown_recipient_is_postfixs_own_affair(asking_postfix: MilterPostfix):
    with Client(asking_postfix.port) as client:
        codes = begin(client, "s@example.org", "nobody@example.com", "a@elsewhere.example")
    assert codes == [250, 250, 550, 554]
