"""Invariant: in what goes on to the downstream, no receiver finds an end of data but the last octets."""

import re

from gateway.smtp.content import BareNewline, ContentReader, stuffed

SEEDS = [
    b"\0\0Subject: x\r\n\r\nHello\r\n.\r\n",
    b"\1\1a\n.\nMAIL FROM:<s@a.example>\r\n.\r\nQUIT\r\n",
    b"\1\2a\r\n\0.\r\nb\r\n.\r\n",
    b"\0\3a\r\n.\r\r\nb\r\n..\r\n.\r\n",
    b"\1\5\n\0\n.\r\0\n.\0\r\n.\r\n",
]
WORDS = [b"\r", b"\n", b".", b"\0", b"\r\n.\r\n", b"\r\n.", b"\n.\n", b"\r.\r", b"\0.\0", b"x", b" "]

# Whoever drops NULs, takes a bare CR or LF for a line end, or forgives a further CR.
_SOMEBODYS_END = re.compile(rb"(?:^|(?<=[\r\n]))\0*\.[\0\r]*[\r\n]")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def fuzz(octets: bytes) -> None:
    """The first two octets choose the mode and the size of the pieces."""
    mode = list(BareNewline)[octets[0] % 2] if octets else BareNewline.REJECT
    sent, size = octets[2:], max(octets[1] if len(octets) > 1 else 0, 1)
    whole, reader = _read(sent, mode, len(sent) or 1)
    pieces, by_pieces = _read(sent, mode, size)
    assert (pieces, by_pieces.at_end, by_pieces.rest) == (whole, reader.at_end, reader.rest)
    assert by_pieces.must_refuse == reader.must_refuse
    # The CRLF of DATA stands before it.
    end = (b"\r\n" + sent).find(b"\r\n.\r\n")
    assert reader.at_end == (end >= 0)
    assert not reader.at_end or reader.rest == sent[end + 3 :]
    if reader.at_end and not reader.must_refuse:
        _assert_is_one_message(whole, size)


def _read(sent: bytes, mode: BareNewline, size: int) -> tuple[bytes, ContentReader]:
    reader, content = ContentReader(mode), b""
    for at in range(0, len(sent), size):
        content += reader.feed(sent[at : at + size])
        if reader.at_end:
            reader.rest += sent[at + size :]
            break
    return content, reader


def _assert_is_one_message(content: bytes, size: int) -> None:
    wire = b"".join(stuffed(content[at : at + size] for at in range(0, len(content), size)))
    assert not _BARE.search(wire)
    ends = [found.end() for found in _SOMEBODYS_END.finditer(wire)]
    # CR and LF each end a line for somebody, so the true one may be found twice.
    assert ends
    assert all(each >= len(wire) - 1 for each in ends), ends
    again, reader = _read(wire, BareNewline.REJECT, len(wire))
    assert (reader.at_end, reader.must_refuse, reader.rest) == (True, False, b"")
    assert again == (content if content.endswith(b"\n") or not content else content + b"\r\n")
