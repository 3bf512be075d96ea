"""What a mistyped word may have been, for errors that people read."""

import difflib
from collections.abc import Iterable


def guess(word: str, known: Iterable[str]) -> str:
    """`did you mean 'NAME'?` with the known word that is nearest; empty where none is near."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""
