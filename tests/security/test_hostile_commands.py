"""Commands as no client should say them: each gets its reply, in order, and goes no further."""

import pytest

from gateway.relay.capabilities import Offer
from policies import Stage, policy
from tests.client import Client
from tests.proxy.running import offering
from tests.security.battery import ENVELOPE, MESSAGE, START, Battery
from tests.security.conftest import BatteryStarter
from tests.waiting import eventually

HELLO = b"EHLO c.example\r\n"
CONTROLS = [bytes([octet]) for octet in (*range(0x20), 0x7F) if octet not in b"\n\r"]
EIGHT_BIT = [
    b"\x80",
    b"\x85",
    b"\xa0",
    b"\xff",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xef\xbc\xa0",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
]


@pytest.mark.parametrize("octets", [*CONTROLS, b"\r", b"\r\0"], ids=repr)
async def test_a_control_octet_is_in_no_command(battery: Battery, octets: bytes):
    """A bare LF ends a line; everything else below a blank makes the line none (RFC 5321 section 4.1.2)."""
    commands = [
        b"EHLO c%s.example",
        b"MAIL FROM:<s%s@a.example>",
        b"RC%sPT TO:<u1@our.example>",
        b"%sNOOP",
        b"NOOP%s",
    ]
    lines = [command % octets + b"\r\n" for command in commands]
    # Behind a verb a tab is white space like another; behind CR there is nothing of the line left.
    assert await battery.codes(HELLO, *lines, ENVELOPE + b"QUIT\r\n") == [250, *[500] * 5, 250, 250, 221]
    assert all(octets.decode("latin-1") not in line for line in battery.mta.commands)


@pytest.mark.parametrize("octets", EIGHT_BIT, ids=repr)
async def test_eight_bit_octets_are_in_no_command(battery: Battery, octets: bytes):
    """Without SMTPUTF8 none is taken, whatever a decoder would make of it."""
    lines = [
        b"EHLO c%s.example\r\n" % octets,
        b"MAIL FROM:<s%s@a.example>\r\n" % octets,
        b"MAIL FROM:<s@a.example> SIZE=1%s\r\n" % octets,
        b"MAIL FROM:<s@a.example> X%s=1\r\n" % octets,
        b"MA%sIL FROM:<s@a.example>\r\n" % octets,
    ]
    recipients = b"RCPT TO:<u%s@our.example>\r\nRCPT TO:<u1@our%s.example>\r\n" % (octets, octets)
    codes = await battery.codes(HELLO, *lines, b"MAIL FROM:<s@a.example>\r\n" + recipients + b"QUIT\r\n")
    assert codes == [250, 501, 501, 501, 501, 500, 250, 501, 501, 221]


@pytest.mark.parametrize(
    "command",
    [
        *(
            b"ETRN x",
            b"TURN",
            b"ATRN x",
            b"SEND FROM:<s@a.example>",
            b"SAML FROM:<s@a.example>",
            b"WIZ",
            b"DEBUG",
        ),
        *(b"SOML FROM:<s@a.example>", b"XEXCH50 1 2", b"BURL imap://x", b"ONEX"),
        *(
            b"_HANDLE_CLIENT",
            b"__INIT__",
            b"SMTP_QUIT x",
            b"MAILFROM:<s@a.example>",
            b"NOOP\x0b",
            b"",
            b" ",
            b"\t",
        ),
        *(b".", b"..", b"354", b"250 Ok", b"RCPT", b"DATA now", b"A" * 17, b"A" * 2000),
    ],
    ids=repr,
)
async def test_what_is_no_command_of_ours_is_refused(battery: Battery, command: bytes):
    assert await battery.codes(HELLO + command + b"\r\nNOOP\r\nQUIT\r\n") in [
        [250, code, 250, 221] for code in (500, 501, 502, 503)
    ]
    assert not battery.mta.connections


@pytest.mark.parametrize(
    "line",
    [
        *(b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"CONNECT mx:25 HTTP/1.1", b"options * http/1.1"),
        *(b"Host: mx.our.example", b"Content-Length: 9", b"Subject:\thello"),
    ],
)
async def test_another_protocol_ends_it_at_once(battery: Battery, line: bytes):
    """Mail in the body of a web request is nobody's command."""
    assert await battery.codes(line + b"\r\n\r\n" + START + MESSAGE + b".\r\nQUIT\r\n") == [421]
    assert not battery.mta.connections


async def test_a_tls_greeting_in_clear_is_no_command(battery: Battery):
    client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2
    codes = await battery.codes(client_hello, hang_up=True)
    assert set(codes) <= {500}


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        *(
            ("SIZE=", 501),
            ("SIZE=1e9", 501),
            ("SIZE=+1", 501),
            ("SIZE= 1", 501),
            ("SIZE=0x10", 501),
            ("SIZE=1_0", 501),
        ),
        *(("SIZE=99999999999999999999", 552), ("SIZE=999999999999999999999", 501), ("SIZE=\xd9\xa1", 501)),
        *(("SIZE=0", 250), ("size=1 Body=8bitmime", 250), ("BODY=X", 501), ("BODY", 501), ("BODY=", 501)),
        *(("BODY=7BIT BODY=7BIT", 501), ("SIZE=1 size=1", 501), ("=1", 501), ("A==", 501), ("-A=1", 501)),
        # RFC 4954 section 5: whom somebody else has authenticated is nothing that we pass on.
        *(("AUTH=<>", 555), ("AUTH=e+3Dmc2@example.com", 555), ("AUTH", 555), ("AUTH=a+0Ab", 555)),
        *(("RET=FULL", 555), ("ENVID=x", 555), ("SMTPUTF8", 550), ("XFOO", 555), ("MT-PRIORITY=9", 555)),
        *(
            ("BODY=BINARYMIME", 501),
            ("HOLDFOR=1", 555),
            ("BY=1;R", 555),
            ("REQUIRETLS", 555),
            ("SIZE=1\\x20", 501),
        ),
        (" ".join(f"A{number}=1" for number in range(200)), 555),
    ],
)
async def test_a_parameter_has_a_meaning_or_is_refused(battery: Battery, parameters: str, code: int):
    mail = f"MAIL FROM:<s@a.example> {parameters}\r\n".encode("latin-1")
    assert await battery.codes(HELLO + mail + b"RCPT TO:<u1@our.example> FOO\r\nQUIT\r\n") == [
        250,
        code,
        555 if code == 250 else 503,
        221,
    ]


