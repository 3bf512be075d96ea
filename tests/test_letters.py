"""Messages in files: what is a message, and where one ends."""

import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.letters import Letter, LetterError, files_of, read_letters
from gateway.smtp.content import normalized


def contents(file: Path, is_mbox: bool | None = None) -> list[bytes]:
    return [content(letter) for letter in read_letters([file], is_mbox)]


def content(letter: Letter) -> bytes:
    octets = b"".join(letter.content.chunks())
    letter.content.close()
    return octets


def put(directory: Path, octets: bytes) -> Path:
    file = directory / "it"
    file.write_bytes(octets)
    return file


MBOXES = {
    "one": (b"From a@b Mon\nA: 1\n\nx\n", [b"A: 1\r\n\r\nx\r\n"]),
    "two": (b"From a\nA: 1\n\nx\n\nFrom b\nB: 1\n\ny\n\n", [b"A: 1\r\n\r\nx\r\n", b"B: 1\r\n\r\ny\r\n"]),
    "no empty line before": (b"From a\nA: 1\n\nx\nFrom b\n", [b"A: 1\r\n\r\nx\r\nFrom b\r\n"]),
    "quoted": (b"From a\n\n>From x\n>>From y\n> From z\n", [b"\r\nFrom x\r\n>From y\r\n> From z\r\n"]),
    "quoted in the middle of a line": (b"From a\n\nx >From y\n", [b"\r\nx >From y\r\n"]),
    "empty lines at the end": (b"From a\n\nx\n\n\n\nFrom b\n\ny\n", [b"\r\nx\r\n\r\n\r\n", b"\r\ny\r\n"]),
    "crlf": (b"From a\r\nA: 1\r\n\r\nx\r\n\r\nFrom b\r\n\r\ny\r\n", [b"A: 1\r\n\r\nx\r\n", b"\r\ny\r\n"]),
    "messages without anything": (b"From a\n\nFrom b\n\nFrom c\n", [b"", b"", b""]),
    "cut off": (b"From a\n\nx", [b"\r\nx"]),
    "cut off in the first line": (b"From a", [b""]),
    "from without a blank": (b"From a\n\n\nFrom: b\n", [b"\r\n\r\nFrom: b\r\n"]),
}


@pytest.mark.parametrize(("octets", "expected"), MBOXES.values(), ids=MBOXES)
def test_an_mbox_is_many_messages(tmp_path: Path, octets: bytes, expected: list[bytes]):
    assert contents(put(tmp_path, octets)) == expected
    assert contents(put(tmp_path, octets), is_mbox=True) == expected


def test_what_does_not_begin_like_an_mbox_is_one_message(tmp_path: Path):
    file = put(tmp_path, b"A: 1\n\nx\n\nFrom b\n\ny\n")
    assert contents(file) == [b"A: 1\r\n\r\nx\r\n\r\nFrom b\r\n\r\ny\r\n"]
    with pytest.raises(LetterError, match="no mbox"):
        contents(file, is_mbox=True)
    assert contents(put(tmp_path, b"")) == [b""]
    assert contents(put(tmp_path, b""), is_mbox=True) == []
    assert contents(put(tmp_path, MBOXES["one"][0]), is_mbox=False) == [b"From a@b Mon\r\nA: 1\r\n\r\nx\r\n"]


@pytest.mark.parametrize("length", [65_534, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b"\r\r\n"])
def test_line_ends_are_found_wherever_the_file_is_cut(tmp_path: Path, length: int, end: bytes):
    octets = b"A: 1\n\n" + b"x" * (length - 6) + end + b"From here\n>From there"
    assert contents(put(tmp_path, octets)) == [normalized(octets)]
    # Of a line that is read in pieces, only the first one is a beginning.
    unquoted = normalized(octets).replace(b"\n>From", b"\nFrom")
    assert contents(put(tmp_path, b"From a\n" + octets)) == [unquoted]


bodies = st.lists(
    st.sampled_from(["", "x", "From me", ">From you", ">>From us", "From", " From", "Fromage"]), max_size=6
).map(lambda lines: "".join(f"{line}\n" for line in lines).encode())


@pytest.fixture(scope="module")
def mailboxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mailboxes")


@given(st.lists(bodies, max_size=4))
def test_what_is_put_into_an_mbox_comes_out_again(mailboxes: Path, sent: list[bytes]):
    written = [re.sub(rb"(?m)^(>*From )", rb">\1", b"A: 1\n\n" + body) for body in sent]
    file = put(mailboxes, b"".join(b"From a\n" + each + b"\n" for each in written))
    assert contents(file, is_mbox=True) == [normalized(b"A: 1\n\n" + body) for body in sent]


def test_a_message_is_there_before_the_rest_of_the_mbox_is(tmp_path: Path):
    pipe, go_on = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            file.write(b"From a\n\none\n\nFrom b\n")
            go_on.wait()
            file.write(b"\ntwo\n")

    writer = threading.Thread(target=write)
    writer.start()
    letters = read_letters([pipe])
    first = next(letters)
    assert (first.name, content(first)) == (f"{pipe}:1", b"\r\none\r\n")
    go_on.set()
    assert [letter.name for letter in letters] == [f"{pipe}:2"]
    writer.join()


def test_a_directory_is_a_maildir_or_has_messages(tmp_path: Path):
    mails = tmp_path / "mails"
    mails.mkdir()
    for name in ("b.eml", "a.eml", "c.txt"):
        (mails / name).touch()
    assert [file.name for file in files_of(mails)] == ["a.eml", "b.eml"]
    assert files_of(mails / "c.txt") == [mails / "c.txt"]
    maildir = tmp_path / "Maildir"
    for name in ("new/2.host", "cur/1.host:2,S", "tmp/3.host", "cur/sub/x"):
        (maildir / name).parent.mkdir(parents=True, exist_ok=True)
        (maildir / name).touch()
    assert [file.name for file in files_of(maildir)] == ["1.host:2,S", "2.host"]
    with pytest.raises(LetterError, match="neither a maildir nor a directory"):
        files_of(tmp_path)


@pytest.mark.parametrize(
    ("octets", "sender", "recipient"),
    [
        (b"From anna@a.example Mon Nov 23 2026\n\nx\n", "anna@a.example", None),
        (b"From MAILER-DAEMON Mon\n\nx\n", "", None),
        (b"From - Mon\n\nx\n", "", None),
        (b"From\n\nx\n", None, None),
        (b"From Mon Nov 23\n\nx\n", None, None),
        (
            b"From a@a.example\nReturn-Path: <r@r.example>\nDelivered-To: u@a.b\n\n",
            "r@r.example",
            "u",
        ),
        (b"Return-Path: <>\n\n", "", None),
        (b"Return-Path: nonsense\nX-Envelope-From: <x@x.example>\n\n", "x@x.example", None),
        (b"Return-Path: <r@r.example>\nReturn-Path: <s@s.example>\n\n", "r@r.example", None),
        (b"Delivered-To: <u@our.example>\nDelivered-To: v@our.example\n\n", None, "u"),
        (b"Delivered-To:\nDelivered-To: v@our.example\n\n", None, None),
        (b"A: 1\n\n", None, None),
    ],
)
def test_the_envelope_is_in_the_header_or_the_mbox(
    tmp_path: Path, octets: bytes, sender: str | None, recipient: str | None
):
    letter: Letter
    [letter] = read_letters([put(tmp_path, octets)])
    found, to = letter.sender(), letter.recipient()
    assert (None if found is None else str(found)) == sender
    assert (None if to is None else to.local_part) == recipient
