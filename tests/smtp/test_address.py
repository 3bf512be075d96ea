"""Paths: the octets that are judged are the octets that were received, or there is no path."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.smtp.address import (
    MAX_PATH,
    NULL_PATH,
    Path,
    PathError,
    parse_address,
    parse_forward_path,
    parse_reverse_path,
)
from gateway.smtp.idn import MAX_DOMAIN, to_ascii

PARSERS = (parse_forward_path, parse_reverse_path)


@pytest.mark.parametrize(
    ("octets", "local_part", "domain"),
    [
        (b"<a@b.example>", "a", "b.example"),
        (b"<Anna.Berg@OUR.Example>", "Anna.Berg", "OUR.Example"),
        (b"<u1+tag=x/y@our.example>", "u1+tag=x/y", "our.example"),
        (b"<!#$%&'*+/=?^_`{|}~-@our.example>", "!#$%&'*+/=?^_`{|}~-", "our.example"),
        (b'<"u1"@our.example>', '"u1"', "our.example"),
        (b'<"a b"@our.example>', '"a b"', "our.example"),
        (b'<""@our.example>', '""', "our.example"),
        (b'<"a\\"b<>;,"@a.example>', '"a\\"b<>;,"', "a.example"),
        (b'<"a@b"@our.example>', '"a@b"', "our.example"),
        (b'<"a\\ b"@our.example>', '"a\\ b"', "our.example"),
        (b"<a@[192.0.2.1]>", "a", "[192.0.2.1]"),
        (b"<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]"),
        (b"<a@under_score.example>", "a", "under_score.example"),
        (b"<a@localhost>", "a", "localhost"),
        (b"<a@1.2.3.4>", "a", "1.2.3.4"),
        (b"<%s@our.example>" % (b"l" * 64), "l" * 64, "our.example"),
        (b"<\xc3\xbc@a.example>", "ü", "a.example"),
        (b"<u\xcc\x88@a.example>", "u\u0308", "a.example"),
        (b'<"j \xc3\xbc \\""@a.example>', '"j ü \\""', "a.example"),
        ("<faß.straße@our.example>".encode(), "faß.straße", "our.example"),
        ("<χρήστης@παράδειγμα.example>".encode(), "χρήστης", "παράδειγμα.example"),
        ("<用户@例子.广告>".encode(), "用户", "例子.广告"),
        ("<x@BÜCHER.example>".encode(), "x", "BÜCHER.example"),
        ("<😀@our.example>".encode(), "😀", "our.example"),
        ("<a\u200cb@our.example>".encode(), "a\u200cb", "our.example"),
        (b"<%s@our.example>" % (b"l" * 256), "l" * 256, "our.example"),
    ],
)
def test_a_mailbox_is_kept_as_received(octets: bytes, local_part: str, domain: str):
    for parse in PARSERS:
        assert parse(octets) == (Path(local_part, domain), b"")
        assert b"<%s>" % parse(octets)[0].octets == octets


@pytest.mark.parametrize(
    "octets",
    [
        # Encoded-words are never decoded: these are malformed, or the atoms they are written as.
        b"<=?utf-8?q?a=0d=0aRCPT TO=3a=3cx=40victim.example=3e?=@our.example",
        b"<=?utf-7?q?a+AA0ACg-?=@our.example,>",
        # Control octets, quoted or not
        b'<"a\\\rb"@our.example>',
        b'<"a\rb"@our.example>',
        b'<"a\\\nb"@our.example>',
        b'<"a\\\x00b"@our.example>',
        b"<u1@our.example\r>",
        b"<u1@our.example\n>",
        b"<u1@our.example\x00@victim.example>",
        b"<x@victim.example\x00@our.example>",
        b"<u1\x00@our.example>",
        b"<u1@our.example\x7f>",
        b"<\tu1@our.example>",
        # Several addresses in one
        b"<nobody@victim.example@our.example>",
        b"<nobody@victim.example@[127.0.0.1]>",
        b"<u1@our.example,x@victim.example>",
        b"<<u1@our.example>>",
        b"<u1@our.example",
        b"u1@our.example",
        b"u1@our.example>",
        b"User <u1@our.example>",
        b" <u1@our.example>",
        # Shapes that are none
        b"",
        b"<",
        b"<@>",
        b"<@our.example>",
        b"<u1@>",
        b"<u1>",
        b"<victim.example!nobody>",
        b'<"nobody%victim.example">',
        b"<.u1@our.example>",
        b"<u1.@our.example>",
        b"<u..1@our.example>",
        b"<u 1@our.example>",
        b'<"u1@our.example>',
        b'<"u"1"@our.example>',
        b'<u"1"@our.example>',
        b"<u(comment)@our.example>",
        b"<x@.our.example>",
        b"<x@our.example..>",
        b"<x@our.example.>",
        b"<x@our..example>",
        b"<x@-our.example>",
        b"<x@our-.example>",
        b"<a@xn--->",
        b"<x@our example>",
        b"<x@[192.0.2.1>",
        b"<x@192.0.2.1]>",
        b"<x@[]>",
        b"<x@[a]b]>",
        b"<x@our.example[1]>",
        b"<@our.example:>",
        b"<@:x@our.example>",
        b"<@a.example,x@our.example>",
        b"<@a.example,:x@our.example>",
        # Beyond ASCII; nothing is normalised into an "@"
        b"<henry\xe2\x85\xa3@our.example>",
        b"<x\xef\xbc\xa0victim.example@our.example>",
        b"<x@our\xef\xbc\x8eexample>",
        b"<x@our\xe3\x80\x82example>",
        "<faß@\u212aunde.example>".encode(),
        "<\u037e@our.example>".encode(),
        "<a\u00a0b@our.example>".encode(),
        "<a\u2026b@our.example>".encode(),
        # Overlong, surrogates, beyond Unicode, broken off
        b"<\xc0\xaf@a.example>",
        b"<\xc1\xbf@a.example>",
        b"<\xe0\x80\xaf@a.example>",
        b"<\xf0\x80\x80\xaf@a.example>",
        b"<\xed\xa0\x80@a.example>",
        b"<\xf4\x90\x80\x80@a.example>",
        b"<\xf5\x80\x80\x80@a.example>",
        b"<\xc3@a.example>",
        b"<\xbc@a.example>",
        b'<"\xc3"@a.example>',
        b'<"\\\xc3\xbc"@a.example>',
        # Control characters and line ends beyond ASCII
        b"<a\xc2\x80@a.example>",
        b"<a\xc2\x85@a.example>",
        b"<a\xc2\x9f@a.example>",
        b"<a\xe2\x80\xa8@a.example>",
        b'<"a\xe2\x80\xa9"@a.example>',
        # Domains that would become other ones
        "<x@straße.example>".encode(),
        "<x@bu\u0308cher.example>".encode(),
        "<x@b\u00adü.example>".encode(),
        "<x@b\u200dü.example>".encode(),
        "<x@xn--ü.example>".encode(),
        "<x@א1.example>".encode(),
        "<x@-ü.example>".encode(),
        "<x@ü-.example>".encode(),
        "<x@{}.example>".format("ü" * 64).encode(),
        "<x@{}.example>".format("ü" * 63).encode(),
        "<x@[ü]>".encode(),
        "<@ü.example:x@our.example>".encode(),
        # Over the limits
        b"<x@%s>" % (b"a" * 64),
        b"<x@%s.b>" % b".".join([b"a" * 63] * 4),
        b"<%s@our.example>" % (b"l" * MAX_PATH),
        # Which may stand in a literal (RFC 5321 section 4.1.3), and end the path for somebody else
        b"<u1@[x@y]>",
        b"<u1@[x>y]>",
        b"<u1@[x,y]>",
    ],
)
def test_what_is_no_path_is_refused(octets: bytes):
    for parse in PARSERS:
        with pytest.raises(PathError) as refusal:
            parse(octets)
        assert re.fullmatch(r"[ -~]{1,80}", str(refusal.value))


@pytest.mark.parametrize(
    ("octets", "local_part"),
    [
        (b"<=?utf-8?q?x=40victim.example=3e_?=@our.example>", "=?utf-8?q?x=40victim.example=3e_?="),
        (
            b"<=?utf-8?q?a=0d=0aDATA=0d=0a?=@our.example>",
            "=?utf-8?q?a=0d=0aDATA=0d=0a?=",
        ),
        (b"<nobody%victim.example@our.example>", "nobody%victim.example"),
        (b"<victim.example!nobody@our.example>", "victim.example!nobody"),
        (b'<"nobody@victim.example"@our.example>', '"nobody@victim.example"'),
    ],
)
def test_what_looks_like_another_address_stays_a_local_part(octets: bytes, local_part: str):
    assert parse_forward_path(octets) == (Path(local_part, "our.example"), b"")


@pytest.mark.parametrize(
    ("octets", "rest"),
    [
        (b"<u1@our.example> SIZE=1", b" SIZE=1"),
        (b"<u1@our.example>,<x@victim.example>", b",<x@victim.example>"),
        (b"<u1@our.example>evil", b"evil"),
        (b"<u1@our.example>\r", b"\r"),
        (b"<u1@our.example>>", b">"),
    ],
)
def test_what_stands_behind_a_path_is_handed_back(octets: bytes, rest: bytes):
    for parse in PARSERS:
        assert parse(octets) == (Path("u1", "our.example"), rest)


@pytest.mark.parametrize(
    "octets",
    [
        b"<@a.example:u1@our.example>",
        b"<@a.example,@b.example:u1@our.example>",
    ],
)
def test_a_source_route_is_dropped(octets: bytes):
    assert parse_forward_path(octets) == (Path("u1", "our.example"), b"")


def test_a_source_route_does_not_hide_the_mailbox():
    path, _ = parse_forward_path(b"<@our.example:nobody@victim.example>")
    assert path.domain == "victim.example"


def test_the_null_path_is_a_sender_and_no_recipient():
    assert parse_reverse_path(b"<> SIZE=1") == (NULL_PATH, b" SIZE=1")
    assert NULL_PATH.is_null
    assert (str(NULL_PATH), NULL_PATH.octets) == ("", b"")
    with pytest.raises(PathError):
        parse_forward_path(b"<>")


@pytest.mark.parametrize("spelled", ["postmaster", "Postmaster", "POSTMASTER"])
def test_postmaster_needs_no_domain(spelled: str):
    path, rest = parse_forward_path(b"<%s>" % spelled.encode())
    assert (path, rest) == (Path(spelled, ""), b"")
    assert path.is_postmaster
    assert not path.is_null
    assert str(path) == spelled


@pytest.mark.parametrize("octets", [b"<postmaster>", b"<abuse>"])
def test_a_sender_needs_one(octets: bytes):
    with pytest.raises(PathError):
        parse_reverse_path(octets)


@pytest.mark.parametrize(
    ("local_part", "is_postmaster"),
    [
        ("postmaster", True),
        ("PostMaster", True),
        ("postmasters", False),
        ("", False),
        ('"postmaster"', False),
    ],
)
def test_who_is_postmaster(local_part: str, is_postmaster: bool):
    assert Path(local_part, "our.example").is_postmaster is is_postmaster


def test_the_longest_of_everything_fits():
    domain = b".".join([b"a" * 63] * 4)
    assert len(domain) == MAX_DOMAIN
    local_part = b"l" * (MAX_PATH - MAX_DOMAIN - 1)
    assert parse_forward_path(b"<%s@%s>" % (local_part, domain))[0].octets == local_part + b"@" + domain
    with pytest.raises(PathError, match="too long"):
        parse_forward_path(b"<l%s@%s>" % (local_part, domain))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", NULL_PATH),
        ("a@b.example", Path("a", "b.example")),
        ("postmaster", Path("postmaster", "")),
        ("a@[192.0.2.1]", Path("a", "[192.0.2.1]")),
        ("ü@b.example", Path("ü", "b.example")),
    ],
)
def test_people_write_addresses_without_brackets(text: str, path: Path):
    assert parse_address(text) == path


@pytest.mark.parametrize(
    "text", ["a", "<a@b>", "a@b> <c@d", "ü＠b.example", "a@\ud800", "a@b\r\n", " a@b", ">"]
)
def test_what_people_write_can_be_wrong(text: str):
    with pytest.raises(PathError):
        parse_address(text)


# Invariants

NASTY = st.sampled_from(
    [
        b"<",
        b">",
        b"@",
        b'"',
        b"\\",
        b"\r",
        b"\n",
        b"\0",
        b"\t",
        b" ",
        b",",
        b":",
        b".",
        b"a",
        b"[",
        b"]",
        b"\xff",
        b"\xc3\xbc",
        b"\xc3",
        b"\xbc",
        b"\xef\xbc\xa0",
        b"\xe3\x80\x82",
        b"\xef\xbc\x8e",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\xed\xa0\x80",
        b"\xc0\xae",
        b"\xcc\x88",
        b"xn--",
    ]
)
octets = st.one_of(st.binary(max_size=80), st.lists(NASTY, max_size=14).map(b"".join))


@given(octets.map(lambda inner: b"<" + inner + b">"))
@example(b"<@a:b@c>")
def test_a_path_is_always_safe_to_send(argument: bytes):
    for parse in PARSERS:
        try:
            path, rest = parse(argument)
        except PathError:
            continue
        assert argument.endswith(rest)
        assert all(octet >= 32 and octet != 127 for octet in path.octets)
        assert_means_one_thing(path)
        # Whoever reads the octets back, reads the same mailbox, and no source route before it.
        assert parse(b"<%s>" % path.octets) == (path, b"")
        assert argument[: len(argument) - len(rest)].endswith(path.octets + b">")


@given(st.text(max_size=20), st.text(max_size=20))
@example("ü", "bücher.example")
@example("a", "K.example")
def test_an_address_beyond_ascii_is_kept_or_refused(local_part: str, domain: str):
    octets = f"<{local_part}@{domain}>".encode("utf-8", "surrogatepass")
    try:
        path, rest = parse_forward_path(octets)
    except PathError:
        return
    assert b"<%s>" % path.octets + rest == octets
    assert_means_one_thing(path)


def assert_means_one_thing(path: Path) -> None:
    """Whoever decodes or normalises it, finds no ASCII where there was none, and the same domain."""
    text = path.octets.decode("utf-8")
    assert text == str(path)
    assert path.is_ascii is text.isascii()
    for character in text:
        if not character.isascii():
            assert not any(map(str.isascii, unicodedata.normalize("NFKC", character)))
            assert unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
    if not path.domain.isascii():
        spelled = to_ascii(path.domain)
        assert spelled.count(".") == path.domain.count(".")
        assert spelled.encode("ascii").decode("idna") == path.domain.lower()
        assert to_ascii(spelled) == spelled
