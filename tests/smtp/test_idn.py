"""Domains beyond ASCII: two spellings of one name, and never one name for two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.idn import MAX_DOMAIN, MAX_LABEL, is_disguised, to_ascii


@pytest.mark.parametrize(
    ("domain", "spelled"),
    [
        ("", ""),
        ("Example.COM", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        (".bücher.example", ".xn--bcher-kva.example"),
        ("例子.广告", "xn--fsqu00a.xn--4rr70v"),
        ("παράδειγμα.example", "xn--hxajbheg2az3al.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_a_domain_has_one_spelling_in_ascii(domain: str, spelled: str):
    assert to_ascii(domain) == spelled


@pytest.mark.parametrize(
    "label",
    [
        # Mapped by the codec: to other letters, to several, to a dot, to nothing
        "straße",
        "βόλος",
        "ｅxämple",
        "e\u00adü",
        "e\u200dü",
        "ü。example",
        "u\u0308",
        # Mapped by who knows only case: the Kelvin and Ångström signs, the dotted I
        "\u212aü",
        "\u212bü",
        "İü",
        # Newer than the codec's tables
        "\U0001f130ü",
        # No label at all
        "xn--ü",
        "א1",
        "ü\u2028",
    ],
)
def test_a_label_that_could_become_another_is_none(label: str):
    with pytest.raises(ValueError):
        to_ascii(f"{label}.example")


def test_what_is_too_long_is_not_looked_at():
    with pytest.raises(ValueError, match="a label of the domain is too long"):
        to_ascii("ü" * (MAX_LABEL + 1))
    with pytest.raises(ValueError, match="domain too long"):
        to_ascii("ü." * MAX_DOMAIN)
    with pytest.raises(ValueError, match="domain too long"):
        # Short enough in UTF-8
        to_ascii(".".join(["ü"] * 40))


@pytest.mark.parametrize("character", "＠．＜…\u00a0\u212aⅣﬁª\u037e")
def test_ascii_by_another_name_is_known(character: str):
    assert is_disguised(f"a{character}b")


@pytest.mark.parametrize("text", ["", "a@b", "ü", "u\u0308", "ß", "ς", "用户", "😀", "。", "\u200d"])
def test_other_characters_are_what_they_are(text: str):
    assert not is_disguised(text)


@given(st.text(max_size=70))
def test_the_spelling_in_ascii_can_be_read_back(domain: str):
    """So two names have the same one only where they differ in case alone."""
    try:
        spelled = to_ascii(domain)
    except ValueError:
        return
    assert spelled.isascii()
    assert to_ascii(spelled) == spelled
    read_back = [label.encode("ascii").decode("idna") for label in spelled.split(".")]
    if not domain.isascii():
        assert ".".join(read_back) == ".".join(map(str.lower, domain.split(".")))
