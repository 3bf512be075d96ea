"""The message as policies see it: asking for anything never raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.message import MAX_HEADER_SECTION, Message
from policies.testing import MemoryContent


def message(octets: bytes) -> Message:
    return Message(MemoryContent(octets))


LETTER = message(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nTo: a\r\nTo:\r\n b\r\n\r\nSubject: body\r\n")


def test_size_and_digest_are_those_of_the_octets():
    assert LETTER.size == 71
    assert message(b"").digest == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("name", ["Subject", "subject", "SUBJECT"])
def test_a_field_is_asked_for_by_any_spelling(name: str):
    assert LETTER.header(name) == "Grüße"
    assert LETTER.raw_header(name) == b" =?utf-8?q?Gr=C3=BC=C3=9Fe?="


def test_the_first_or_all_of_a_name():
    assert (LETTER.header("To"), LETTER.headers("To")) == ("a", ("a", "b"))
    assert LETTER.raw_header("To") == b" a"


def test_it_remembers_which_fields_were_asked_for():
    asked = message(b"A: 1\r\nA: 2\r\n\r\n")
    assert asked.asked == ()
    assert (asked.decoded("A"), asked.decoded("A", 9), asked.asked) == (("1",), ("1", "2"), ())
    asked.header("Subject")
    asked.headers("A")
    asked.raw_header("subject")
    assert asked.asked == ("subject", "a")


def test_what_is_not_there_is_none():
    assert LETTER.header("Cc") is None
    assert LETTER.raw_header("Cc") is None
    assert LETTER.headers("Cc") == ()


@pytest.mark.parametrize(
    "octets", [b"", b"\r\n", b"body only\r\n", b"\r\nSubject: body\r\n", bytes(range(256))]
)
def test_a_message_may_have_no_header(octets: bytes):
    assert message(octets).fields == ()
    assert message(octets).header("Subject") is None


@pytest.mark.parametrize("before", [0, 60_000, 65_530, 65_536, 100_000, 900_000])
def test_a_field_is_found_far_down_in_the_header(before: int):
    octets = b"A: " + b"x" * before + b"\r\nSubject: found\r\n\r\nSubject: body\r\n"
    assert message(octets).header("Subject") == "found"
    assert len(message(octets).headers("Subject")) == 1


def test_a_header_section_without_an_end_is_looked_at_up_to_a_limit():
    endless = message((b"A: " + b"x" * 95 + b"\r\n") * 20_000)
    assert endless.fields[-1].end == MAX_HEADER_SECTION
    assert endless.is_all_header


def test_so_is_one_of_too_many_fields():
    assert message(b"A:\r\n" * 100_000 + b"\r\n").is_all_header
    assert not message(b"A:\r\n" * 20_000 + b"\r\n").is_all_header


OURS = b"Received: from a (b [192.0.2.1])\r\n\tby MX.our.example (Sluicegate) with ESMTP;\r\n\ttoday\r\n"
THEIRS = b"Received: from mx.our.example by b.example; today\r\n"


@pytest.mark.parametrize(
    ("header", "looping"),
    [
        (b"", False),
        (THEIRS * 99, False),
        (THEIRS * 100, True),
        (OURS * 9 + THEIRS * 90, False),
        (OURS * 10, True),
        (OURS.replace(b"by MX", b"by the MX") * 50, False),
        (OURS.replace(b".example (", b".example.net (") * 50, False),
        (b"\r\n" + OURS * 100, False),
    ],
)
def test_a_message_that_was_handed_on_too_often_goes_in_circles(header: bytes, looping: bool):
    assert message(header + b"\r\nHello\r\n").is_looping("mx.our.example") is looping


@given(st.binary(), st.text())
def test_nothing_raises(octets: bytes, name: str):
    built = message(octets)
    assert built.size == len(octets)
    assert built.header(name) is None or built.headers(name)
