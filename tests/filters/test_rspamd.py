"""Which answers of Rspamd mean what, and what it is told."""

import contextlib
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.base import FilterError, TooLarge
from filters.evidence import RspamdReport
from filters.rspamd import Rspamd
from filters.testing import at_end_of_data
from gateway.smtp.address import NULL_PATH, Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import TLS, Session
from gateway.smtp.trace import received_field
from gateway.smtp.transaction import Stage, Transaction
from tests.fakes.rspamd import FakeRspamd, answer, http, report
from tests.fakes.spamd import GTUBE

MESSAGE = at_end_of_data().message


async def judge(reply: bytes) -> RspamdReport:
    async with FakeRspamd(answer(reply)) as fake:
        return await Rspamd(address=fake.address).find(at_end_of_data())


async def told(tx: Transaction, **options: str) -> list[str]:
    """The header fields of the request, in order."""
    async with FakeRspamd() as fake:
        await Rspamd(address=fake.address, **options).find(tx)
        head, _, body = bytes(fake.last.received).partition(b"\r\n\r\n")
        assert body == tx.trace + b"".join(tx.message.content.chunks())
    line, *fields = head.decode("utf-8").split("\r\n")
    assert line == "POST /checkv2 HTTP/1.1"
    return [field for field in fields if not field.startswith(("Host: ", "Content-Length: "))]


def between(session: Session, envelope: Envelope) -> Transaction:
    return Transaction(Stage.END_OF_DATA, session, envelope, MESSAGE)


async def test_spam_is_told_from_ham() -> None:
    async with FakeRspamd() as fake:
        rspamd = Rspamd(address=fake.address)
        assert await rspamd.find(at_end_of_data(b"Subject: x\r\n\r\n" + GTUBE)) == RspamdReport(
            25.0, 15.0, "reject", ("GTUBE", "MIME_TRACE")
        )
        assert await rspamd.find(at_end_of_data()) == RspamdReport(0.0, 15.0, "no action", ("MIME_TRACE",))


