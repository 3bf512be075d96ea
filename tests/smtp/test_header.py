"""The header section: where it ends, what is in it, and that no octets can break it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.smtp.header import MAX_FIELDS, decode_value, split_fields


def names_and_values(octets: bytes) -> list[tuple[str, bytes]]:
    return [(field.name, field.value) for field in split_fields(octets)]


@pytest.mark.parametrize(
    ("octets", "fields"),
    [
        (b"", []),
        (b"\r\n", []),
        (b"\r\nbody: x\r\n", []),
        (b"Subject: Hello\r\n\r\nbody: x\r\n", [("subject", b" Hello")]),
        (b"A: 1\r\nB:2\r\nA: 3\r\n\r\n", [("a", b" 1"), ("b", b"2"), ("a", b" 3")]),
        (b"A:\r\n\r\n", [("a", b"")]),
        # Cut off anywhere
        (b"A: 1", [("a", b" 1")]),
        (b"A: 1\r\nB", [("a", b" 1")]),
        (b"A: 1\r\nB:", [("a", b" 1"), ("b", b"")]),
        (b"A: 1\r\n x", [("a", b" 1\r\n x")]),
        # Folds
        (b"A: 1\r\n\t2\r\n  3\r\nB: 4\r\n", [("a", b" 1\r\n\t2\r\n  3"), ("b", b" 4")]),
        (b"A:\r\n 1\r\n \r\n 2\r\n\r\n", [("a", b"\r\n 1\r\n \r\n 2")]),
        (b"A: 1\n 2\nB: 3\n\nC: 4\n", [("a", b" 1\n 2"), ("b", b" 3")]),
        # Obsolete white space before the colon (RFC 5322 section 4.5)
        (b"x-SPAM-flag:NO\r\n", [("x-spam-flag", b"NO")]),
        (b"X-Spam-Flag : NO\r\n", [("x-spam-flag", b" NO")]),
        (b"X-Spam-Flag \t\t: NO\r\n", [("x-spam-flag", b" NO")]),
        # No field, so the end of the section
        (b"A: 1\r\nX-Spam-\r\n Flag: NO\r\nB: 2\r\n", [("a", b" 1")]),
        (b"A: 1\r\nX-Spam-Flag\x00: NO\r\nB: 2\r\n", [("a", b" 1")]),
        (b"A: 1\r\nX Spam: NO\r\nB: 2\r\n", [("a", b" 1")]),
        (b"A: 1\r\nX-Sp\xe4m: NO\r\nB: 2\r\n", [("a", b" 1")]),
        (b"A: 1\r\n: 2\r\nB: 3\r\n", [("a", b" 1")]),
        (b" A: 1\r\nB: 2\r\n", []),
        (b"Subject t\r\nTo: x\r\n\r\nb", []),
        # What mailbox tools put on top
        (b"From x Mon Jan 1\r\nSubject: t\r\n\r\n", [("subject", b" t")]),
        (b">From x Mon Jan 1 00:00:00 2024\nSubject: t\n", [("subject", b" t")]),
        (b"From x Mon Jan 1\r\n folded\r\n\tonce more\r\nSubject: t\r\n\r\n", [("subject", b" t")]),
        (b"From x Mon Jan 1", []),
        (b"From: x\r\nFrom x Mon Jan 1\r\nSubject: t\r\n", [("from", b" x")]),
        # Octets beyond ASCII and control octets stay as they are
        (b"A: \xff\x00\x1b\r\n", [("a", b" \xff\x00\x1b")]),
    ],
)
def test_the_fields_at_the_beginning(octets: bytes, fields: list[tuple[str, bytes]]):
    assert names_and_values(octets) == fields


def test_a_field_knows_where_it_stands():
    octets = b"From x\r\nA: 1\r\n 2\r\nB : 3\r\n\r\nbody"
    assert [octets[field.start : field.end] for field in split_fields(octets)] == [
        b"A: 1\r\n 2\r\n",
        b"B : 3\r\n",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (b" Hello ", "Hello"),
        (b" Hello\r\n\tworld", "Hello\tworld"),
        (b" a\n b", "a b"),
        (b" =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b" =?utf-8?b?R3LDvMOfZQ==?= an alle", "Grüße an alle"),
        (b" =?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
        (b" =?iso-8859-1?q?caf=E9?=", "café"),
        (" Grüße".encode(), "Grüße"),
        (b" caf\xe9", "café"),
        (b" =?no-such-charset?q?a?=", "=?no-such-charset?q?a?="),
        (b" =?utf-8?q?=FF?=", "=?utf-8?q?=FF?="),
        (b" =?utf-8?b?A?=", "=?utf-8?b?A?="),
        (b" =?", "=?"),
        (b" =?zlib_codec?b?eJwrBQAAcwBy?=", "=?zlib_codec?b?eJwrBQAAcwBy?="),
        (b" =?../../x?q?a?=", "=?../../x?q?a?="),
        (b" =?utf-8\0?q?a?=", "=?utf-8\0?q?a?="),
        (" =?ütf-8?q?a?=".encode(), "=?ütf-8?q?a?="),
        (b" a =?utf-8?q?b?= =?nobodys?q?c?= d", "a =?utf-8?q?b?= =?nobodys?q?c?= d"),
        (b" =?utf-8?q?a?= x =?nobodys?q?b?=", "a x =?nobodys?q?b?="),
        # In the wild: a character in two words, blanks and lower case in a word, no padding, a language
        (
            b" =?utf-8?b?w7w=?= =?UTF-8?q?=C3?=\r\n =?utf-8?q?=9F?=",
            "\N{LATIN SMALL LETTER U WITH DIAERESIS}\xdf",
        ),
        (b" =?utf-8?Q?a b=5F?=", "a b_"),
        (b" =?utf-8?b?YQ?=", "a"),
        (b" =?utf-8*de?q?a?=", "a"),
        (b" =?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "\u65e5\u672c"),
    ],
)
def test_a_value_for_people(value: bytes, text: str):
    assert decode_value(value) == text


@pytest.mark.parametrize(
    "charset",
    ["idna", "punycode", "unicode_escape", "rot13", "hex_codec", "zlib_codec", "utf-7", "undefined", "mbcs"],
)
@pytest.mark.parametrize("text", ["a", r"\d", "=5Cx", "xn--a-", "+AGE-"])
def test_a_codec_that_is_no_charset_is_not_asked(charset: str, text: str):
    word = f"=?{charset}?q?{text * 100}?="
    assert decode_value(word.encode()) == word


def test_nobody_reads_more_than_16_kb_of_a_field():
    assert len(decode_value(b"x" * 1_000_000)) == 16_384


def test_a_header_of_more_fields_than_any_mail_has_ends_there():
    fields = split_fields(b"a:\r\n" * (MAX_FIELDS + 1000))
    assert len(fields) == MAX_FIELDS


# Invariants

header_like = st.lists(
    st.one_of(
        st.sampled_from(
            [b"A", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\0", b"From ", b"X-Spam-Flag: NO\r\n", b"\xff"]
        ),
        st.binary(max_size=6),
    ),
    max_size=40,
).map(b"".join)


@given(st.one_of(header_like, st.binary()))
def test_any_octets_have_a_header_section(octets: bytes):
    at = None
    for field in split_fields(octets):
        assert at is None or field.start == at  # nothing between one field and the next
        at = field.end
        inside = octets[field.start : field.end]
        assert inside.lower().startswith(field.name.encode("ascii"))
        assert field.value in inside
        # One line, and what is folded under it.
        assert all(line.startswith((b" ", b"\t")) for line in inside.removesuffix(b"\n").split(b"\n")[1:])


@given(header_like)
def test_a_field_does_not_depend_on_what_comes_behind_the_section(octets: bytes):
    section = octets + b"\r\n\r\n"
    assert split_fields(section) == split_fields(section + b"B: 2\r\n")


CODECS = (
    b"utf-8 utf-16 utf-7 idna punycode unicode_escape raw_unicode_escape rot13 hex zlib_codec undefined"
    b" unknown-8bit mbcs iso2022_jp hz big5"
).split()
words = st.builds(
    lambda charset, encoding, text: b"=?" + charset + b"?" + encoding + b"?" + text + b"?=",
    st.one_of(
        st.sampled_from(CODECS),
        st.binary(max_size=6),
    ),
    st.sampled_from([b"q", b"b", b"Q", b"B", b"x"]),
    st.binary(max_size=20),
)


@given(st.lists(st.one_of(words, st.binary(max_size=10)), max_size=6).map(b" ".join))
@example(b"=?utf-8?b?7aCA?=")
@example("=?\N{LATIN SMALL LETTER U WITH DIAERESIS}?q?a?=".encode())
def test_any_value_can_be_decoded(value: bytes):
    assert isinstance(decode_value(value), str)
