"""Content on the wire: one end of data, whatever is sent and however it arrives."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.smtp.content import BareNewline, ContentReader, normalized, stuffed

END = b"\r\n.\r\n"
HEADER_AND_BODY = b"From: <s@a.example>\r\nSubject: t\r\n\r\nbody"
SMUGGLED = b"MAIL FROM:<smug@a.example>\r\nRCPT TO:<u2@our.example>\r\nDATA\r\nSubject: SMUGGLED\r\n\r\nx"
EVERY_OTHER_OCTET = bytes(octet for octet in range(256) if octet not in b"\r\n")
# What some receiver somewhere takes for an end of data.
SOMEBODYS_END = re.compile(rb"(?:^|[\r\n])\x00*\.[\x00\r]*[\r\n]")

# An end of data with a bare CR or LF in it, none of which is one.
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\r\n",
    b"\r\r.\r\n",
    b"\n\r.\r\n",
    b"\n\r\n.\n\r\n",
    b"\n\x00.\n",
    b"\r.\x00\n",
]
# Content for us; an end of data for whoever drops NULs before looking for it.
HIDDEN_ENDS = [b"\r\n\x00.\r\n", b"\r\n\x00\x00.\x00\r\n", b"\r\n\x00\x00\x00\x00\x00\x00\x00.\r\n"]
# None of these is one either, but there is no bare CR or LF to refuse.
OTHER_DOT_LINES = {
    b"\r\n\x00..\r\n": b"\r\n\x00..\r\n",
    b"\r\n\x00.x\r\n": b"\r\n\x00.x\r\n",
    b"\r\nx\x00.\r\n": b"\r\nx\x00.\r\n",
    b"\r\n..\x00\r\n": b"\r\n.\x00\r\n",
    b"\r\n\x00\r\n": b"\r\n\x00\r\n",
    b"\r\n.\x00\r\n": b"\r\n\x00\r\n",
    b"\r\n. \r\n": b"\r\n \r\n",
    b"\r\n.\t\r\n": b"\r\n\t\r\n",
    b"\r\n.\x0b\r\n": b"\r\n\x0b\r\n",
    b"\r\n.\x0c\r\n": b"\r\n\x0c\r\n",
    b"\r\n..\r\n": b"\r\n.\r\n",
}


def read(octets: bytes, mode: BareNewline = BareNewline.REJECT, size: int = 1) -> tuple[bytes, ContentReader]:
    """The content, read in pieces of `size` octets up to the end of data, and the reader."""
    reader = ContentReader(mode)
    content = b""
    for at in range(0, len(octets), size):
        content += reader.feed(octets[at : at + size])
        if reader.at_end:
            reader.rest += octets[at + size :]
            break
    return content, reader


def on_the_wire(content: bytes) -> bytes:
    return b"".join(stuffed([content]))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("false_end", FALSE_ENDS)
def test_a_false_end_is_refused_at_the_true_one(false_end: bytes, size: int):
    sent = HEADER_AND_BODY + false_end + SMUGGLED + END + b"QUIT\r\n"
    _, reader = read(sent, BareNewline.REJECT, size)
    assert reader.at_end
    assert reader.must_refuse
    assert reader.rest == b"QUIT\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000])
@pytest.mark.parametrize("hidden_end", HIDDEN_ENDS)
@pytest.mark.parametrize("mode", BareNewline)
@pytest.mark.parametrize("before", [b"", HEADER_AND_BODY])
def test_a_dot_hidden_behind_nuls_is_refused(before: bytes, mode: BareNewline, hidden_end: bytes, size: int):
    sent = before + (hidden_end if before else hidden_end[2:]) + SMUGGLED + END + b"QUIT\r\n"
    _, reader = read(sent, mode, size)
    assert (reader.at_end, reader.must_refuse, reader.rest) == (True, True, b"QUIT\r\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("false_end", [end for end in FALSE_ENDS if b"\x00." not in end])
def test_a_false_end_is_content_where_line_ends_are_rewritten(false_end: bytes, size: int):
    sent = HEADER_AND_BODY + false_end + SMUGGLED + END + b"QUIT\r\n"
    content, reader = read(sent, BareNewline.NORMALIZE, size)
    assert (reader.at_end, reader.must_refuse, reader.rest) == (True, False, b"QUIT\r\n")
    assert content.startswith(HEADER_AND_BODY)
    assert content.endswith(SMUGGLED + b"\r\n")
    assert_nobody_finds_another_end(on_the_wire(content))


@pytest.mark.parametrize("mode", BareNewline)
@pytest.mark.parametrize(("dot_line", "meant"), OTHER_DOT_LINES.items())
def test_other_lines_with_a_dot_are_content(dot_line: bytes, meant: bytes, mode: BareNewline):
    content, reader = read(HEADER_AND_BODY + dot_line + SMUGGLED + END, mode)
    assert (reader.at_end, reader.must_refuse, reader.rest) == (True, False, b"")
    assert content == HEADER_AND_BODY + meant + SMUGGLED + b"\r\n"


@pytest.mark.parametrize("mode", BareNewline)
def test_a_stray_cr_before_the_true_end_does_not_hide_it(mode: BareNewline):
    content, reader = read(HEADER_AND_BODY + b"\r" + END + SMUGGLED, mode)
    assert (reader.at_end, reader.rest) == (True, SMUGGLED)
    assert reader.must_refuse is (mode is BareNewline.REJECT)
    if mode is BareNewline.NORMALIZE:
        assert content == HEADER_AND_BODY + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".From: x\r\n.\r\n", b"From: x\r\n"),
        (
            b".From: x\r\nSubject: t\r\n\r\n.a\r\n\r\n..x\r\n\r\n..\r\n\r\n.b\r\n.\r\n",
            b"From: x\r\nSubject: t\r\n\r\na\r\n\r\n.x\r\n\r\n.\r\n\r\nb\r\n",
        ),
        (b"foo.\r\n.\r\n", b"foo.\r\n"),
        (b"foo\r\n\r\n.\r\n", b"foo\r\n\r\n"),
        (b"a.b\r\n.c.\r\n.\r\n", b"a.b\r\nc.\r\n"),
        (b"....\r\n.\r\n", b"...\r\n"),
        (EVERY_OTHER_OCTET + END, EVERY_OTHER_OCTET + b"\r\n"),
    ],
)
@pytest.mark.parametrize("mode", BareNewline)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_dots_are_taken_out_once(sent: bytes, content: bytes, mode: BareNewline, size: int):
    received, reader = read(sent + b"NOOP\r\n", mode, size)
    assert (received, reader.rest) == (content, b"NOOP\r\n")


def test_without_an_end_there_is_none():
    for octets in (b"", b".", b".\r", b"x", b"x\r\n", b"x\r\n.", b"x\r\n.\r", b"x\n.\n", b"\r\n.\n"):
        assert not read(octets)[1].at_end


@pytest.mark.parametrize("length", [4096, 8192, 16_384, 65_536, 131_072])
@pytest.mark.parametrize("offset", range(-3, 4))
def test_a_dot_at_the_edge_of_a_piece_is_a_dot_like_others(length: int, offset: int):
    content = b"x" * (length + offset - 2) + b"\r\n.dot\r\n"
    sent = on_the_wire(content)
    for size in (length, 4096):
        assert read(sent, size=size)[0] == content
    edges = [content[:length], content[length:]]
    assert b"".join(stuffed(edges)) == sent


@pytest.mark.parametrize("length", [1001, 1002, 65_536])
def test_a_long_line_has_no_line_starts_inside(length: int):
    content, reader = read(b"a" * length + b".\r\n" + SMUGGLED + END, size=length)
    assert content == b"a" * length + b".\r\n" + SMUGGLED + b"\r\n"
    assert not reader.must_refuse


@pytest.mark.parametrize(
    ("octets", "rewritten"),
    [
        (b"", b""),
        (b"a\r\nb", b"a\r\nb"),
        (b"a\nb\rc", b"a\r\nb\r\nc"),
        (b"\n\n", b"\r\n\r\n"),
        (b"\r\r\n", b"\r\n\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"\r\n\n\r\n", b"\r\n\r\n\r\n"),
    ],
)
def test_every_bare_newline_becomes_one_crlf(octets: bytes, rewritten: bytes):
    assert normalized(octets) == rewritten
    assert normalized(rewritten) == rewritten


def test_a_small_message_goes_out_in_one_piece():
    assert list(stuffed([b"From: x\r\n\r\n", b"body\r\n"])) == [b"From: x\r\n\r\nbody\r\n.\r\n"]
    assert list(stuffed([])) == [b".\r\n"]
    assert list(stuffed([b"no end"])) == [b"no end\r\n.\r\n"]


def test_a_large_one_goes_out_in_several():
    content = [b"x" * 998 + b"\r\n"] * 1000
    pieces = list(stuffed(content))
    assert len(pieces) > 10
    assert b"".join(pieces) == b"".join(content) + b".\r\n"


# Invariants

octets = st.lists(
    st.one_of(
        st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"\r\n.", b"\0", b"\0.", b"a", END]),
        st.binary(max_size=4),
    ),
    max_size=30,
).map(b"".join)
modes = st.sampled_from(BareNewline)


def in_fragments(sent: bytes, cuts: list[int], mode: BareNewline) -> tuple[bytes, bool, bool, bytes]:
    reader, content = ContentReader(mode), b""
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    for start, end in itertools.pairwise(edges):
        content += reader.feed(sent[start:end])
        if reader.at_end:
            return content, True, reader.must_refuse, reader.rest + sent[end:]
    return content, False, reader.must_refuse, b""


@given(octets, st.lists(st.integers(0, 120), max_size=12), modes)
@example(b"\r\n.\r\r\n.\r\n", [6], BareNewline.NORMALIZE)
@example(b"a\r\n\n", [2, 3], BareNewline.NORMALIZE)
def test_fragments_make_no_difference(sent: bytes, cuts: list[int], mode: BareNewline):
    assert in_fragments(sent, cuts, mode) == in_fragments(sent, [], mode)


@given(octets, modes)
def test_what_is_handed_on_has_no_bare_newline(sent: bytes, mode: BareNewline):
    content, reader = read(sent + END, mode)
    assert reader.at_end
    if not reader.must_refuse:
        assert_nobody_finds_another_end(on_the_wire(content))


@given(octets)
def test_a_bare_newline_is_refused_or_there_is_none(sent: bytes):
    taken = sent + END
    taken = taken[: (b"\r\n" + taken).index(END) + 3]
    bare = taken.replace(b"\r\n", b"")
    has_bare = b"\r" in bare or b"\n" in bare
    content, reader = read(sent + END, BareNewline.REJECT)
    assert reader.must_refuse is (has_bare or has_hidden_dot(content))
    content, reader = read(sent + END, BareNewline.NORMALIZE)
    assert reader.must_refuse is has_hidden_dot(content)


@given(octets.map(normalized), st.lists(st.integers(0, 120), max_size=12), modes)
def test_reading_undoes_stuffing(content: bytes, cuts: list[int], mode: BareNewline):
    content = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    sent = b"".join(stuffed(content[start:end] for start, end in itertools.pairwise(edges)))
    assert sent == on_the_wire(content)
    read_back = in_fragments(sent + b"QUIT\r\n", cuts, mode)
    assert read_back == (content, True, has_hidden_dot(content), b"QUIT\r\n")


def has_hidden_dot(content: bytes) -> bool:
    return any(line.startswith(b"\0") and line.strip(b"\0") == b"." for line in content.split(b"\r\n")[:-1])


def assert_nobody_finds_another_end(wire: bytes) -> None:
    """However lenient the receiver: one end of data, at the end, and no CR or LF alone."""
    assert wire == b".\r\n" or wire.endswith(END)
    found = [match.end() for match in SOMEBODYS_END.finditer(wire)]
    assert found in ([len(wire) - 1], [len(wire)])
    assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
