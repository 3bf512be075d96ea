"""Invariant: a path names one mailbox, in the domain behind its last "@", to every reader."""

import re
import unicodedata

from gateway.smtp.address import MAX_PATH, Path, PathError, parse_forward_path, parse_reverse_path

SEEDS = [
    b"<>",
    b"<postmaster>",
    b"<u1@our.example>",
    b'<"a\\"b@c"@our.example> SIZE=1',
    b"<@a.example,@b.example:u1@our.example>",
    b"<u1@[192.0.2.1]>",
    b"<u1@[IPv6:2001:db8::1]>",
    b"<10@[.@]>",
    b"<u1@[x>,<x@victim.example]>",
    b"<u1%victim.example@our.example>",
    b"<u1@our.example>,<x@victim.example>",
    "<bj\u00f6rn@b\u00fccher.example>".encode(),
    "<u1\uff20victim.example@our.example>".encode(),
]
WORDS = [
    *(b"<", b">", b"@", b'"', b"\\", b",", b":", b" ", b"[", b"]", b".", b"-", b"_", b"%", b"!", b"(", b")"),
    *(b"u1", b"our.example", b"victim.example", b"postmaster", b"\0", b"\r", b"\n", b"\xc2\x85", b"\xff"),
    *(b"\xc3\xbc", b"\xe3\x80\x82", b"\xef\xbc\xa0", b"\xe2\x80\xa8", b"\xcc\x88"),
    b"IPv6:",
]


def fuzz(octets: bytes) -> None:
    """What stands behind `FROM:` or `TO:`."""
    for parse in (parse_reverse_path, parse_forward_path):
        try:
            path, rest = parse(octets)
        except PathError:
            continue
        assert octets.endswith(rest)
        assert octets.startswith(b"<")
        _assert_is_one_mailbox(path)
        assert parse(b"<%s>" % path.octets) == (path, b"")


def _assert_is_one_mailbox(path: Path) -> None:
    octets = path.octets
    kinds = {unicodedata.category(character) for character in octets.decode("utf-8")}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert len(octets) <= MAX_PATH
    if path.domain:
        assert octets.rpartition(b"@")[2] == path.domain.encode()
    unescaped = re.sub(rb"\\.", b"", octets)
    assert unescaped.count(b'"') in {0, 2}
    # Outside quotes there is one "@", and nothing that ends a path or begins another.
    outside = re.sub(rb'"[^"]*"', b"", unescaped)
    assert outside.count(b"@") == (1 if path.domain else 0)
    assert not re.search(rb"[<>,:;\s]", outside.partition(b"@")[0])
