"""Replies coming in: whatever a downstream sends, a reply comes of it or a ReplyError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.reply import MAX_LINES, Reply
from gateway.smtp.reply_reader import MAX_LINE, ReplyError, ReplyReader

OK = Reply.of(250, "2.0.0", "Ok")


def feed_singly(octets: bytes) -> list[Reply]:
    reader = ReplyReader()
    return [reply for octet in octets for reply in reader.feed(bytes([octet]))]


@pytest.mark.parametrize(
    ("octets", "replies"),
    [
        (b"", []),
        (b"250 2.0.0 Ok", []),
        (b"250 2.0.0 Ok\r\n", [OK]),
        (b"250 2.0.0 Ok\n", [OK]),
        (b"250\r\n", [Reply.of(250, None, "")]),
        (b"250 \r\n", [Reply.of(250, None, "")]),
        (b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n", [OK, OK]),
        (b"250-a\r\n250-\r\n250 c\r\n", [Reply(250, None, ("a", "", "c"))]),
        (b"220-a\r\n220-b\r\n220 c\r\n", [Reply(220, None, ("a", "b", "c"))]),
        (b"250-a\r\n250\r\n", [Reply(250, None, ("a", ""))]),
        (b"250 2.0.0 r\xe9ussi\r\n", [Reply.of(250, "2.0.0", "r?ussi")]),
        (b"250 \xf0\x9f\x98\x80\r\n", [Reply.of(250, None, "????")]),
        (b"250 ok\r250 x\r\n", [Reply.of(250, None, "ok?250 x")]),
        (b"250 ok\x00\r\n", [Reply.of(250, None, "ok?")]),
        (b"250 ok\r\r\n", [Reply.of(250, None, "ok?")]),
        (b"421 4.3.2 Bye\r\n", [Reply.of(421, "4.3.2", "Bye")]),
        (b"599 x\r\n", [Reply.of(599, None, "x")]),
    ],
)
def test_replies_arrive_whole_or_octet_by_octet(octets: bytes, replies: list[Reply]):
    assert ReplyReader().feed(octets) == replies
    assert feed_singly(octets) == replies


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"\n",
        b"Ok\r\n",
        b"25\r\n",
        b"2500 x\r\n",
        b"250x\r\n",
        b"250\tx\r\n",
        b" 250 x\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"000 x\r\n",
        b"-250 x\r\n",
        b"\xd9\xa2\xd9\xa5\xd9\xa0 x\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x15\x03\x01\x00\x02\x02\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\n251-b\r\n",
        b"250-a\r\nb\r\n",
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"250-a\r\n" * (MAX_LINES + 1),
        b"250 ok\r\ngarbage\r\n",
    ],
)
def test_garbage_is_an_error(octets: bytes):
    with pytest.raises(ReplyError):
        ReplyReader().feed(octets)
    with pytest.raises(ReplyError):
        feed_singly(octets)


def test_a_line_without_an_end_is_not_waited_for():
    with pytest.raises(ReplyError, match="too long"):
        feed_singly(b"2" * (MAX_LINE + 1))


def test_a_reply_without_an_end_is_not_waited_for():
    reader = ReplyReader()
    for _ in range(MAX_LINES):
        assert reader.feed(b"250-x\r\n") == []
    with pytest.raises(ReplyError, match="more than 100 lines"):
        reader.feed(b"250-x\r\n")


def test_the_error_quotes_what_was_said_and_no_more():
    with pytest.raises(ReplyError) as error:
        ReplyReader().feed(b"\x1b[2J" + b"x" * 3000 + b"\r\n")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


# Invariants

pieces = st.lists(
    st.one_of(
        st.sampled_from(
            [b"250", b" ", b"-", b"\r\n", b"\n", b"\r", b"2.0.0 ", b"550", b"250-x\r\n", b"250 x\r\n"]
        ),
        st.binary(max_size=8),
    ),
    max_size=30,
)


@given(pieces)
def test_fragments_make_no_difference(fragments: list[bytes]):
    def read(pieces: list[bytes]) -> tuple[list[Reply], bool]:
        reader, replies = ReplyReader(), []
        try:
            for piece in pieces:
                replies += reader.feed(piece)
        except ReplyError:
            return replies, True
        return replies, False

    octets = b"".join(fragments)
    replies, has_failed = read([bytes([octet]) for octet in octets])
    assert read(fragments)[1] == has_failed
    if not has_failed:
        assert read([octets]) == (replies, False)
        assert read(fragments) == (replies, False)