async def test_it_is_told_all_that_is_known() -> None:
    session = Session(
        ip_address("2001:db8::1"),
        4321,
        "127.0.0.1:25",
        client_name="mail.example.net",
        helo_name="helo.example.net",
        tls=TLS("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        authenticated="anna",
    )
    envelope = Envelope(Path("anna", "example.net"), (Path("b", "example.org"), Path('"c d"', "example.org")))
    assert await told(between(session, envelope), settings_id="inbound", password="secret") == [
        "Connection: close",
        "Settings-ID: inbound",
        "Password: secret",
        "IP: 2001:db8::1",
        "Helo: helo.example.net",
        "Hostname: mail.example.net",
        "User: anna",
        "TLS-Version: TLSv1.3",
        "TLS-Cipher: TLS_AES_256_GCM_SHA384",
        "From: <anna@example.net>",
        "Rcpt: <b@example.org>",
        'Rcpt: <"c d"@example.org>',
    ]


async def test_it_is_told_nothing_that_is_not_known() -> None:
    session = Session(ip_address("192.0.2.1"), 4321, "127.0.0.1:25")
    assert await told(between(session, Envelope(NULL_PATH))) == [
        "Connection: close",
        "IP: 192.0.2.1",
        "From: <>",
    ]


async def test_it_is_told_what_our_records_call_the_message() -> None:
    tx = at_end_of_data()
    trace = received_field(tx.session, "mx.example.org", "8QJ2K9-M", tx.envelope, datetime.now(UTC))
    assert "Queue-Id: 8QJ2K9-M" in await told(at_end_of_data(trace=trace))


@pytest.mark.parametrize(
    ("helo", "field"),
    [
        ("a\r\nPass: all", "Helo: a??Pass: all"),
        ("a\nb", "Helo: a?b"),
        ("a\0b\x7f", "Helo: a?b?"),
        ("  a ", "Helo: a"),
        ("[IPv6:::1]", "Helo: [IPv6:::1]"),
        ("grün.example", "Helo: grün.example"),
        ("\udcff", "Helo: ?"),
    ],
)
async def test_no_value_is_more_than_one_field(helo: str, field: str) -> None:
    session = Session(ip_address("192.0.2.1"), 4321, "127.0.0.1:25", helo_name=helo)
    assert field in await told(between(session, Envelope(NULL_PATH)))


async def test_addresses_beyond_ascii_are_utf_8() -> None:
    envelope = Envelope(Path("jürgen", "bücher.example"), (Path("用户", "例子.example"),))
    fields = await told(between(Session(ip_address("192.0.2.1"), 4321, "127.0.0.1:25"), envelope))
    assert fields[-2:] == ["From: <jürgen@bücher.example>", "Rcpt: <用户@例子.example>"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (report(7.5, {"B": 3.5, "A": 5.0, "C": -1.0}), RspamdReport(7.5, 15.0, "no action", ("A", "B", "C"))),
        (report(-1), RspamdReport(-1.0)),
        (report(16, required_score=16, action="quarantine"), RspamdReport(16.0, 16.0, "quarantine")),
        (report(1, action="a\r\nb" + "x" * 200), RspamdReport(1.0, 15.0, "a??b" + "x" * 96)),
        (report(15, {"GTUBE": 0.0}, is_skipped=True), RspamdReport(15.0, 15.0, "reject", ("GTUBE",))),
        (report(1, messages={"smtp_message": "no"}, unknown=[1]), RspamdReport(1.0)),
        (
            b"HTTP/1.0 200 OK\r\n\r\n" + report(2).partition(b"\r\n\r\n")[2],
            RspamdReport(2.0),
        ),
        (
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3c\r\n{"score": 3, "required_score": 15, '
            b'"action": "no action"}   \r\n0\r\n\r\n',
            RspamdReport(3.0),
        ),
    ],
    ids=["symbols", "bare", "own-action", "odd-action", "decided-early", "more", "http-1.0", "chunked"],
)
async def test_score_threshold_action_and_rules_are_read(reply: bytes, expected: RspamdReport) -> None:
    assert await judge(reply) == expected


async def test_only_names_of_rules_are_rules() -> None:
    odd = {"GOOD": 1.0, "also-good:2": 0.5, "a b": 1.0, "\x1b[2J": 1.0, "\xe9": 1.0, "X" * 101: 1.0, "": 1.0}
    assert (await judge(report(1, odd))).rules == ("GOOD", "also-good:2")
    assert len((await judge(report(1, {f"R{number}": 1.0 for number in range(3000)}))).rules) == 100


SCORED = b'{"score": 1, "required_score": 15, "action": "no action"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"pong\r\n",
        SCORED,
        SCORED + b"}}",
        b'{"score": 1, "required_score": 15}',
        b'{"score": "1", "required_score": 15, "action": "x"}',
        b'{"score": null, "required_score": 15, "action": "x"}',
        b'{"score": 1, "required_score": null, "action": "x"}',
        b'{"score": NaN, "required_score": 15, "action": "x"}',
        b'{"score": 1e999, "required_score": 15, "action": "x"}',
        b'{"score": 1, "required_score": -1e999, "action": "x"}',
        b'{"score": 1, "required_score": 15, "action": 3}',
        SCORED + b', "is_skipped": 1}',
        SCORED + b', "symbols": []}',
        SCORED + b', "symbols": {"A": 1}}',
        SCORED + b', "symbols": {"A": {"score": "1"}}}',
        SCORED[:-1] + b'\xff"}',
        b"[" * 100_000,
    ],
)
async def test_any_other_report_is_an_error(body: bytes) -> None:
    with pytest.raises(FilterError) as caught:
        await judge(http(body))
    assert not isinstance(caught.value, TooLarge)
    assert str(caught.value).isprintable()


OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = SCORED + b"}"


@pytest.mark.parametrize(
    "reply",
    [
        OK,
        WHOLE,
        http(WHOLE) + b"x",
        OK + b"Content-Length: 1000\r\n\r\n" + WHOLE,
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + WHOLE,
        OK + b"Content-Length: -1\r\n\r\n" + WHOLE,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + WHOLE,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"ICAP/1.0 200 OK\r\n\r\n" + WHOLE,
        http(WHOLE) + http(WHOLE),
        http(WHOLE, "201 Created"),
        http(WHOLE, "301 Moved"),
        http(WHOLE, "401 Unauthorized"),
        http(b'{"error":"invalid command"}', "500 invalid command"),
    ],
)
async def test_any_other_response_is_an_error(reply: bytes) -> None:
    with pytest.raises(FilterError, match="answered") as caught:
        await judge(reply)
    assert str(caught.value).isprintable()


