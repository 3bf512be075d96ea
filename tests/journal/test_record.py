"""The line of a record: whatever is in it, it can be written, and read again."""

import json

import pytest

from gateway.journal.record import MAX_LINE, ClientRecord, decode, encode, new_reference
from tests.journal.records import make_record


def test_a_record_is_one_line_of_json_and_comes_back_the_same():
    record = make_record("two\nlines\r\n and \x1b[2J")
    line = encode(record)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["message"]["from"] == "A <a@sender.example>"
    assert decode(line) == record


def test_what_utf8_cannot_say_is_written_with_a_backslash():
    record = make_record("bad \udcff byte", client=ClientRecord("192.0.2.7", 1, helo="\ud800"))
    back = decode(encode(record))
    assert back.message is not None
    assert back.message.subject == r"bad \udcff byte"
    assert back.client.helo == r"\ud800"


def test_a_record_too_long_for_a_line_is_cut_and_not_lost():
    record = make_record("x" * (2 * MAX_LINE), evidence={"Odd": {"rules": ["y"] * MAX_LINE}})
    line = encode(record)
    assert len(line) <= MAX_LINE
    back = decode(line)
    assert back.reference == record.reference
    assert back.message is not None
    assert set(back.message.subject or "") == {"x"}


def test_evidence_of_a_type_that_json_does_not_know_is_written_as_text():
    back = decode(encode(make_record(evidence={"Odd": {"value": 3 + 4j}})))
    assert back.evidence["Odd"]["value"] == "(3+4j)"


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"\x00" * 50, b'{"reference":', b"[" * 100_000, b'{"version":1,"reference":"\xff"}']
)
def test_anything_else_is_a_value_error(line: bytes):
    with pytest.raises(ValueError):
        decode(line)


def test_references_have_eight_letters_that_cannot_be_misread():
    references = {new_reference() for _ in range(1000)}
    assert len(references) == 1000
    assert all(len(reference) == 9 and reference[4] == "-" for reference in references)
    assert not set("01IO") & set("".join(references))
