"""Invariant: any content has a header section of whole fields, and each can be shown to people."""

from gateway.smtp.header import border, decode_value, split_fields

SEEDS = [
    b"Subject: Hello\r\nFrom: a@b.example\r\n\r\nbody: x\r\n",
    b"From x Mon Jan 1\r\nX-Spam-Flag : NO\r\n folded\r\n\r\n",
    b"From x\r\n folded\r\nm :a",
    b" \r\nX-Spam-Flag: NO\r\n\r\n",
    b"Subject: =?utf-8?q?Gr=C3=BC?=\r\n =?utf-8?b?w59l?= =?idna?q?xn--a?= =?zlib_codec?b?eJw=?=\r\n\r\n",
    b"Subject: =?iso-2022-jp?b?GyRCRnxLXBsoQg==?= =?gb18030?q?=81=30?= =?utf-8*de?q?=FF?=\r\n\r\n",
]
WORDS = [
    *(b"Subject", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"From ", b"=?", b"?=", b"?q?"),
    *(b"?b?", b"utf-8", b"idna", b"punycode", b"unicode_escape", b"gbk", b"iso-2022-kr", b"hz", b"*", b"=C3"),
    *(b"=", b"_", b"w59l", b"\\x", b"?"),
]


def fuzz(octets: bytes) -> None:
    """Content, and the same as the value of a field."""
    fields = split_fields(octets)
    at = fields[0].start if fields else 0
    for field in fields:
        assert field.start == at
        at = field.end
        text = decode_value(field.value)
        assert len(text) <= 3 * 16_384
        text.encode("utf-8")
    decode_value(octets).encode("utf-8")
    # What is put on top stays on top, and becomes part of nothing.
    top = b"X-Ours: 1\r\n"
    ours, *others = split_fields(top + border(octets) + octets)
    assert (ours.name, ours.value) == ("x-ours", b" 1")
    names = [field.name for field in others if field.name != "x-mailbox-line"]
    assert names in ([field.name for field in fields], [])
