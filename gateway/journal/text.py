"""Text of records on a terminal: what a sender chose may never steer it, and columns stay columns.

Knows nothing about records.
"""

import unicodedata


def visible(text: str) -> str:
    """The text with all that does not print (controls, direction marks, line ends) as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def padded(text: str, columns: int) -> str:
    """The text, filled up with blanks if it takes fewer columns."""
    return text + " " * (columns - width(text))


def cut(text: str, columns: int) -> str:
    """The text, cut with an ellipsis if it takes more columns."""
    if width(text) <= columns:
        return text
    kept, taken = "", 0
    for character in text:
        taken += _columns(character)
        if taken > columns - 1:
            break
        kept += character
    return f"{kept}…"


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
