"""The MIME structure as mail clients will see it; what is malformed is a defect, never an error."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.message import Message
from gateway.smtp.mime import MAX_DEPTH, MAX_OCTETS, MAX_PARTS, Part, harmless_name
from policies.testing import MemoryContent


def message(*lines: str | bytes) -> Message:
    octets = [line.encode() if isinstance(line, str) else line for line in lines]
    return Message(MemoryContent(b"\r\n".join(octets)))


def only(*lines: str | bytes) -> Part:
    (part,) = message(*lines).parts
    return part


def tree(found: Message) -> list[tuple[str, str]]:
    return [(part.number, part.content_type) for part in found.parts]


LETTER = message(
    "Subject: x",
    'Content-Type: multipart/mixed; boundary="=_1"',
    "",
    "For those without MIME",
    "--=_1",
    "Content-Type: multipart/alternative; boundary=2",
    "",
    "--2",
    "",
    "See http://a.example/.",
    "--2",
    "Content-Type: text/HTML; charset=ISO-8859-1",
    "Content-Transfer-Encoding: Quoted-Printable",
    "",
    '<a href=3D"http://b.example/">=FC</a>',
    "--2--",
    "--=_1",
    "Content-Type: application/octet-stream; name=a.zip",
    "Content-Disposition: attachment; filename=b.zip",
    "Content-Transfer-Encoding: base64",
    "",
    "UEsDBA==",
    "--=_1--",
    "Behind it",
)


def test_parts_in_order_of_occurrence():
    assert tree(LETTER) == [
        ("1", "multipart/mixed"),
        ("1.1", "multipart/alternative"),
        ("1.1.1", "text/plain"),
        ("1.1.2", "text/html"),
        ("1.2", "application/octet-stream"),
    ]
    assert [part.is_container for part in LETTER.parts] == [True, True, False, False, False]
    assert LETTER.mime_defects == ()


def test_what_a_part_says_of_itself():
    *_, text, page, file = LETTER.parts
    assert (text.charset, text.encoding, text.disposition, text.file_name) == (None, "", None, None)
    assert text.octets == b"See http://a.example/."
    assert (page.charset, page.encoding) == ("iso-8859-1", "quoted-printable")
    assert page.text == '<a href="http://b.example/">ü</a>'
    assert page.header("content-TYPE") == "text/HTML; charset=ISO-8859-1"
    assert page.header("Subject") is None
    assert (file.disposition, file.file_name, file.file_names) == ("attachment", "b.zip", ("b.zip", "a.zip"))
    assert (file.octets, file.size, file.true_type) == (b"PK\3\4", 4, "application/zip")
    assert file.digest == hashlib.sha256(b"PK\3\4").hexdigest()


def test_links_of_text_and_html():
    assert LETTER.urls == ("http://a.example/", "http://b.example/")
    assert LETTER.parts[4].urls == ()
    assert only("", "<html><a href='http://c.example/'>").urls == ("http://c.example/",)


def test_a_message_without_mime_is_one_part_of_plain_text():
    part = only("Subject: x", "", "Hello", "")
    assert (part.number, part.content_type, part.text) == ("1", "text/plain", "Hello\r\n")
    assert only(b"").octets == b""


def test_a_message_in_a_message():
    found = message(
        "Content-Type: message/rfc822",
        "",
        "Subject: inner",
        "Content-Type: multipart/digest; boundary=b",
        "",
        "--b",
        "",
        "Subject: innermost",
        "",
        "Hello",
        "--b--",
    )
    assert tree(found) == [
        ("1", "message/rfc822"),
        ("1.1", "multipart/digest"),
        ("1.1.1", "message/rfc822"),
        ("1.1.1.1", "text/plain"),
    ]
    assert [part.header("subject") for part in found.parts] == [None, "inner", None, "innermost"]
    assert found.parts[-1].text == "Hello"


def test_a_message_that_was_encoded_is_read_all_the_same():
    inner = b"Subject: inner\r\nContent-Type: text/html\r\n\r\n<html>"
    found = message(
        "Content-Type: message/rfc822",
        "Content-Transfer-Encoding: base64",
        "",
        base64.encodebytes(inner),
    )
    assert tree(found) == [("1", "message/rfc822"), ("1.1", "text/html")]
    assert (found.parts[1].header("subject"), found.parts[1].octets) == ("inner", b"<html>")
    assert found.mime_defects == ("encoded-message",)


MULTIPART = "Content-Type: multipart/mixed; boundary=b"


@pytest.mark.parametrize(
    ("lines", "defects", "types"),
    [
        (["Content-Type: multipart/mixed", "", "--b", "", "x"], ("no-boundary",), ["multipart/mixed"]),
        (['Content-Type: multipart/mixed; boundary=""', "", "x"], ("no-boundary",), ["multipart/mixed"]),
        ([MULTIPART, "", "x"], ("no-delimiter",), ["multipart/mixed"]),
        ([MULTIPART, ""], ("no-delimiter",), ["multipart/mixed"]),
        ([MULTIPART, "", "--b", "", "x"], ("no-close-delimiter",), ["multipart/mixed", "text/plain"]),
        ([MULTIPART, "", "--b--"], (), ["multipart/mixed"]),
        ([MULTIPART, "", "--bb", "", "--b x", "", " --b"], ("no-delimiter",), ["multipart/mixed"]),
        ([MULTIPART, "", "--b \t", "", "x", "--b-- "], (), ["multipart/mixed", "text/plain"]),
        ([MULTIPART, "", "--b", "--b--"], (), ["multipart/mixed", "text/plain"]),
        (
            [MULTIPART, "Content-Transfer-Encoding: base64", "", "--b", "", "x", "--b--"],
            ("encoded-multipart",),
            ["multipart/mixed", "text/plain"],
        ),
        (["Content-Type: text", "", "x"], ("bad-content-type",), ["text/plain"]),
        (["Content-Type: a/b/c", "", "x"], ("bad-content-type",), ["text/plain"]),
        (["Content-Type: \xff/\xfe", "", "x"], ("bad-content-type",), ["text/plain"]),
        (["Content-Type: ", "", "x"], (), ["text/plain"]),
        (["Content-Type: a/b", "Content-Type: c/d", "", "x"], ("repeated-field",), ["a/b"]),
        (["Content-Transfer-Encoding: rot13", "", "x"], ("bad-transfer-encoding",), ["text/plain"]),
        (["Content-Transfer-Encoding: base64", "", "!!!!"], ("bad-base64",), ["text/plain"]),
        (["Subject: x", "no field, no empty line"], ("no-empty-line",), ["text/plain"]),
        (["no field"], ("no-empty-line",), ["text/plain"]),
        ([MULTIPART, "", "--b", "x", "--b--"], ("no-empty-line",), ["multipart/mixed", "text/plain"]),
        (["Content-Type: message/rfc822", ""], (), ["message/rfc822", "text/plain"]),
    ],
)
def test_what_is_malformed_is_named(lines: list[str], defects: tuple[str, ...], types: list[str]):
    found = message(*lines)
    assert found.mime_defects == defects
    assert [part.content_type for part in found.parts] == types


def test_lines_may_end_in_a_bare_line_feed():
    octets = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n\ny\n--b--\n"
    assert [part.octets for part in Message(MemoryContent(octets)).parts[1:]] == [b"x", b"y"]


def test_an_outer_delimiter_ends_what_is_within():
    found = message(
        "Content-Type: multipart/mixed; boundary=out",
        "",
        "--out",
        "Content-Type: multipart/mixed; boundary=in",
        "",
        "--in",
        "",
        "never closed",
        "--out",
        "",
        "next",
        "--out--",
    )
    assert [part.number for part in found.parts] == ["1", "1.1", "1.1.1", "1.2"]
    assert found.parts[3].text == "next"
    assert found.mime_defects == ("no-close-delimiter",)


@pytest.mark.parametrize(
    ("charset", "octets", "text"),
    [
        ("utf-8", b"\xc3\xbc", "ü"),
        ("utf-8", b"\xfc", "ü"),
        ("koi8-r", b"\xc1", "а"),
        ("unheard-of", b"\xc3\xbc", "ü"),
        ("idna", b"xn--a", "xn--a"),
        ("iso-2022-jp", b"\x1b$B\xff", "\x1b$Bÿ"),
    ],
)
def test_text_is_read_by_its_charset_or_the_likeliest(charset: str, octets: bytes, text: str):
    assert only(f"Content-Type: text/plain; charset={charset}", "", octets).text == text


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\x\\y.exe", "C:_x_y.exe"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("a\0b\r\nc", "a_b__c"),
        ("evil.exe. . ", "evil.exe"),
        ("  a ", "a"),
        ("...", ""),
        ("\udcff", "_"),
        ("a" * 300 + ".exe", "a" * 127 + "\u2026" + "a" * 123 + ".exe"),
    ],
)
def test_a_file_name_does_no_harm(name: str, seen: str):
    assert harmless_name(name) == seen


def test_a_large_message_is_looked_at_up_to_a_limit():
    found = message(
        MULTIPART,
        "",
        "--b",
        "Content-Transfer-Encoding: base64",
        "",
        b"QUJD" * MAX_OCTETS,
        "--b",
        "",
        "never seen",
        "--b--",
    )
    assert [part.is_truncated for part in found.parts] == [True, True]
    assert found.mime_defects == ()
    assert MAX_OCTETS // 4 * 3 - 100 < found.parts[1].size < MAX_OCTETS // 4 * 3
    assert len(found.parts_within(found.size)) == 3
    assert not any(part.is_truncated for part in LETTER.parts)


def test_a_long_header_section_hides_no_part():
    found = message(*["A: " + "x" * 900] * 1100, MULTIPART, "", "--b", "", "found", "--b--")
    assert found.parts[1].text == "found"


def test_there_is_an_end_to_parts():
    found = message(MULTIPART, "", *["--b\r\n"] * (2 * MAX_PARTS))
    assert len(found.parts) == MAX_PARTS
    assert "too-many-parts" in found.mime_defects


def test_there_is_an_end_to_parts_of_parts():
    lines = [MULTIPART, ""]
    for number in range(2 * MAX_PARTS):
        lines += ["--b", f"Content-Type: multipart/mixed; boundary={number}", "", f"--{number}", "", "x"]
    assert len(message(*lines).parts) == MAX_PARTS


def test_there_is_an_end_to_depth():
    found = message(*["Content-Type: message/rfc822", ""] * (2 * MAX_DEPTH))
    assert [part.number.count(".") for part in found.parts] == list(range(MAX_DEPTH + 1))
    assert "too-deep" in found.mime_defects


@pytest.mark.parametrize(
    "filling",
    [
        b"\n--b ",
        b"--b",
        b"\r\n--b\r\n\r\n",
        b"\n--b" + b" " * 1000,
        b"-",
        b"--b\r\nA: b",
        b"Content-Type: message/rfc822\r\n\r\n",
    ],
)
def test_nothing_is_looked_through_twice(filling: bytes):
    """Quadratic, this would take hours."""
    octets = MULTIPART.encode() + b"\r\n\r\n" + filling * (MAX_OCTETS // len(filling))
    assert len(Message(MemoryContent(octets)).parts) <= MAX_PARTS


_PIECES = st.one_of(
    st.sampled_from(
        [
            *(b"\r\n", b"\n", b"--b", b"--b--", b"--b\r\n", MULTIPART.encode() + b"\r\n\r\n", b"\r\n\r\n"),
            *(
                b"Content-Type: message/rfc822\r\n",
                b"Content-Transfer-Encoding: base64\r\n",
                b"QQ==",
                b"=C3=",
            ),
            *(
                b"Content-Disposition: attachment; filename*0*=utf-8''%FF;filename=",
                b"charset=utf-7",
                b"\xff",
            ),
            *(b"Content-Type: text/html; charset=", b"<a href='http://x", b"boundary=", b'"', b";", b" "),
        ]
    ),
    st.binary(max_size=4),
)


@given(st.lists(_PIECES, max_size=30).map(b"".join))
def test_any_octets_have_parts(octets: bytes):
    found = Message(MemoryContent(octets))
    assert found.parts[0].number == "1"
    for part in found.parts:
        assert part.size == len(part.octets)
        assert len(part.digest) == 64
        part.text.encode("utf-8")
        assert part.true_type is None or "/" in part.true_type
        assert all(name.isprintable() and "/" not in name for name in part.file_names)
    assert all(defect.replace("-", "").isalnum() for defect in found.mime_defects)
    assert len(found.urls) <= 1000
