"""Regular expressions in the configuration: compiled, and refused if they can bring a worker to a standstill.

A policy holds up every other session of its worker while it computes, and the text it looks at is a
stranger's. What is refused, and what is not, says `ambiguity`. It may only look at expressions.
"""

import functools
import re
from collections.abc import Iterator

from gateway.config.ambiguity import Evil, find_evil
from gateway.config.automaton import TooComplex

MAX_LENGTH = 10_000
_PUMPS = 30
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x", re.ASCII: "a"}


def compile_pattern(text: str) -> re.Pattern[str]:
    """The expression, compiled; flags are written in it (`(?i)`). Raises ValueError that says why not."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"has {len(text)} characters; allowed: up to {MAX_LENGTH}")
    try:
        pattern = re.compile(text)
    # The compiler lets through what int() and the interpreter's stack think of absurd expressions.
    except (ValueError, OverflowError, RecursionError, re.error) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    check_pattern(pattern)
    return pattern


def check_pattern(pattern: re.Pattern[str]) -> None:
    """Raises ValueError for an expression that could backtrack without end, or that is too large to tell."""
    try:
        evil = _evil(pattern)
    except TooComplex as error:
        raise ValueError(f"cannot be checked for catastrophic backtracking: {error}; simplify it") from None
    if evil is not None:
        raise ValueError(_explained(pattern, evil))


def pattern_text(pattern: re.Pattern[str]) -> str:
    """An expression that `compile_pattern` makes the same pattern of."""
    text = pattern.pattern
    missing = pattern.flags & ~re.compile(text).flags
    letters = "".join(letter for flag, letter in _FLAGS.items() if missing & flag)
    return f"(?{letters}){text}" if letters else text


@functools.lru_cache(maxsize=1024)
def _evil(pattern: re.Pattern[str]) -> Evil | None:
    try:
        return find_evil(pattern)
    except RecursionError:
        raise TooComplex("it is nested too deeply") from None


def example(evil: Evil) -> str:
    """A text on which it explodes, as a Python expression."""
    # Once more of the same character needs no mention.
    parts = [repr(evil.prefix)] if len(set(evil.prefix + evil.pump)) > 1 and evil.prefix else []
    return " + ".join([*parts, f"{evil.pump!r} * {_PUMPS}", repr(evil.suffix)])


def _explained(pattern: re.Pattern[str], evil: Evil) -> str:
    if evil.degree:
        return (
            f"backtracks catastrophically: its loops can divide a text of n characters between them in some "
            f"n^{evil.degree} ways or more, as in {example(evil)}; make them unable to match the same text"
        )
    part = next((part for part in _parts(pattern) if _is_exponential(part, pattern.flags)), "")
    what = f'"{part}" can match the same text in more than one way' if part else "it is ambiguous"
    return (
        f"backtracks catastrophically: {what}, so the time doubles again and again with a text such as "
        f"{example(evil)}; write it so that there is one way only"
    )


def _is_exponential(part: str, flags: int) -> bool:
    try:
        evil = _evil(re.compile(part, flags))
    except (ValueError, OverflowError, RecursionError, re.error, TooComplex):
        return False
    return evil is not None and not evil.degree


def _parts(pattern: re.Pattern[str]) -> Iterator[str]:
    """What may be groups of the expression with the repeat behind them, the shortest first.

    By counting parentheses, so it may be something else; whoever uses it looks whether it compiles.
    """
    text = re.sub(r"\\.", "__", pattern.pattern, flags=re.DOTALL)
    opened: list[int] = []
    found = []
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")" and opened:
            start = opened.pop()
            repeat = re.match(r"\)(?:\s*(?:[*+?]|\{[0-9,]+\})[?+]?)?", text[place:])
            assert repeat is not None
            found.append(pattern.pattern[start : place + repeat.end()])
    yield from sorted(found, key=len)
