"""A regular expression as an automaton over the positions of its characters (Glushkov, 1961).

Each place in the expression that takes one character is a state; `follow` counts the ways from one to
another without a character between them, as Python's matcher would try them: 0, 1, or 2 for more than
one. It may only read expressions, and matches nothing.

What the automaton cannot say is taken for more than it is, so that no way of matching is missed:
anchors, word boundaries and lookaround hold everywhere; a back reference is a copy of its group; an
atomic group or possessive repeat may give back what it took; a condition takes either branch. A repeat
of more than `_EXACT` rounds that has something to choose may go on for ever. The body of a lookaround is
an automaton of its own.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.config.alphabet import Alphabet

# The standard library's parser has no public name. Without it nothing is checked, and so nothing is taken.
try:
    from re import _constants, _parser  # type: ignore[attr-defined]  # not in the stubs
except ImportError as error:  # pragma: no cover - not in any Python this runs on
    raise ImportError("this Python has another parser of regular expressions; use 3.11 to 3.13") from error

# So much is checked within a second or so; more is no longer readable either.
MAX_POSITIONS = 2_000
MAX_EDGES = 100_000
# Groups that take nothing count as well.
_MAX_VISITS = 20_000
# Repeats with more rounds than this are taken for endless, if there is anything to choose in them.
_EXACT = 8
_MANY = 2

Counts = dict[int, int]
# What the parser read, and the flags it is read with.
_Body = tuple[Any, int]


class TooComplex(Exception):
    """The expression is too large to be checked."""


@dataclass(slots=True)
class Automaton:
    """`masks` are the characters of each position, as bits; `first` is where a match can begin."""

    alphabet: Alphabet
    masks: list[int] = field(default_factory=list)
    follow: list[Counts] = field(default_factory=list)
    first: Counts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the expression: where it begins and ends, and in how many ways it matches nothing."""

    empty: int
    first: Counts
    last: Counts


_NOTHING = _Part(1, {}, {})
_NEVER = _Part(0, {}, {})


def automata(pattern: re.Pattern[str]) -> list[Automaton]:
    """The expression's automaton, then those of its lookarounds. Raises TooComplex."""
    tree = _parser.parse(pattern.pattern, pattern.flags)
    items = list(_items(tree))
    alphabet = Alphabet(items)
    flags = tree.state.flags
    bodies: list[_Body] = [(tree, flags)]
    # A group is there for back references wherever it stands.
    groups = {
        number: (body, (flags | added) & ~removed)
        for kind, argument in items
        if str(kind) == "SUBPATTERN"
        for number, added, removed, body in (argument,)
    }
    found = []
    while bodies:
        builder = _Builder(alphabet, bodies, groups)
        body, flags = bodies.pop(0)
        part = builder.sequence(body, flags)
        builder.automaton.first = part.first
        found.append(builder.automaton)
    return found


