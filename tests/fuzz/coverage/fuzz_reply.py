"""Invariant: what a downstream says is no reply, or replies that can be spoken, however it arrives."""

import re

from gateway.smtp.reply import Reply
from gateway.smtp.reply_reader import ReplyError, ReplyReader

SEEDS = [
    b"\x00250 2.0.0 Ok: queued as 1\r\n",
    b"\x01250-mx.example\r\n250-SIZE 1000\r\n250 8BITMIME\r\n",
    b"\x02250 ok\r250 x\r\n",
    b"\x03550-5.1.1 no\r\n550 5.7.1 \xe9\0\x1b[2J\r\n421 bye\r\n",
    b"\x04250\r\n250-a\r\n550 b\r\n",
    b"\x05354 go\n999 x\n",
]
WORDS = [
    b"250",
    b"550",
    b"354",
    b"421",
    b"-",
    b" ",
    b"\r\n",
    b"\n",
    b"\r",
    b"5.1.1",
    b"2.0.0",
    b"\0",
    b"\xff",
]

_LINE = re.compile(rb"[2-5]\d\d[ -][ -~]*\r\n")


def fuzz(octets: bytes) -> None:
    """The first octet chooses the size of the pieces."""
    said, size = octets[1:], max(octets[0] if octets else 0, 1)
    whole, by_pieces = _read(said, len(said) or 1), _read(said, size)
    # An error is found at the latest with the piece that has it; what was whole before it counts.
    assert whole[1] == by_pieces[1]
    assert by_pieces[0][: len(whole[0])] == whole[0]
    for reply in by_pieces[0]:
        _assert_can_be_spoken(reply)


def _read(said: bytes, size: int) -> tuple[list[Reply], bool]:
    reader = ReplyReader()
    replies: list[Reply] = []
    try:
        for at in range(0, len(said), size):
            replies += reader.feed(said[at : at + size])
    except ReplyError:
        return replies, True
    return replies, False


def _assert_can_be_spoken(reply: Reply) -> None:
    for spoken in (reply, reply.with_reference("7K3F-Q2MD")):
        lines = spoken.encode().splitlines(keepends=True)
        assert all(_LINE.fullmatch(line) and len(line) <= 512 for line in lines), lines
        assert [line[3:4] for line in lines] == [b"-"] * (len(lines) - 1) + [b" "]
        assert {line[:3] for line in lines} == {str(reply.code).encode()}
