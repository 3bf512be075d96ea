"""Mail archives: which class a message is of, and what is believed about who sent it."""

from pathlib import Path

import pytest

from benchmarks.archive import client, read
from policies.testing import message

LOCAL = (
    "from localhost (localhost [127.0.0.1]) by mail.example.org (Postfix) with ESMTP id 1; Thu, 22 Aug 2002"
)
FETCHED = "from mail.example.org [198.18.0.1] by localhost with POP3 (fetchmail-5.9.0); Thu, 22 Aug 2002"
UNKNOWN = ("192.0.2.1", None)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ([], UNKNOWN),
        (["(qmail 14504 invoked by alias); 3 Jul 2002 00:52:42 -0000"], UNKNOWN),
        ([LOCAL], UNKNOWN),
        (["from a (a [10.1.2.3]) by b; date"], UNKNOWN),
        (["from a (a [256.1.2.3]) by b; date"], UNKNOWN),
        (["from a.example (a.example [66.187.233.211]) by b; date"], ("66.187.233.211", "a.example")),
        (["from a.example ([66.187.233.211]) by b; date"], ("66.187.233.211", "a.example")),
        (["from a.example (root@x.example [66.187.233.211]) by b; date"], ("66.187.233.211", "a.example")),
        (["from a.example (66.187.233.211) by b with SMTP; date"], ("66.187.233.211", "a.example")),
        (["from unknown (HELO a.example) (66.187.233.211) by b; date"], ("66.187.233.211", "a.example")),
        (["from [66.187.233.211] (helo=a.example) by b; date"], ("66.187.233.211", "a.example")),
        (["from [66.187.233.211] by b with SMTP; date"], ("66.187.233.211", "66.187.233.211")),
        (
            ["from a.example (a.example\r\n\t[66.187.233.211])\r\n\tby b; date"],
            ("66.187.233.211", "a.example"),
        ),
        # What stands behind "by" is about somebody else.
        (["from a.example by b ([66.187.233.211]) with SMTP; date"], UNKNOWN),
        # Nearer hosts first, but for those that only moved the message about.
        (
            [LOCAL, FETCHED, "from a (a [66.187.233.211]) by b; d", "from c (c [66.187.233.212]) by a; d"],
            ("66.187.233.211", "a"),
        ),
    ],
)
def test_the_client_is_the_first_host_from_outside(received: list[str], expected: tuple[str, str | None]):
    fields = "".join(f"Received: {value}\r\n" for value in received)
    assert client(message(content=f"{fields}\r\n".encode())) == expected


def archive(directory: Path, *names: str, content: bytes = b"Subject: x\n\nHello\n") -> Path:
    for name in names:
        file = directory / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_bytes(content)
    return directory


def test_a_directory_is_a_class_by_its_name(tmp_path: Path):
    archive(
        tmp_path, "data/easy-ham-1/1.txt", "data/hard_ham/00001.abc", "spam_2/1.eml", "docs/1.txt", "2.txt"
    )
    assert {(each.kind, each.name) for each in read(tmp_path)} == {
        ("easy ham", "easy-ham-1/1"),
        ("hard ham", "hard_ham/00001.abc"),
        ("spam", "spam_2/1.eml"),
    }


def test_what_is_beside_the_messages_is_none(tmp_path: Path):
    archive(tmp_path, "spam/1.txt", "spam/1.json", "spam/cmds", "spam/README.md")
    assert [each.name for each in read(tmp_path)] == ["spam/1"]


def test_no_more_than_the_limit_of_each_directory(tmp_path: Path):
    archive(tmp_path, *(f"{folder}/{number}.txt" for folder in ("spam", "ham") for number in range(5)))
    assert [each.name for each in read(tmp_path, limit=2)] == ["ham/0", "ham/1", "spam/0", "spam/1"]


def test_an_archive_without_messages_is_an_error(tmp_path: Path):
    archive(tmp_path, "mail/1.txt")
    with pytest.raises(ValueError, match="no directory of ham or spam"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "octets"),
    [
        (b"Subject: x\n\nHello\n", b"Subject: x\r\n\r\nHello\r\n"),
        (b"Subject: x\r\n\r\nHello\r\n", b"Subject: x\r\n\r\nHello\r\n"),
        (
            b"From a@example.net  Thu Aug 22 12:36:23 2002\nSubject: x\n\n\xe9\n",
            b"Subject: x\r\n\r\n\xe9\r\n",
        ),
    ],
)
def test_lines_end_as_in_smtp_and_the_mailbox_line_is_left_out(tmp_path: Path, content: bytes, octets: bytes):
    (sample,) = read(archive(tmp_path, "spam/1", content=content))
    assert b"".join(sample.transaction().message.content.chunks()) == octets


@pytest.mark.parametrize(
    ("content", "sender"),
    [
        (b"Return-Path: <a@example.net>\nFrom: b@example.net\n\n", "a@example.net"),
        (b"From c@example.net  Thu Aug 22 12:36:23 2002\nFrom: b@example.net\n\n", "c@example.net"),
        (b"Return-Path: yyyy\nFrom: B <b@example.net>\n\n", "b@example.net"),
        (b"Return-Path: <>\nFrom: nobody\n\n", ""),
        (b"\n", ""),
    ],
)
def test_the_sender_is_what_the_receiving_host_wrote_down(tmp_path: Path, content: bytes, sender: str):
    (sample,) = read(archive(tmp_path, "spam/1", content=content))
    assert str(sample.transaction().envelope.reverse_path) == sender


def test_the_trace_field_says_that_the_message_came_from_here(tmp_path: Path):
    (sample,) = read(archive(tmp_path, "spam/1"))
    assert sample.transaction().trace.startswith(b"Received: from unknown (unknown [127.0.0.1])\r\n\tby ")