def _items(tree: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Every operation in the tree with its argument, at whatever depth."""
    for item in tree:
        if isinstance(item, _parser.SubPattern):
            yield from _items(item)
        elif isinstance(item, tuple | list):
            if len(item) == 2 and isinstance(item[0], _constants._NamedIntConstant):
                yield item[0], item[1]
            yield from _items(item)


class _Builder:
    """Builds one automaton; lookarounds found on the way are put on `bodies`."""

    def __init__(self, alphabet: Alphabet, bodies: list[_Body], groups: dict[int, _Body]) -> None:
        self.automaton = Automaton(alphabet)
        self._bodies = bodies
        self._groups = groups
        self._edges = self._visits = 0
        # In how many rounds of repeats with a choice in them the builder is, all in all.
        self._rounds = 1

    def sequence(self, items: Iterable[Any], flags: int) -> _Part:
        """One thing after the other."""
        whole = _NOTHING
        self._visits += 1
        if self._visits > _MAX_VISITS:
            raise TooComplex("its repeats, written out, are too many")
        for operation, argument in items:
            whole = self._join(whole, self._part(operation, argument, flags))
        return whole

    def _part(self, operation: Any, argument: Any, flags: int) -> _Part:
        match str(operation):
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return self._position(self.automaton.alphabet.mask(operation, argument, flags))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, body = argument
                return self._repeat(int(least), int(most), body, flags)
            case "ASSERT" | "ASSERT_NOT":
                self._bodies.append((argument[1], flags))
                return _NOTHING
            case "AT":
                return _NOTHING
            case "FAILURE":
                return _NEVER
            case _:
                return self._group(operation, argument, flags)

    def _group(self, operation: Any, argument: Any, flags: int) -> _Part:
        match str(operation):
            case "BRANCH":
                return self._choice(argument[1], flags)
            case "SUBPATTERN":
                number, added, removed, body = argument
                inner = (flags | added) & ~removed
                self._groups[number] = (body, inner)
                return self.sequence(body, inner)
            case "ATOMIC_GROUP":
                return self.sequence(argument, flags)
            case "GROUPREF":
                return self.sequence(*self._groups[argument])
            case "GROUPREF_EXISTS":
                _, yes, no = argument
                return self._choice([yes, no or []], flags)
            case _:
                raise TooComplex(f"it uses {operation}, which cannot be checked")

    def _position(self, mask: int) -> _Part:
        number = len(self.automaton.masks)
        if number >= MAX_POSITIONS:
            raise TooComplex(f"written out, it has more than {MAX_POSITIONS} characters")
        self.automaton.masks.append(mask)
        self.automaton.follow.append({})
        return _Part(0, {number: 1}, {number: 1})

    def _choice(self, branches: Iterable[Any], flags: int) -> _Part:
        whole = _NEVER
        for branch in branches:
            part = self.sequence(branch, flags)
            whole = _Part(
                min(whole.empty + part.empty, _MANY),
                _sum(whole.first, part.first),
                _sum(whole.last, part.last),
            )
        return whole

    def _repeat(self, least: int, most: int, body: Any, flags: int) -> _Part:
        is_plain, rounds = _is_plain(body), self._rounds
        # Both are exact: where there is nothing to choose, and where there are few rounds.
        if not (is_plain and least == most) and most * rounds > _EXACT:
            return self._endless(least, body, flags, is_plain)
        self._rounds = rounds if is_plain else rounds * max(most, 1)
        whole = optional = _NOTHING
        for _ in range(least):
            whole = self._join(whole, self.sequence(body, flags))
        for _ in range(most - least):
            optional = self._optional(self._join(self.sequence(body, flags), optional))
        self._rounds = rounds
        return self._join(whole, optional)

    def _endless(self, least: int, body: Any, flags: int, is_plain: bool) -> _Part:
        """At least so many rounds. A round that takes nothing is not followed by another."""
        whole = _NOTHING
        is_exact = is_plain or least * self._rounds <= _EXACT
        for _ in range(least - 1 if is_exact else 0):
            whole = self._join(whole, self.sequence(body, flags))
        last = self.sequence(body, flags)
        self._connect(last.last, last.first)
        if least > 1 and not is_exact and last.empty:
            # Any of the rounds that there must be can be the one that takes nothing.
            self._connect(last.last, last.first)
        return self._join(whole, last if least else self._optional(last))

    def _optional(self, part: _Part) -> _Part:
        return _Part(min(part.empty + 1, _MANY), part.first, part.last)

    def _join(self, left: _Part, right: _Part) -> _Part:
        self._connect(left.last, right.first)
        return _Part(
            min(left.empty * right.empty, _MANY),
            _sum(left.first, _times(right.first, left.empty)),
            _sum(right.last, _times(left.last, right.empty)),
        )

    def _connect(self, last: Counts, first: Counts) -> None:
        self._edges += len(last) * len(first)
        if self._edges > MAX_EDGES:
            raise TooComplex(f"it has more than {MAX_EDGES} ways from one character to the next")
        for here, ways in last.items():
            follow = self.automaton.follow[here]
            for there, more in first.items():
                follow[there] = min(follow.get(there, 0) + ways * more, _MANY)


def _is_plain(body: Any) -> bool:
    """Whether one text goes through it in one way only, because there is nothing to choose."""
    for operation, argument in body:
        match str(operation):
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "AT":
                continue
            case "SUBPATTERN" if _is_plain(argument[3]):
                continue
            case "MAX_REPEAT" | "MIN_REPEAT" if argument[0] == argument[1] and _is_plain(argument[2]):
                continue
        return False
    return True


def _sum(left: Counts, right: Counts) -> Counts:
    if not left or not right:
        return left or right
    both = dict(left)
    for position, ways in right.items():
        both[position] = min(both.get(position, 0) + ways, _MANY)
    return both


def _times(counts: Counts, factor: int) -> Counts:
    if factor == 1:
        return counts
    return {position: min(ways * factor, _MANY) for position, ways in counts.items()} if factor else {}
