"""Content in chunks: all of it is content, and it means what it would have meant behind DATA."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.smtp.content import BareNewline, ChunkReader, ContentReader, normalized, stuffed

NEXT = b"NOOP\r\n"


def read(chunks: list[bytes], mode: BareNewline, size: int = 1000) -> tuple[bytes, bool]:
    """The content of these chunks, each fed in pieces of `size` octets, and whether to refuse it."""
    reader, content = ChunkReader(mode), b""
    for number, chunk in enumerate(chunks, 1):
        reader.begin(len(chunk), is_last=number == len(chunks))
        fed, sent = 0, chunk + NEXT
        while not reader.at_end or not fed:
            assert reader.room is not None
            content += reader.feed(sent[fed : fed + size])
            fed += size
        assert reader.rest + sent[fed:] == NEXT
        assert reader.room == 0
    return content, reader.must_refuse


def behind_data(content: bytes, mode: BareNewline) -> tuple[bytes, bool]:
    """The same for content that came behind DATA."""
    reader = ContentReader(mode)
    return reader.feed(b"".join(stuffed([content]))), reader.must_refuse


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("mode", BareNewline)
@pytest.mark.parametrize(
    ("chunks", "content"),
    [
        ([b""], b""),
        ([b"", b"", b""], b""),
        ([b"a"], b"a\r\n"),
        ([b"a\r\n"], b"a\r\n"),
        ([b"a\r\n", b""], b"a\r\n"),
        ([b"a\r", b"\n"], b"a\r\n"),
        ([b"a\r", b"", b"\nb"], b"a\r\nb\r\n"),
        ([b"\r\n"], b"\r\n"),
        ([b".\r\n"], b".\r\n"),
        ([b"a\r\n.\r\n", b"..\r\n", b"."], b"a\r\n.\r\n..\r\n.\r\n"),
        ([b"a\0"], b"a\0\r\n"),
    ],
)
def test_chunks_are_put_together(chunks: list[bytes], content: bytes, mode: BareNewline, size: int):
    assert read(chunks, mode, size) == (content, False)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("chunks", "rewritten"),
    [
        ([b"a\n"], b"a\r\n"),
        ([b"a\r"], b"a\r\n"),
        ([b"a\r", b""], b"a\r\n"),
        ([b"a\r", b"b"], b"a\r\nb\r\n"),
        ([b"a\r", b"\r\n"], b"a\r\n\r\n"),
        ([b"a\r\n", b"\n.\n"], b"a\r\n\r\n.\r\n"),
    ],
)
def test_bare_newlines_are_found_across_chunks(chunks: list[bytes], rewritten: bytes, size: int):
    assert read(chunks, BareNewline.REJECT, size)[1]
    assert read(chunks, BareNewline.NORMALIZE, size) == (rewritten, False)


@pytest.mark.parametrize("mode", BareNewline)
@pytest.mark.parametrize("chunks", [[b"\0", b".", b"\r\n"], [b"a\r\n\0", b"\0."], [b"\0.\0"]])
def test_a_hidden_dot_is_found_across_chunks(chunks: list[bytes], mode: BareNewline):
    assert read(chunks, mode)[1]


def test_a_chunk_takes_no_more_than_was_announced():
    reader = ChunkReader(BareNewline.REJECT)
    reader.begin(3, is_last=False)
    assert (reader.feed(b"ab"), reader.at_end, reader.room) == (b"ab", False, 1)
    assert (reader.feed(b"cRSET\r\n"), reader.at_end, reader.rest) == (b"c", True, b"RSET\r\n")
    reader.begin(0, is_last=True)
    assert (reader.feed(b""), reader.at_end, reader.rest) == (b"\r\n", True, b"")


# Invariants

octets = st.lists(
    st.one_of(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\0", b"\0.", b"a"]), st.binary(max_size=4)),
    max_size=20,
).map(b"".join)
cuts = st.lists(st.integers(0, 80), max_size=8)
modes = st.sampled_from(BareNewline)


@given(octets, cuts, modes, st.integers(1, 9))
@example(b"a\r\n", [2], BareNewline.NORMALIZE, 1)
def test_chunks_and_pieces_make_no_difference(content: bytes, at: list[int], mode: BareNewline, size: int):
    edges = [0, *sorted(min(cut, len(content)) for cut in at), len(content)]
    chunks = [content[start:end] for start, end in itertools.pairwise(edges)]
    assert read(chunks, mode, size) == read([content], mode)


@given(octets.map(normalized), modes)
def test_it_is_what_data_would_have_been(content: bytes, mode: BareNewline):
    assert read([content], mode) == behind_data(content, mode)


@given(octets)
def test_a_bare_newline_is_refused_or_there_is_none(content: bytes):
    bare = content.replace(b"\r\n", b"")
    if b"\r" in bare or b"\n" in bare:
        assert read([content], BareNewline.REJECT)[1]
    rewritten, must_refuse = read([content], BareNewline.NORMALIZE)
    assert rewritten == normalized(rewritten)
    assert (rewritten, must_refuse) == behind_data(normalized(content), BareNewline.NORMALIZE)
