"""xtext, which carries names through commands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp import xtext


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("c.example", "c.example"), ("a+b=c", "a+2Bb+3Dc"), ("a b\r\n", "a+20b+0D+0A"), ("\xe9", "+C3+A9")],
)
def test_what_is_encoded_is_decoded_again(text: str, encoded: str):
    assert xtext.encode(text) == encoded
    assert xtext.decode(encoded) == text.encode()


@pytest.mark.parametrize("text", ["+", "+4", "+4g", "+4a", "a=b", "a b", "\xe9", "a\n", "+\n", "\0", "++2B"])
def test_what_is_none_is_not_decoded(text: str):
    with pytest.raises(ValueError, match="is not xtext"):
        xtext.decode(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text: str):
    encoded = xtext.encode(text)
    assert encoded.isascii()
    assert all("!" <= char <= "~" for char in encoded)
    assert xtext.decode(encoded).decode() == text
