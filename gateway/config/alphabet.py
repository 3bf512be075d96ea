"""As many characters as a regular expression can tell apart, and its character classes as sets of them.

The ranges in an expression cut the code points into intervals; within one of them, the expression can
only tell digits, other word characters, white space and the rest apart. Of each of these kinds, one
character stands for all. It may only look at classes; how they are strung together is `automaton`.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_LAST = 0x10FFFF
# How far an interval is looked through for one character of each kind: far enough for all of Unicode.
_LOOK = 3_000
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
# Shown first where one character of a set is shown.
_PREFERRED = "abcxyzABC019 .-_@!"


class Alphabet:
    """The characters, each of which is one bit of a mask."""

    def __init__(self, items: Iterable[tuple[Any, Any]]) -> None:
        characters = {chr(code) for code in range(128)}
        for low, high in _intervals(items):
            characters.update(_kinds(low, high))
        for character in list(characters):
            characters.update(_cases(character))
        self._characters = sorted(characters, key=_preference)
        self.all = (1 << len(self._characters)) - 1
        self._masks: dict[tuple[str, str, int], int] = {}

    def mask(self, operation: Any, argument: Any, flags: int) -> int:
        """The characters that LITERAL, NOT_LITERAL, ANY or IN takes."""
        key = (str(operation), str(argument), flags)
        if key not in self._masks:
            self._masks[key] = self._mask(key[0], argument, flags)
        return self._masks[key]

    def _mask(self, operation: str, argument: Any, flags: int) -> int:
        match operation:
            case "ANY":
                return self.all if flags & re.DOTALL else self.all & ~self._of(lambda each: each == "\n")
            case "IN":
                return self._class(argument, flags)
            case "NOT_LITERAL":
                return self.all & ~self._range(argument, argument, flags)
            case _:
                return self._range(argument, argument, flags)

    def _class(self, members: Iterable[tuple[Any, Any]], flags: int) -> int:
        mask, is_negated = 0, False
        for operation, argument in members:
            match str(operation):
                case "NEGATE":
                    is_negated = True
                case "RANGE":
                    low, high = argument
                    mask |= self._range(low, high, flags)
                case "CATEGORY":
                    mask |= self._of(re.compile(_CATEGORIES[str(argument)], flags & re.ASCII).match)
                case _:
                    mask |= self._range(argument, argument, flags)
        return self.all & ~mask if is_negated else mask

    def _range(self, low: int, high: int, flags: int) -> int:
        if flags & re.IGNORECASE:
            return self._of(lambda each: any(low <= ord(case) <= high for case in _cases(each)))
        return self._of(lambda each: low <= ord(each) <= high)

    def _of(self, is_member: Callable[[str], object]) -> int:
        return sum(1 << number for number, each in enumerate(self._characters) if is_member(each))

    def bit(self, character: str) -> int:
        """The set of one character of ASCII."""
        return 1 << self._characters.index(character)

    def example(self, mask: int) -> str:
        """One character of a set that is not empty, the plainest there is."""
        return self._characters[(mask & -mask).bit_length() - 1]


def _preference(character: str) -> tuple[bool, int, bool, int]:
    place = _PREFERRED.find(character)
    return place < 0, place, not character.isprintable(), ord(character)


def _intervals(items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[int, int]]:
    """The code points between one border of a range in the expression and the next."""
    cuts = {0, 128, _LAST + 1}
    for operation, argument in items:
        match str(operation):
            case "LITERAL" | "NOT_LITERAL":
                cuts.update((argument, argument + 1))
            case "RANGE":
                cuts.update((argument[0], argument[1] + 1))
    borders = sorted(cuts)
    for low, after in itertools.pairwise(borders):
        yield low, after - 1


def _kinds(low: int, high: int) -> Iterator[str]:
    """One character of each kind between two code points, both included."""
    seen = set()
    for code in range(low, min(high, low + _LOOK) + 1):
        character = chr(code)
        kind = (character.isalnum(), character.isdecimal(), character.isspace())
        if kind not in seen:
            seen.add(kind)
            yield character


@functools.lru_cache(maxsize=4096)
def _cases(character: str) -> set[str]:
    """The character as it may be written where case does not matter; one character each."""
    cases = {character, character.lower(), character.upper(), character.casefold()}
    return {each for case in cases for each in (case, case.lower(), case.upper()) if len(each) == 1}
