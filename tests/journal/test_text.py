"""Text on a terminal: nothing steers it, and columns stay columns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.text import cut, padded, visible, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 漢字", "plain ünïcode 漢字"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("two\r\nlines\t", r"two\r\nlines\t"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("evil\u202egpj.exe", r"evil\u202egpj.exe"),
        ("\u2028\udcff", r"\u2028\udcff"),
    ],
)
def test_what_does_not_print_is_shown_as_an_escape(text: str, shown: str):
    assert visible(text) == shown


@given(st.text())
def test_nothing_that_is_shown_is_unprintable(text: str):
    assert visible(text).isprintable()


def test_wide_and_combining_characters_take_the_columns_they_take():
    assert [width(text) for text in ("abc", "漢字", "e\u0301")] == [3, 4, 1]


@given(st.text().map(visible), st.integers(1, 30))
def test_cut_and_padded_text_fits(text: str, columns: int):
    assert width(cut(text, columns)) <= columns
    assert width(padded(text, columns)) >= columns
    if width(text) <= columns:
        assert cut(text, columns) == text
    else:
        assert cut(text, columns).endswith("…")
