"""Replies: a bad one cannot be built, and a good one fits the wire."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.reply import MAX_LINES, MAX_TEXT, Reply, printable
from gateway.smtp.reply_reader import ReplyReader

WIRE_LINE = re.compile(rb"[2-5][0-9][0-9][ -][ -~]*\r\n")


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (Reply.of(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n"),
        (Reply.of(220, None, "mx.test ESMTP"), b"220 mx.test ESMTP\r\n"),
        (Reply.of(250, None, ""), b"250 \r\n"),
        (
            Reply(250, None, ("mx.test", "SIZE 1", "8BITMIME")),
            b"250-mx.test\r\n250-SIZE 1\r\n250 8BITMIME\r\n",
        ),
        (Reply(550, "5.1.1", ("No", "such one")), b"550-5.1.1 No\r\n550 5.1.1 such one\r\n"),
        (Reply.of(599, "5.999.999", "x"), b"599 5.999.999 x\r\n"),
    ],
)
def test_a_reply_on_the_wire(reply: Reply, octets: bytes):
    assert reply.encode() == octets


@pytest.mark.parametrize(
    ("code", "status", "lines"),
    [
        (199, None, ("x",)),
        (600, None, ("x",)),
        (0, None, ("x",)),
        (-550, None, ("x",)),
        (550, "4.7.1", ("x",)),
        (450, "5.7.25", ("x",)),
        (354, "2.0.0", ("x",)),
        (550, "5.7", ("x",)),
        (550, "5.7.1234", ("x",)),
        (550, "5.7.1 ", ("x",)),
        (550, "5.7.1\r\n250 ok", ("x",)),
        (550, "5.7.١", ("x",)),
        (550, "3.7.1", ("x",)),
        (550, "", ("x",)),
        (250, None, ()),
        (250, None, ("x",) * (MAX_LINES + 1)),
    ],
)
def test_a_contradiction_cannot_be_built(code: int, status: str | None, lines: tuple[str, ...]):
    with pytest.raises(ValueError):
        Reply(code, status, lines)


def test_text_becomes_printable_ascii():
    reply = Reply.of(550, "5.7.1", "a\r\n250 ok\x00\x1b[2J r\xe9ussi \N{GRINNING FACE}\ud800")
    assert reply.encode() == b"550 5.7.1 a??250 ok??[2J r?ussi ??\r\n"
    assert printable("Tab\there") == "Tab?here"


def test_a_long_text_takes_several_lines_and_no_more_than_there_are():
    assert len(Reply.of(550, "5.7.1", "x" * MAX_TEXT).lines) == 1
    assert len(Reply.of(550, "5.7.1", "x" * (MAX_TEXT + 1)).lines) == 2
    assert len(Reply.of(550, "5.7.1", "x" * 10_000_000).lines) == MAX_LINES


def test_a_long_line_is_cut():
    assert Reply(250, None, ("x" * 1000,)).lines == ("x" * MAX_TEXT,)


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (Reply.of(550, "5.7.1", "No"), b"550 5.7.1 No (ref 7K3F-Q2MD)\r\n"),
        (Reply.of(550, None, ""), b"550 (ref 7K3F-Q2MD)\r\n"),
        (Reply(550, None, ("a", "b")), b"550-a\r\n550 b (ref 7K3F-Q2MD)\r\n"),
    ],
)
def test_a_reference_stands_at_the_end(reply: Reply, octets: bytes):
    assert reply.with_reference("7K3F-Q2MD").encode() == octets


@pytest.mark.parametrize(
    ("code", "is_positive", "is_permanent"),
    [(250, True, False), (354, False, False), (451, False, False), (554, False, True)],
)
def test_the_class_of_a_reply(code: int, is_positive: bool, is_permanent: bool):
    reply = Reply.of(code, None, "x")
    assert (reply.is_positive, reply.is_permanent) == (is_positive, is_permanent)


@pytest.mark.parametrize(
    ("code", "lines", "reply"),
    [
        (250, ["2.0.0 Ok: queued"], Reply(250, "2.0.0", ("Ok: queued",))),
        (250, ["2.0.0"], Reply(250, "2.0.0", ("",))),
        (250, ["Ok"], Reply(250, None, ("Ok",))),
        (250, [""], Reply(250, None, ("",))),
        (550, ["5.1.1 No", "5.1.1 such one"], Reply(550, "5.1.1", ("No", "such one"))),
        (550, ["5.1.1 No", "such one"], Reply(550, None, ("5.1.1 No", "such one"))),
        (550, ["5.1.1 No", "5.1.2 such one"], Reply(550, None, ("5.1.1 No", "5.1.2 such one"))),
        (550, ["4.1.1 No"], Reply(550, None, ("4.1.1 No",))),
        (550, ["5.1.1\tNo"], Reply(550, None, ("5.1.1\tNo",))),
        (552, ["5.2.2 quota"], Reply(552, "5.2.2", ("quota",))),
        (451, ["4.7.1   greylisted"], Reply(451, "4.7.1", ("greylisted",))),
    ],
)
def test_a_peers_reply_is_understood(code: int, lines: list[str], reply: Reply):
    assert Reply.received(code, lines) == reply


def test_people_read_it_in_one_line():
    assert str(Reply(550, "5.1.1", ("No", "such one"))) == "550 5.1.1 No such one"
    assert str(Reply(250, None, ("a",))) == "250 a"


# Invariants

texts = st.text(max_size=600)
statuses = st.one_of(st.none(), st.from_regex(r"\A[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z"))


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    status = draw(statuses)
    code = int(status[0]) * 100 + draw(st.integers(0, 99)) if status else draw(st.integers(200, 599))
    return Reply(code, status, tuple(draw(st.lists(texts, min_size=1, max_size=MAX_LINES))))


@given(replies())
def test_every_line_fits_the_wire(reply: Reply):
    for line in (octets := reply.encode()).splitlines(keepends=True):
        assert WIRE_LINE.fullmatch(line)
        assert len(line) <= 512
    assert octets.count(b"\r\n") == len(reply.lines)


@given(replies(), st.from_regex(r"\A[0-9A-Z]{4}-[0-9A-Z]{4}\Z"))
def test_a_reference_changes_nothing_else(reply: Reply, reference: str):
    referred = reply.with_reference(reference)
    assert (referred.code, referred.status, referred.lines[:-1]) == (
        reply.code,
        reply.status,
        reply.lines[:-1],
    )
    assert referred.text.endswith(f"(ref {reference})")
    assert all(WIRE_LINE.fullmatch(line) for line in referred.encode().splitlines(keepends=True))


@given(replies())
def test_what_is_spoken_is_understood_as_what_it_was(reply: Reply):
    [received] = ReplyReader().feed(reply.encode())
    assert received.code == reply.code
    if reply.status is not None:
        assert received.status == reply.status
        assert received.lines == tuple(line.lstrip(" ") for line in reply.lines)
    assert ReplyReader().feed(received.encode()) == [received]
