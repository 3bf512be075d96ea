"""Invariant: any content has parts that can be asked for everything, lie within it, and end."""

from gateway.smtp.message import Message
from gateway.smtp.mime import MAX_DEPTH, MAX_PARTS, Part
from policies.testing import MemoryContent

SEEDS = [
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n\r\n"
    b"<a href='http://a.example/'>\r\n--b--\r\n",
    b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA0KDQp5",
    b'Content-Type: multipart/digest; boundary="=_1"\r\n\r\n--=_1\r\n\r\nSubject: x\r\n\r\ny\r\n--=_1--\r\n',
    b"Content-Disposition: attachment; filename*0*=utf-8''%C3; filename*1*=%BC;"
    b' filename="=?utf-8?q?a?="\r\n\r\n',
    b"Content-Type: text/plain; charset=iso-2022-jp\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=1B$B=",
]
WORDS = [
    *(
        b"Content-Type: ",
        b"multipart/mixed",
        b"multipart/digest",
        b"message/rfc822",
        b"text/html",
        b"charset=",
    ),
    *(b"Content-Transfer-Encoding: ", b"base64", b"quoted-printable", b"Content-Disposition: attachment"),
    *(
        b"; boundary=b",
        b"--b",
        b"--b--",
        b"--",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"; filename=",
        b"*0*=",
        b"utf-8''",
    ),
    *(b'"', b";", b"=", b"%41", b"QQ==", b"=C3", b"=?utf-8?b?", b"?=", b"\xff", b"\0", b"href=", b"http://a"),
    *(b"%PDF-", b"PK\3\4", b"MZ", b"<html>", b"utf-7", b"\\", b"../"),
]


def fuzz(octets: bytes) -> None:
    """A whole message; a part by itself is a message, too."""
    found = Message(MemoryContent(octets))
    assert 1 <= len(found.parts) <= MAX_PARTS
    assert len({part.number for part in found.parts}) == len(found.parts)
    for part in found.parts:
        _assert_is_sound(part, len(octets))
    assert all(url.partition("://")[2] for url in found.urls)
    assert found.mime_defects == tuple(dict.fromkeys(found.mime_defects))


def _assert_is_sound(part: Part, size: int) -> None:
    assert part.number.count(".") <= MAX_DEPTH
    assert 0 <= part.start <= part.end <= size
    # Nothing gets longer by being decoded.
    assert part.size == len(part.octets) <= part.end - part.start
    assert part.content_type.count("/") == 1
    assert part.content_type.isprintable()
    part.text.encode("utf-8")
    for name in part.file_names:
        assert name.isprintable()
        assert name
        assert not set(name) & {"/", "\\"}
        assert len(name) <= 255
    assert not part.is_truncated
