"""A message as an MTA sees it, and what a milter's modifications make of it.

`tests/integration/test_milter_edits.py` asks a real Postfix the same.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.milter_delivery import TRACE, Message, delivered
from tests.fakes.milter_protocol import (
    AddHeader,
    AddRecipient,
    ChangeFrom,
    ChangeHeader,
    DeleteRecipient,
    InsertHeader,
    Modification,
    Quarantine,
    ReplaceBody,
)

WORDS = st.sampled_from([b"A", b"Subject", b" ", b"\t", b":", b"\r\n", b"\n", b"\r", b"\0", b"\xfc", b"text"])
OCTETS = st.lists(WORDS, max_size=30).map(b"".join)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1)
TEXTS = st.binary(max_size=20).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
VALUES = st.lists(TEXTS, min_size=1, max_size=3).map(b"\r\n\t".join)
FIELDS = st.builds(lambda name, value: name.encode() + b":" + value + b"\r\n", NAMES, VALUES)
LINES = st.lists(TEXTS.map(lambda text: text + b"\r\n"), max_size=4).map(b"".join)


@given(st.lists(FIELDS, max_size=5), LINES)
def test_a_message_of_an_mta_is_split_and_put_together_again(fields: list[bytes], body: bytes):
    octets = b"".join(fields) + b"\r\n" + body
    message = Message.of(octets)
    assert [field.octets for field in message.fields] == fields
    assert (message.body, message.octets) == (body, octets)


@given(OCTETS)
def test_any_octets_are_a_message_from_then_on(octets: bytes):
    message = Message.of(octets)
    assert Message.of(message.octets) == message
    assert all(field.name for field in message.fields)


@pytest.mark.parametrize(
    ("octets", "fields", "body"),
    [
        (b"", [], None),
        (b"A: b", [b"A: b\r\n"], None),
        (b"A: b\r\n\r\n", [b"A: b\r\n"], b""),
        (b"A: b\n\nc\n", [b"A: b\r\n"], b"c\r\n"),
        (b"A \t: b\r\n c\r\n\r\n", [b"A: b\r\n c\r\n"], b""),
        (b"A: b\r\ntext\r\n", [b"A: b\r\n"], b"text\r\n"),
        (b" A: b\r\n", [], b" A: b\r\n"),
        (b"A B: c\r\n", [], b"A B: c\r\n"),
        (b"A: b\r\n \r\nC: d\r\n", [b"A: b\r\n \r\n", b"C: d\r\n"], None),
        (b"\r\n\r\nx", [], b"\r\nx\r\n"),
    ],
)
def test_octets_are_split_as_an_mta_does(octets: bytes, fields: list[bytes], body: bytes | None):
    message = Message.of(octets)
    assert ([field.octets for field in message.fields], message.body) == (fields, body)


# What is delivered

HEADER = b"A: 1\r\nB: 2\r\na: 3\r\n"


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ([], b"A: 1\r\nB: 2\r\na: 3\r\n"),
        ([AddHeader(b"A", b"4")], b"A: 1\r\nB: 2\r\na: 3\r\nA: 4\r\n"),
        ([AddHeader(b"A", b"4\n 5\n6")], b"A: 1\r\nB: 2\r\na: 3\r\nA: 4\r\n 5\r\n\t6\r\n"),
        ([AddHeader(b"A", b"")], b"A: 1\r\nB: 2\r\na: 3\r\nA: \r\n"),
        ([InsertHeader(1, b"C", b"4")], b"C: 4\r\nA: 1\r\nB: 2\r\na: 3\r\n"),
        ([InsertHeader(2, b"C", b"4")], b"A: 1\r\nC: 4\r\nB: 2\r\na: 3\r\n"),
        ([InsertHeader(99, b"C", b"4")], b"A: 1\r\nB: 2\r\na: 3\r\nC: 4\r\n"),
        ([InsertHeader(1, b"C", b"4"), InsertHeader(1, b"D", b"5")], b"D: 5\r\nC: 4\r\n" + HEADER),
        ([ChangeHeader(1, b"a", b"x")], b"a: x\r\nB: 2\r\na: 3\r\n"),
        ([ChangeHeader(2, b"A", b"x")], b"A: 1\r\nB: 2\r\nA: x\r\n"),
        ([ChangeHeader(0, b"A", b"x")], b"A: x\r\nB: 2\r\na: 3\r\n"),
        ([ChangeHeader(3, b"A", b"x")], b"A: 1\r\nB: 2\r\na: 3\r\nA: x\r\n"),
        ([ChangeHeader(1, b"A", b"")], b"B: 2\r\na: 3\r\n"),
        ([ChangeHeader(3, b"A", b"")], HEADER),
        ([ChangeHeader(1, b"A", b""), ChangeHeader(1, b"A", b"")], b"B: 2\r\n"),
        ([ChangeHeader(1, b"A", b""), ChangeHeader(2, b"A", b"x")], b"B: 2\r\na: 3\r\nA: x\r\n"),
        ([AddHeader(b"A", b"4"), ChangeHeader(3, b"A", b"x")], b"A: 1\r\nB: 2\r\na: 3\r\nA: x\r\n"),
        ([InsertHeader(0, b"A", b"0"), ChangeHeader(2, b"A", b"x")], b"A: 0\r\nA: x\r\nB: 2\r\na: 3\r\n"),
        ([ChangeHeader(1, b"Received", b"")], HEADER),
        ([ChangeHeader(1, b"Received", b"x")], HEADER + b"Received: x\r\n"),
    ],
)
def test_header_fields_are_changed_as_postfix_does(changes: list[Modification], header: bytes):
    assert delivered(HEADER + b"\r\nbody\r\n", changes).content == header + b"\r\nbody\r\n"


def test_positions_count_the_received_field_of_the_mta():
    changes: list[Modification] = [InsertHeader(0, b"C", b"4"), InsertHeader(2, b"D", b"5")]
    delivery = delivered(HEADER + b"\r\n", changes)
    assert [field.name for field in delivery.queued.fields] == [b"C", b"Received", b"D", b"A", b"B", b"a"]
    assert delivery.queued.fields[1] is TRACE
    assert [field.name for field in delivery.message.fields] == [b"C", b"D", b"A", b"B", b"a"]


def test_a_value_brings_its_leading_space_where_that_was_negotiated():
    changes: list[Modification] = [AddHeader(b"C", b"4"), InsertHeader(1, b"D", b"\t5")]
    changes.append(ChangeHeader(1, b"B", b" 6"))
    header = b"D:\t5\r\nA: 1\r\nB: 6\r\na: 3\r\nC:4\r\n"
    assert delivered(HEADER + b"\r\n", changes, leading_space=True).content == header + b"\r\n"


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        ([b"new\r\n"], b"new\r\n"),
        ([b"new\r", b"\nmore"], b"new\r\nmore\r\n"),
        ([b"a\nb\rc\r\n"], b"a\r\nb\rc\r\n"),
        ([b"\r\nA: b\r\n"], b"\r\nA: b\r\n"),
        ([b""], b""),
    ],
)
def test_a_body_is_replaced_as_a_whole(chunks: list[bytes], body: bytes):
    changes = [ReplaceBody(chunk) for chunk in chunks]
    assert delivered(b"A: 1\r\n\r\nold\r\n", changes).content == b"A: 1\r\n\r\n" + body
    assert delivered(b"A: 1\r\n", changes).content == b"A: 1\r\n\r\n" + body


@pytest.mark.parametrize(
    ("changes", "recipients"),
    [
        ([], (b"b@x", b"c@x")),
        ([AddRecipient(b"<d@x>")], (b"b@x", b"c@x", b"d@x")),
        ([AddRecipient(b"b@x")], (b"b@x", b"c@x")),
        ([AddRecipient(b"<>")], (b"b@x", b"c@x")),
        ([DeleteRecipient(b"b@x")], (b"c@x",)),
        ([DeleteRecipient(b"<B@x>")], (b"b@x", b"c@x")),
        ([DeleteRecipient(b"<b@x>"), AddRecipient(b"<b@x>")], (b"c@x", b"b@x")),
        ([DeleteRecipient(b"<b@x>"), DeleteRecipient(b"<c@x>")], ()),
    ],
)
def test_recipients_are_changed(changes: list[Modification], recipients: tuple[bytes, ...]):
    delivery = delivered(b"", changes, sender=b"<a@x>", recipients=[b"<b@x>", b"<c@x>", b"<b@x>"])
    assert (delivery.sender, delivery.recipients) == (b"a@x", recipients)


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ([], ""),
        ([Quarantine(b"one"), Quarantine(b"two")], "two"),
        ([Quarantine(b"")], "milter triggers HOLD action"),
        ([Quarantine(b"x" * 200)], "x" * 100),
    ],
)
def test_a_message_is_held(changes: list[Modification], held: str):
    assert delivered(b"", changes, recipients=[b"<b@x>"]).held == held


def test_nobody_gets_a_discarded_message():
    delivery = delivered(b"", [Quarantine(b"why")], recipients=[b"<b@x>"], is_discarded=True)
    assert (delivery.recipients, delivery.held, delivery.is_discarded) == ((), "", True)


def test_the_sender_is_changed():
    assert delivered(b"", [ChangeFrom(b"<z@x>", b"RET=HDRS")], sender=b"<a@x>").sender == b"z@x"