async def test_its_own_words_are_told() -> None:
    with pytest.raises(FilterError, match=r": answered 500 invalid command$"):
        await judge(http(b"", "500 invalid command"))


@pytest.mark.parametrize(
    "reply",
    [OK + b"X: y\r\n" * 2_000_000, OK + b"Content-Length: 9000000\r\n\r\n" + b" " * 9_000_000],
    ids=["fields", "body"],
)
async def test_an_endless_answer_is_an_error(reply: bytes) -> None:
    with pytest.raises(FilterError, match="more than 1048576 octets"):
        await judge(reply)


@given(
    reply=st.binary(max_size=200), head=st.sampled_from([b"", OK, OK + b"Content-Length: 57\r\n\r\n" + WHOLE])
)
async def test_no_answer_whatever_causes_another_error(reply: bytes, head: bytes) -> None:
    async with FakeRspamd(answer(head + reply)) as fake:
        with contextlib.suppress(FilterError):
            found = await Rspamd(address=fake.address).find(at_end_of_data())
            assert found.score == 1.0


async def test_a_message_that_rspamd_skips_is_not_clean() -> None:
    async with FakeRspamd(answer(report(0, is_skipped=True))) as fake:
        with pytest.raises(TooLarge, match="skipped the message"):
            await Rspamd(address=fake.address).find(at_end_of_data())


async def test_more_than_max_size_is_not_sent() -> None:
    async with FakeRspamd() as fake:
        rspamd = Rspamd(address=fake.address, max_size=10)
        assert (await rspamd.find(at_end_of_data(b"1234567", b"abc"))).score == 0.0
        with pytest.raises(TooLarge, match="11 octets are more than max_size = 10"):
            await rspamd.find(at_end_of_data(b"12345678", b"abc"))
        assert fake.connections == 1


async def test_its_version_is_told() -> None:
    async with FakeRspamd() as fake:
        assert await Rspamd(address=fake.address).probe() == f"{fake.address}: pong from rspamd/3.4"


async def test_a_wrong_answer_to_ping_is_an_error() -> None:
    async with FakeRspamd(answer(http(b"gnop"))) as fake:
        with pytest.raises(FilterError, match="answered 'gnop' to /ping"):
            await Rspamd(address=fake.address).probe()


def test_what_it_is_told_is_what_the_finding_depends_on() -> None:
    rspamd = Rspamd(address="127.0.0.1:11333")
    one = at_end_of_data()
    session = Session(ip_address("192.0.2.1"), 4321, "127.0.0.1:25", helo_name="mail.example.net")
    same = Transaction(Stage.END_OF_DATA, session, Envelope(NULL_PATH), one.message, b"Received: another\r\n")
    assert rspamd.subject(one) == rspamd.subject(same)
    for other in (
        between(Session(ip_address("192.0.2.2"), 4321, "127.0.0.1:25"), one.envelope),
        between(one.session, Envelope(Path("a", "example.net"))),
        between(one.session, Envelope(NULL_PATH, (Path("a", "example.net"),))),
        at_end_of_data(b"other"),
    ):
        assert rspamd.subject(one) != rspamd.subject(other)


@pytest.mark.parametrize("value", ["", "a b", "a\r\nb", "\xe9", "x" * 256])
@pytest.mark.parametrize("option", ["password", "settings_id"])
def test_an_option_that_could_be_more_than_a_value_is_refused(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{option} must be"):
        Rspamd(address="127.0.0.1:11333", **{option: value})


@pytest.mark.parametrize("max_size", [0, -1])
def test_a_limit_that_lets_nothing_through_is_refused(max_size: int) -> None:
    with pytest.raises(ValueError, match="max_size"):
        Rspamd(address="127.0.0.1:11333", max_size=max_size)
