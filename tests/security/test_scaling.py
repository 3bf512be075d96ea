"""Whatever we look through ourselves is looked through once, however it is made up.

No time is measured: each input is so large that a search beginning anew at every octet of it would
still be running when the suite's time-out names the test.
"""

from collections.abc import Callable

import pytest

import gateway.smtp.header
from gateway.casefile import CaseFile
from gateway.headers import relayed
from gateway.smtp.command import CommandError, is_foreign, parse_mail, parse_rcpt
from gateway.smtp.content import BareNewline, ContentReader, stuffed
from gateway.smtp.header import decode_value, split_fields
from gateway.smtp.reply_reader import ReplyError, ReplyReader
from policies.testing import message

MUCH = 1_000_000


def much_of(piece: bytes, octets: int = MUCH) -> bytes:
    return piece * (octets // len(piece))


@pytest.mark.parametrize(
    "piece",
    [
        *(
            b"=?a?q? ",
            b"=?a*",
            b"=?",
            b"=?q?b?\r\n ",
            b"=?utf-8?q?a?= ",
            b"=?utf-8?q?a?=x",
            b"=?utf-8?b?YQ?=",
        ),
        *(
            b"=?utf-8?q?",
            b"=?big5?q?a?= =?gbk?q?b?= ",
            b'"',
            b"\\",
            b" ",
            b"\r\n ",
            b"?=",
            b"=?utf-8?q?=FF?= ",
        ),
        b"=?idna?q?a?=",
    ],
)
def test_the_value_of_a_field(piece: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gateway.smtp.header, "_MAX_DECODED", MUCH)
    assert isinstance(decode_value(much_of(piece)), str)


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "unicode_escape", "utf-7", "utf-8", "iso-2022-jp", "hz"]
)
@pytest.mark.parametrize("text", [b"a", b"a-9", b"xn--a.", b"\\x", b"=1B$B"])
def test_one_encoded_word(charset: str, text: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gateway.smtp.header, "_MAX_DECODED", MUCH)
    assert isinstance(decode_value(b"=?%s?q?%s?=" % (charset.encode(), much_of(text))), str)


@pytest.mark.parametrize("start", [b"", b"A:", b"From ", b"A: x\r\n"])
@pytest.mark.parametrize(
    "piece", [b"a", b"a ", b" ", b"\t", b"\r\n ", b"a:\r\n", b"From x\r\n", b"\0", b"\r\n\t:"]
)
def test_a_header_section(start: bytes, piece: bytes):
    split_fields(start + much_of(piece))


@pytest.mark.parametrize(
    "piece", [b"(", b"(a", b"()", b")", b"((a))", b'"', b'"a', b"\\", b"(\\", b"a", b" ", b";", b"\r\n "]
)
def test_a_claim_to_be_us(piece: bytes):
    content = b"Authentication-Results: " + much_of(piece, 900_000) + b"\r\n\r\n"
    assert content in b"".join(relayed(CaseFile(), b"", message(content=content), "mx.our.example"))


@pytest.mark.parametrize("mode", BareNewline)
@pytest.mark.parametrize(
    "piece",
    [b"\n\0", b"\n\0.", b"\0", b"\r\n.a", b"\r\n\0\0\0", b"\r", b"\n", b".", b"\r\n.\r", b"\r\n", b"a"],
)
@pytest.mark.parametrize("size", [70, MUCH])
def test_content(piece: bytes, mode: BareNewline, size: int):
    reader, sent = ContentReader(mode), much_of(piece)
    content = [reader.feed(sent[at : at + size]) for at in range(0, len(sent), size)]
    assert not reader.at_end
    assert sum(map(len, stuffed(content))) >= len(b"".join(content))


COMMANDS: list[Callable[[bytes], object]] = [
    lambda octets: parse_rcpt(b"TO:<" + octets),
    lambda octets: parse_rcpt(b"TO:<@" + octets + b"\xff>"),
    lambda octets: parse_mail(b"FROM:<a@b.example> " + octets),
    is_foreign,
]


@pytest.mark.parametrize("parse", COMMANDS)
@pytest.mark.parametrize(
    "piece",
    [b"a", b"a.", b"@a", b"@a,", b'"', b'\\"', b"a" * 63 + b".", b"<", b"A=1 ", b"a-", b"[", b"a:", b" "],
)
def test_a_command(piece: bytes, parse: Callable[[bytes], object]):
    try:
        parse(much_of(piece, 300_000))
    except CommandError:
        return


@pytest.mark.parametrize("piece", [b"2", b"250-a\r\n", b"250 a\r\n", b"250-", b"\n", b"250\r"])
@pytest.mark.parametrize("size", [70, 65_536])
def test_a_reply(piece: bytes, size: int):
    reader, said = ReplyReader(), much_of(piece)
    try:
        for at in range(0, len(said), size):
            reader.feed(said[at : at + size])
    except ReplyError:
        return
