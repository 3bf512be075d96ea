"""Fields with parameters as mail clients read them, well-formed or not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.parameters import parse_parametrized


@pytest.mark.parametrize(
    ("written", "value", "parameters"),
    [
        (b" text/plain", "text/plain", ()),
        (b" Text/PLAIN; Charset=UTF-8", "text/plain", (("charset", "UTF-8"),)),
        (b' a/b;\r\n\tname="a b.txt"', "a/b", (("name", "a b.txt"),)),
        (b" a/b; name='a'", "a/b", (("name", "'a'"),)),
        (b' a/b; name="a\\"b\\\\c"', "a/b", (("name", 'a"b\\c'),)),
        (b' a/b; name="a;b=c"; x=y', "a/b", (("name", "a;b=c"), ("x", "y"))),
        (b' a/b; name="never closed; x=y', "a/b", (("name", "never closed; x=y"),)),
        (b' a/b; name="', "a/b", (("name", ""),)),
        (b" a/b; name=two words ; x = y", "a/b", (("name", "two words"), ("x", "y"))),
        (b" a/b ; name", "a/b", ()),
        (b" a/b;;; =x; name=a", "a/b", (("name", "a"),)),
        (b"", "", ()),
        (b";", "", ()),
        (b" attachment; filename==?utf-8?q?a=C3=BC?=", "attachment", (("filename", "aü"),)),
        (b' attachment; filename="=?utf-8?q?a?= =?utf-8?q?b?="', "attachment", (("filename", "ab"),)),
        (b" attachment; filename=\xc3\xbc", "attachment", (("filename", "ü"),)),
        (b" attachment; filename=\xfc", "attachment", (("filename", "ü"),)),
    ],
)
def test_a_value_and_its_parameters(written: bytes, value: str, parameters: tuple[tuple[str, str], ...]):
    found = parse_parametrized(written)
    assert (found.value, found.parameters) == (value, parameters)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"filename*=utf-8''a%C3%BC", "aü"),
        (b"filename*=iso-8859-1'de'a%FC", "aü"),
        (b"filename*=\"utf-8''a%20b\"", "a b"),
        (b"filename*=a%20b", "a b"),
        (b"filename*=klingon''a%C3%BC", "aü"),
        (b"filename*=idna''a%FC", "aü"),
        (b"filename*=utf-8''a%ZZ%4", "a%ZZ%4"),
        (b"filename*0=evil.; filename*1=exe", "evil.exe"),
        (b"filename*1=exe; filename*0=evil.", "evil.exe"),
        (b'filename*0="a;"; filename*1="b"', "a;b"),
        (b"filename*0*=utf-8''%C3; filename*1*=%BC.; filename*2=exe", "ü.exe"),
        (b"filename*0=a%41; filename*1*=%41", "a%41A"),
        (b"filename*2=c; filename*7=d", "cd"),
        (b'filename*0="=?utf-8?q?a="; filename*1="C3=BC?="', "aü"),
    ],
)
def test_rfc_2231(written: bytes, name: str):
    assert parse_parametrized(b" attachment; " + written).first("filename") == name


def test_both_readings_are_kept_that_of_rfc_2231_first():
    found = parse_parametrized(b" a; filename=plain.pdf; filename*=utf-8''evil.exe; FILENAME=again.txt")
    assert found.all("filename") == ("evil.exe", "plain.pdf", "again.txt")
    assert found.first("name") is None


def test_there_is_an_end_to_parameters():
    assert len(parse_parametrized(b" a" + b";x=y" * 1000).parameters) == 200


@given(st.binary(max_size=200))
def test_any_octets_can_be_asked(octets: bytes):
    parse_parametrized(octets).first("name")
    parse_parametrized(b"a;name=" + octets).first("name")
    parse_parametrized(b"a;name*0*=" + octets).first("name")