async def test_eight_bit_content_behind_7bit_passes_as_it_is(battery: Battery):
    mail = b"MAIL FROM:<s@a.example> BODY=7BIT\r\nRCPT TO:<u1@our.example>\r\nDATA\r\n"
    codes = await battery.codes(HELLO + mail, b"Subject: \xfc\r\n\r\n\xff\xfe\r\n.\r\nQUIT\r\n")
    assert codes == [250, 250, 250, 354, 250, 221]


async def test_a_line_without_end_is_not_kept(battery: Battery):
    """Eight megabytes of one command: one reply, and hardly any of it in memory."""
    async with Client(battery.gateway.port) as client:
        for _ in range(128):
            await client.send(b"A" * 65_536)
        (connection,) = battery.gateway.server._connections
        await eventually(lambda: 0 < len(connection._buffer) < 300_000)
        client.say(b"\r\nNOOP\r\n")
        assert [answer.code for answer in await client.replies(2)] == [500, 250]


async def test_no_greeting_makes_room_for_longer_commands(battery: Battery):
    long_mail = b"MAIL FROM:<" + b"a" * 900 + b"@a.example>\r\n"
    codes = await battery.codes(HELLO * 50, long_mail + b"NOOP " + b"x" * 2050 + b"\r\nQUIT\r\n")
    assert codes == [*[250] * 50, 501, 500, 221]


@policy(at=Stage.CONNECT)
def slow(tx, evidence):
    """Asked before the banner."""


async def test_who_speaks_before_the_banner_loses_nothing(start_battery: BatteryStarter):
    battery = await start_battery(policies=[slow], speak="connect")
    assert await battery.codes(START + MESSAGE + b".\r\nQUIT\r\n") == [250, 250, 250, 354, 250, 221]


async def test_commands_behind_quit_are_nobodys(battery: Battery):
    assert await battery.codes(HELLO + b"QUIT\r\n" + ENVELOPE + b"DATA\r\n" + MESSAGE + b".\r\n") == [
        250,
        221,
    ]
    assert not battery.mta.connections


async def test_one_recipient_too_many_is_told_so(start_battery: BatteryStarter):
    """The others still get the message (RFC 5321 section 4.5.3.1.10)."""
    battery = await start_battery(capabilities=offering(Offer(50_000, recipients=50)))
    recipients = b"".join(b"RCPT TO:<u%d@our.example>\r\n" % number for number in range(300))
    mail = HELLO + b"MAIL FROM:<s@a.example>\r\n"
    answers = await battery.talk(mail + recipients + b"DATA\r\n", MESSAGE + b".\r\nQUIT\r\n")
    assert [answer.code for answer in answers[2:302]] == [250] * 50 + [452] * 250
    assert {answer.status for answer in answers[52:302]} == {"4.5.3"}
    assert len(battery.mta.messages[0].recipients) == 50
    assert len(battery.mta.heard("RCPT")) == 50


async def test_a_chunk_is_content_whatever_it_looks_like(battery: Battery):
    chunk = b"BDAT 38 LAST\r\nMAIL FROM:<smug@a.example>\r\nx: y\r\n\r\n\r\n"
    assert await battery.codes(HELLO + ENVELOPE + chunk + b"QUIT\r\n") == [250, 250, 250, 250, 221]
    assert not any("smug" in line for line in battery.mta.commands)
    assert b"\r\nMAIL FROM:<smug@a.example>\r\n" in battery.mta.messages[0].content


async def test_credentials_are_nowhere(battery: Battery, caplog: pytest.LogCaptureFixture):
    secret = "AHVzZXIAc2VjcmV0"
    assert await battery.codes(
        HELLO + f"AUTH PLAIN {secret}\r\nAUTH LOGIN\r\n{secret}\r\nQUIT\r\n".encode()
    ) == [
        *(250, 502, 502, 500, 221),
    ]
    assert secret not in caplog.text
    assert secret not in repr(battery.gateway.records)
    assert secret not in repr(battery.heard)


@pytest.mark.parametrize("word", ["%s%n%(asctime)s", "{0.__class__}", "${jndi:x}", "a'b\\\";--", "=1+1|x"])
async def test_what_is_said_is_recorded_as_it_is(battery: Battery, word: str):
    """No part of it is a format, a query or a formula to anybody."""
    session = (
        f"EHLO {word}\r\n".encode() + ENVELOPE + f"DATA\r\nSubject: {word}\r\n\r\nb\r\n.\r\nQUIT\r\n".encode()
    )
    assert await battery.codes(session) == [250, 250, 250, 354, 250, 221]
    (record,) = battery.gateway.records
    assert (record.client.helo, record.message.subject) == (word, word)
