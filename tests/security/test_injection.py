"""What is said to us stays what it was said as: no header field, no reply, no line of a log comes of it."""

import email
import re
from email import policy as email_policy

import pytest

from filters.evidence import SpamReport, VirusReport
from gateway.journal.record import encode
from policies import Stage, mark, policy, reject
from policies.spam import spam
from policies.virus import virus
from tests.proxy.running import HOSTNAME, Scanner, SpamScanner, answers
from tests.security.battery import ENVELOPE, MESSAGE, START, Battery
from tests.security.conftest import BatteryStarter

NASTY = [
    "x)(y;z(h[203.0.113.1])by,evil",
    "x;Mon,1,Jan",
    '"quoted\\"',
    "<a@b>",
    "a@b,c:d;",
    "=?utf-8?q?a=0d=0aX-Inj=3a_1?=",
    "[203.0.113.1]",
    "mx.our.example",
    "x" * 255,
    "%0d%0aX-Inj:1",
]


@pytest.mark.parametrize("name", NASTY)
async def test_a_greeting_is_a_name_in_our_trace_and_no_more(battery: Battery, name: str):
    session = f"EHLO {name}\r\n".encode() + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\nQUIT\r\n"
    assert await battery.codes(session) == [250, 250, 250, 354, 250, 221]
    content = battery.mta.messages[0].content
    parsed = email.message_from_bytes(content, policy=email_policy.compat32)
    assert parsed.keys() == ["Received", "X-Sluicegate-Reference", "Subject"]
    received = re.sub(r"\s+", " ", parsed["Received"])
    # By whom, and from which address, is what we say, however the rest is read.
    assert re.fullmatch(
        r"from [A-Za-z0-9.:\[\]_?-]+ \(unknown \[127\.0\.0\.1\]\) by mx\.our\.example \(Sluicegate\)"
        r" with ESMTP id [A-Z0-9]{4}-[A-Z0-9]{4} for <u1@our\.example>; \w+, .*",
        received,
    )
    assert max(map(len, content.splitlines())) < 998


# What Python, or somebody else's library, takes for the end of a line.
LINE_ENDS = [
    "\v",
    "\f",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\0",
    "\x1b[2J",
    "\x7f",
    "\ud800",
]


@pytest.mark.parametrize("octets", LINE_ENDS, ids=repr)
async def test_a_subject_is_one_line_of_the_record(battery: Battery, octets: str):
    said = octets.encode("utf-8", "surrogatepass")
    subject = b"a" + said + b"<34>Oct 11 sshd[1]: Accepted password for root"
    word = b"=?utf-8?q?" + b"".join(b"=%02X" % octet for octet in said) + b"?="
    for content in (subject, word):
        assert (await battery.codes(START, b"Subject: " + content + b"\r\n\r\nb\r\n.\r\nQUIT\r\n"))[-2:] == [
            250,
            221,
        ]
    for record in battery.gateway.records:
        assert not re.search(rb"[\x00-\x1f]", encode(record)[:-1])


@pytest.mark.parametrize(
    "said",
    ["RULE\r\nBcc: v@victim.example", "a\nb", "\x1b[2J", "\0", "\xe9\u2028", "x" * 10_000, "%s{0}", ""],
)
async def test_what_scanners_say_is_no_field_and_no_reply(start_battery: BatteryStarter, said: str):
    battery = await start_battery(
        policies=[spam, virus],
        filters=[SpamScanner(answers(SpamReport(1.0, 5.0, (said,)))), Scanner(answers(VirusReport()))],
    )
    assert await battery.codes(START, MESSAGE + b".\r\nQUIT\r\n") == [250, 250, 250, 354, 250, 221]
    parsed = email.message_from_bytes(battery.mta.messages[0].content, policy=email_policy.compat32)
    assert parsed.keys() == [
        *("Received", "X-Spam-Score", "X-Spam-Status", "X-Virus-Scanned", "X-Sluicegate-Reference", "Subject")
    ]


@pytest.mark.parametrize("name", ["Evil\r\n250 ok %s\x1b[2J", "x" * 10_000, "\xff\xfe", "a (ref AAAA-AAAA)"])
async def test_the_name_of_a_virus_is_for_the_operator(start_battery: BatteryStarter, name: str):
    battery = await start_battery(policies=[virus], filters=[Scanner(answers(VirusReport(name)))])
    battery.takes_nothing = True
    answer = (await battery.talk(START, MESSAGE + b".\r\nQUIT\r\n"))[-2]
    assert (answer.code, len(answer.lines)) == (550, 1)
    assert name[:5] not in answer.text
    assert name[:100] in battery.gateway.records[0].detail


@policy(at=Stage.END_OF_DATA)
def talkative(tx, evidence):
    """Says what the message says."""
    return reject("said-so", text=tx.message.header("Subject") or "")


@policy(at=Stage.END_OF_DATA)
def labelling(tx, evidence):
    """Marks with what the message says."""
    return mark("X-Label", tx.message.header("Subject") or "")


WORDS = [
    b"=?utf-8?q?a=0D=0A250_ok?=",
    b"=?utf-8?q?=0D=0A=0D=0Abody?=",
    b"a\x00b",
    b"=?utf-8?b?4oCo?=",
    b"x" * 5000,
]


@pytest.mark.parametrize("subject", WORDS)
async def test_a_policy_cannot_break_a_reply(start_battery: BatteryStarter, subject: bytes):
    battery = await start_battery(policies=[talkative])
    battery.takes_nothing = True
    answers = await battery.talk(START, b"Subject: " + subject + b"\r\n\r\nb\r\n.\r\nNOOP\r\nQUIT\r\n")
    assert [answer.code for answer in answers] in [
        [250, 250, 250, 354, code, 250, 221] for code in (550, 451)
    ]


@pytest.mark.parametrize("subject", WORDS)
async def test_a_policy_cannot_break_the_header(start_battery: BatteryStarter, subject: bytes):
    battery = await start_battery(policies=[labelling])
    codes = await battery.codes(START, b"Subject: " + subject + b"\r\n\r\nb\r\n.\r\nQUIT\r\n")
    assert codes[-2] in {250, 451}
    for message in battery.mta.messages:
        parsed = email.message_from_bytes(message.content, policy=email_policy.compat32)
        assert set(parsed.keys()) <= {"Received", "X-Sluicegate-Reference", "X-Label", "Subject"}
        assert parsed.get_payload() == "b\r\n"


FORGED = [
    b"Authentication-Results: %s; dkim=pass",
    b"authentication-results : (a (b) c) %s 1; dkim=pass",
    b'Authentication-Results:\r\n "%s";\r\n dkim=pass',
    b"AUTHENTICATION-RESULTS:%s",
]


@pytest.mark.parametrize("spelled", [HOSTNAME.encode(), HOSTNAME.upper().encode(), b"MX.our.Example"])
@pytest.mark.parametrize("forged", FORGED)
async def test_nobody_else_authenticates_in_our_name(battery: Battery, forged: bytes, spelled: bytes):
    field = forged % spelled + b"\r\n"
    session = START + b"Subject: x\r\n" + field + b"To: y\r\n" + field + b"\r\n" + field + b".\r\nQUIT\r\n"
    battery.has_forgeries = True
    assert (await battery.codes(session))[-2:] == [250, 221]
    relayed = battery.mta.messages[0].content
    assert relayed.endswith(b"\r\nSubject: x\r\nTo: y\r\n\r\n" + field)
