"""Command lines: what is understood, and the reply to what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.address import NULL_PATH, Path
from gateway.smtp.command import (
    MAX_CHUNK,
    Chunk,
    Command,
    CommandError,
    announces_chunk,
    parse_bdat,
    parse_command,
    parse_helo,
    parse_mail,
    parse_rcpt,
    parse_size,
)
from gateway.smtp.reply import Reply

OURS = Path("u1", "our.example")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"QUIT", Command("QUIT", b"")),
        (b"nOoP", Command("NOOP", b"")),
        (b"NOOP ", Command("NOOP", b"")),
        (b"NOOP   x  y ", Command("NOOP", b"x  y")),
        (b"MAIL FROM:<a@b>", Command("MAIL", b"FROM:<a@b>")),
        (b"EHLO \xe2\x80\xa8x", Command("EHLO", b"\xe2\x80\xa8x")),
        (b"NOOP " + b"a" * 2000, Command("NOOP", b"a" * 2000)),
    ],
)
def test_a_line_is_a_verb_and_an_argument(line: bytes, command: Command):
    assert parse_command(line) == command


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b" QUIT",
        b"\t",
        b"QUIT\t",
        b"MAIL\x00FROM:<a@b>",
        b"MAIL FROM:<a\x00b@a.example>",
        b"QUIT\r",
        b"EHLO x\rMAIL FROM:<a@b>",
        b"EHLO a\x0bX-Inj: 1",
        b"EHLO a\x1cX-Inj: 1",
        b"EHLO a\x7f",
        b"\x16\x03\x01\x02\x00\x01",
        b"Host:",
        b"Host: x",
        b"GET/",
        b"EHL\xc3\x96 x",
        b"A" * 17,
        b"A" * 2000,
        b"{}",
    ],
)
def test_what_is_no_command_is_said_to_be_none(line: bytes):
    assert refusal_of(parse_command, line).startswith("500 5.5.2 ")


@pytest.mark.parametrize(
    "name", ["x", "client.example.net", "[192.0.2.1]", "x)(y;z", "localhost", "_", "a" * 255, "<>"]
)
def test_any_printable_name_is_a_helo_name(name: str):
    assert parse_helo(name.encode()) == name


@pytest.mark.parametrize(
    "argument", [b"", b"a" * 256, b"a b", b"x (h [203.0.113.1]) by evil", b"\xc2\x85X", b"a\r\nb", b"a\x00"]
)
def test_other_helo_names_are_refused(argument: bytes):
    assert refusal_of(parse_helo, argument).startswith("501 5.5.4 ")


@pytest.mark.parametrize(
    ("argument", "path", "parameters"),
    [
        (b"FROM:<>", NULL_PATH, {}),
        (b"from:<u1@our.example>", OURS, {}),
        (b"FROM: <u1@our.example>", OURS, {}),
        (b"FROM:<u1@our.example> SIZE=10 BODY=8BITMIME", OURS, {"SIZE": "10", "BODY": "8BITMIME"}),
        (b"FROM:<u1@our.example>  size=10  smtputf8", OURS, {"SIZE": "10", "SMTPUTF8": None}),
        (b"FROM:<\xc3\xbc@a.example> SMTPUTF8", Path("ü", "a.example"), {"SMTPUTF8": None}),
        (b"FROM:<> AUTH=<>", NULL_PATH, {"AUTH": "<>"}),
        (b"FROM:<> AUTH=e+3Dmc2@x", NULL_PATH, {"AUTH": "e+3Dmc2@x"}),
    ],
)
def test_mail_has_a_path_and_parameters(argument: bytes, path: Path, parameters: dict[str, str | None]):
    assert parse_mail(argument) == (path, parameters)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"", "501 5.5.4"),
        (b"<a@b>", "501 5.5.4"),
        (b"TO:<a@b>", "501 5.5.4"),
        (b"FROM :<a@b>", "501 5.5.4"),
        (b"FROM:", "501 5.1.7"),
        (b"FROM:a@b", "501 5.1.7"),
        (b"FROM:<>SIZE=1", "501 5.1.7"),
        (b"FROM:<=?utf-8?q?a=0d=0aDATA=0d=0a?=@a.example>x", "501 5.1.7"),
        (b"FROM:<=?utf-8?q?a DATA?=@a.example>", "501 5.1.7"),
        (b"FROM:<\xc0\xaf@a.example> SMTPUTF8", "501 5.1.7"),
        (b"FROM:<> SIZE=", "501 5.5.4"),
        (b"FROM:<> =1", "501 5.5.4"),
        (b"FROM:<> SIZE=1=2", "501 5.5.4"),
        (b"FROM:<> SIZE=1 SIZE=2", "501 5.5.4"),
        (b"FROM:<> size=1 SIZE=1", "501 5.5.4"),
        (b"FROM:<> -X", "501 5.5.4"),
        (b"FROM:<> ENVID=\xb2", "501 5.5.4"),
        (b"FROM:<> ENVID=\xc0\xaf", "501 5.5.4"),
        (b"FROM:<> ENVID=a\xc2\x85b", "501 5.5.4"),
    ],
)
def test_a_malformed_mail_is_refused(argument: bytes, reply: str):
    assert refusal_of(parse_mail, argument).startswith(reply)


def test_rcpt_has_a_path_and_parameters():
    assert parse_rcpt(b"TO:<u1@our.example> NOTIFY=NEVER") == (OURS, {"NOTIFY": "NEVER"})
    assert parse_rcpt(b"to:<Postmaster>") == (Path("Postmaster", ""), {})


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        (b"FROM:<u1@our.example>", "501 5.5.4"),
        (b"TO:<>", "501 5.1.3"),
        (b"TO:u1@our.example", "501 5.1.3"),
        (b"TO:User <u1@our.example>", "501 5.1.3"),
        (b"TO:<u1@our.example>,<x@victim.example>", "501 5.1.3"),
        (b"TO:<u1@our.example>evil", "501 5.1.3"),
        (b"TO:<u1@our.example>\r", "501 5.1.3"),
        (b"TO:<u1@our.example> <x@victim.example>", "501 5.5.4"),
        (b"TO:<u1@our.example> \r\nDATA", "501 5.5.4"),
        (b"TO:<nobody@victim.example@our.example>", "501 5.1.3"),
    ],
)
def test_a_malformed_rcpt_is_refused(argument: bytes, reply: str):
    assert refusal_of(parse_rcpt, argument).startswith(reply)


@pytest.mark.parametrize(
    ("parameters", "size"),
    [({}, None), ({"SIZE": "0"}, 0), ({"SIZE": "00012"}, 12), ({"SIZE": "9" * 20}, 10**20 - 1)],
)
def test_a_size_is_a_number_of_octets(parameters: dict[str, str | None], size: int | None):
    assert parse_size(parameters) == size


@pytest.mark.parametrize("value", [None, "", "-1", "+1", "abc", "1e9", "1_0", " 1", "²", "١", "9" * 21])
def test_what_is_no_size_is_refused(value: str | None):
    assert refusal_of(parse_size, {"SIZE": value}).startswith("501 5.5.4 ")


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        (b"0", Chunk(0, False)),
        (b"0 LAST", Chunk(0, True)),
        (b"86 last", Chunk(86, True)),
        (b"0000000086  LAST", Chunk(86, True)),
        (b"%d" % MAX_CHUNK, Chunk(MAX_CHUNK, False)),
    ],
)
def test_a_chunk_has_a_size_and_may_be_the_last(argument: bytes, chunk: Chunk):
    assert parse_bdat(argument) == chunk


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"abc",
        b"-1",
        b"+1",
        b"1 2",
        b"1 LAST LAST",
        b"1LAST",
        b"LAST",
        b"1 \xc2\xb2",
        b"\xc2\xb2",
        b"0x1",
        b"1.0",
        b"%d" % (MAX_CHUNK + 1),
        b"9" * 20,
        b"9" * 30,
        b"0" * 11,
        b"1\tLAST",
    ],
)
def test_a_chunk_without_a_usable_size_is_refused(argument: bytes):
    assert refusal_of(parse_bdat, argument).startswith("501 5.5.4 ")


@pytest.mark.parametrize("line", [b"BDAT", b"bdat 5", b"BDAT\t5", b"BDAT\x005", b" BDAT 5", b"BDAT5"])
def test_a_line_that_could_announce_a_chunk_is_known(line: bytes):
    assert announces_chunk(line)


@pytest.mark.parametrize("line", [b"", b"DATA", b"NOOP BDAT 5", b"BDA T"])
def test_other_lines_announce_none(line: bytes):
    assert not announces_chunk(line)


@given(st.binary(max_size=200))
def test_whatever_a_client_sends_the_answer_is_a_value_or_a_permanent_reply(octets: bytes):
    for prefix, parse in (
        (b"", parse_command),
        (b"", parse_helo),
        (b"", parse_bdat),
        (b"1", parse_bdat),
        (b"FROM:<", parse_mail),
        (b"FROM:<> ", parse_mail),
        (b"TO:<", parse_rcpt),
        (b"TO:<u1@our.example>", parse_rcpt),
    ):
        reply = reply_to(parse, prefix + octets)
        assert reply is None or reply.is_permanent


def reply_to(parse, argument) -> Reply | None:
    """What is answered to an argument that cannot be understood."""
    try:
        parse(argument)
    except CommandError as error:
        return error.reply
    return None


def refusal_of(parse, argument) -> str:
    return str(reply_to(parse, argument))
