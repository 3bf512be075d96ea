"""Transfer encodings, read as leniently as mail clients do."""

import base64

import pytest

from gateway.smtp.transfer_encoding import decode, is_known, is_plain


@pytest.mark.parametrize(
    ("written", "octets", "is_whole"),
    [
        (b"aGVsbG8=", b"hello", True),
        (b"aGVs\r\nbG8=\r\n", b"hello", True),
        (b" aG Vs\tbG8= ", b"hello", True),
        (b"", b"", True),
        (b"aGVsbG8", b"hello", False),
        (b"aGVsbG8==", b"hello", False),
        (b"aGVsbG8=\r\n-- \r\nlist", b"hello" + base64.b64decode(b"list"), False),
        (b"aGVs!bG8=", b"hello", False),
        (b"aG==aGVs", b"hhel", False),
        (b"a", b"", False),
        (b"====", b"", True),
        (b"\xff\xfe", b"", False),
    ],
)
def test_base64(written: bytes, octets: bytes, is_whole: bool):
    assert decode("base64", written) == (octets, is_whole)


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        (b"a=3Db=\r\nc", b"a=bc"),
        (b"a=3db", b"a=b"),
        (b"a=ZZ=", b"a=ZZ"),
        (b"a_b", b"a_b"),
        (b"=", b""),
    ],
)
def test_quoted_printable(written: bytes, octets: bytes):
    assert decode("quoted-printable", written)[0] == octets


@pytest.mark.parametrize("encoding", ["", "7bit", "8bit", "binary", "x-unheard-of"])
def test_everything_else_stands_for_itself(encoding: str):
    assert decode(encoding, b"a=3D") == (b"a=3D", True)
    assert is_plain(encoding)
    assert is_known(encoding) == (encoding != "x-unheard-of")


def test_padding_again_and_again_costs_little():
    octets, is_whole = decode("base64", b"QQ==" * 1_000_000)
    assert not is_whole
    assert len(octets) <= 1000
