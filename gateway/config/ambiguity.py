"""Whether a regular expression can take exponential time, and an input on which it does.

Python's matcher tries one way after the other. If it can go from one position of the expression back to
itself in two ways over the same text, each repetition of that text doubles the ways, and a mismatch behind
them is only found after all have been tried (exponential ambiguity: Weber and Seidl, "On the degree of
ambiguity of finite automata", 1991). That is looked for in pairs of positions.

Without it the time is at most a power of the text's length. Squares and cubes are common (`.*foo.*bar`)
and allowed; the power is the length of the longest chain of two loops each that can share a text, and may
be up to `MAX_DEGREE`. The search for a place to begin can add one. Choices that are written out one by
one, without a repeat (`a?a?a?...aaa...`), are not looked for: whoever has so many of them sees them.

It may only compute; what is read from the expression is `automaton`.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.config.automaton import Automaton, TooComplex, automata

MAX_DEGREE = 5
# How many steps through pairs and triples of positions are taken before giving up.
_MAX_STEPS = 1_000_000
# What may stand behind the repeated text so that nothing matches.
_BREAKERS = "!\n \0~x"


@dataclass(frozen=True, slots=True)
class Evil:
    """Text on which matching explodes: `prefix`, then `pump` again and again, then `suffix`.

    The ways to match double with each `pump`, or, where `degree` is not 0, grow with that power.
    """

    prefix: str
    pump: str
    suffix: str
    degree: int = 0


def find_evil(pattern: re.Pattern[str]) -> Evil | None:
    """What makes the expression explode, or `None`. Raises TooComplex."""
    for each in automata(pattern):
        evil = _Search(each).find()
        if evil is not None:
            return evil
    return None


class _Search:
    """One automaton, and how much has been looked at."""

    def __init__(self, automaton: Automaton) -> None:
        self._masks = automaton.masks
        # A class without characters, such as [^\s\S], leads nowhere.
        self._follow = [
            {there: ways for there, ways in others.items() if self._masks[there]}
            for others in automaton.follow
        ]
        self._first = automaton.first
        self._alphabet = automaton.alphabet
        self._steps = 0
        self._backwards = _backwards(self._follow)
        reachable = self._reached(frozenset(each for each in self._first if self._masks[each]), self._follow)
        self._loops = [each for each in _loops(self._follow, self._backwards) if each <= reachable]

    def find(self) -> Evil | None:
        for loop in self._loops:
            evil = self._exponential(loop)
            if evil is not None:
                return evil
        return self._polynomial()

    # Two ways from a position back to itself

    def _exponential(self, loop: frozenset[int]) -> Evil | None:
        """Two ways to go round in one loop over the same text."""
        seen: dict[tuple[int, int], tuple[tuple[int, int], str]] = {}
        queue: deque[tuple[int, int]] = deque()
        for here in sorted(loop):
            for there, ways in self._within(here, loop):
                if ways > 1:
                    return self._evil(loop, here, self._shown(self._masks[there]), there)
            for pair, character in self._pairs(here, here, loop):
                if pair[0] != pair[1] and pair not in seen:
                    seen[pair] = ((here, here), character)
                    queue.append(pair)
        while queue:
            pair = queue.popleft()
            for following, character in self._pairs(*pair, loop):
                if following[0] == following[1]:
                    start, text = _back(seen, pair)
                    return self._evil(loop, start, text + character, following[0])
                if following not in seen:
                    seen[following] = (pair, character)
                    queue.append(following)
        return None

    def _pairs(self, left: int, right: int, loop: frozenset[int]) -> Iterator[tuple[tuple[int, int], str]]:
        """Where two walkers can go over the same character, which of them is which not mattering."""
        for one, _ in self._within(left, loop):
            for other, _ in self._within(right, loop):
                self._step()
                common = self._masks[one] & self._masks[other]
                if common:
                    yield (min(one, other), max(one, other)), self._shown(common)

    def _within(self, here: int, loop: frozenset[int]) -> Iterator[tuple[int, int]]:
        return ((there, ways) for there, ways in self._follow[here].items() if there in loop)

    def _evil(self, loop: frozenset[int], start: int, text: str, end: int) -> Evil:
        """From the beginning to `start`, from there by `text` to `end`, and back again."""
        back = self._way({end}, start, loop)
        prefix = self._way(None, start, None)
        return Evil(prefix, text + back, self._breaker(loop))

    def _way(self, starts: set[int] | None, goal: int, within: frozenset[int] | None) -> str:
        """A shortest text from one of some positions (`None`: the beginning) to the goal."""
        reached: dict[int, str] = dict.fromkeys(starts or (), "")
        if starts is None:
            reached = {each: self._shown(self._masks[each]) for each in self._first if self._masks[each]}
        queue = deque(reached)
        while queue and goal not in reached:
            here = queue.popleft()
            for there in self._follow[here]:
                if there not in reached and (within is None or there in within):
                    reached[there] = reached[here] + self._shown(self._masks[there])
                    queue.append(there)
        return reached[goal]

    def _breaker(self, loop: frozenset[int]) -> str:
        """A character that nothing in the expression takes, or else one that this loop does not take."""
        inside = _union(self._masks[each] for each in loop)
        for taken in (_union(self._masks), inside):
            left = self._alphabet.all & ~taken
            found = next((each for each in _BREAKERS if left & self._alphabet.bit(each)), "")
            if found or left:
                return found or self._shown(left)
        return _BREAKERS[0]

    # Chains of loops

    def _polynomial(self) -> Evil | None:
        """A chain of loops, each two neighbours of which can share a text, that is too long."""
        after = [self._reached(loop, self._follow) for loop in self._loops]
        chains: list[list[frozenset[int]]] = [[loop] for loop in self._loops]
        for later, loop in enumerate(self._loops):
            before = self._reached(loop, self._backwards)
            for earlier in range(later):
                # A chain of n + 1 loops is a power of n, and one that is no longer needs no look.
                longer = [*chains[earlier], loop]
                if loop <= after[earlier] and len(longer) > len(chains[later]):
                    between = after[earlier] & before
                    if self._shared(self._loops[earlier], between, loop):
                        chains[later] = longer
            if len(chains[later]) - 1 > MAX_DEGREE:
                return self._chain(chains[later])
        return None

    def _chain(self, chain: list[frozenset[int]]) -> Evil:
        common = self._alphabet.all
        for loop in chain:
            common &= _union(self._masks[each] for each in loop)
        start = min(chain[0])
        pump = self._shown(common or self._masks[start])
        whole = frozenset(each for loop in chain for each in loop)
        return Evil(self._way(None, start, None), pump, self._breaker(whole), len(chain) - 1)

    def _shared(self, one: frozenset[int], between: frozenset[int], other: frozenset[int]) -> bool:
        """Whether a text leads round the one loop, round the other, and from the one to the other."""
        return any(self._is_shared(p, q, one, between, other) for p in one for q in other)

    def _is_shared(
        self, p: int, q: int, one: frozenset[int], between: frozenset[int], other: frozenset[int]
    ) -> bool:
        start, goal = (p, p, q), (p, q, q)
        seen = {start}
        queue = [start]
        while queue:
            a, b, c = queue.pop()
            for following in self._triples(a, b, c, one, between, other):
                if following == goal:
                    return True
                if following not in seen:
                    seen.add(following)
                    queue.append(following)
        return False

    def _triples(
        self, a: int, b: int, c: int, one: frozenset[int], between: frozenset[int], other: frozenset[int]
    ) -> Iterator[tuple[int, int, int]]:
        for x, _ in self._within(a, one):
            for z, _ in self._within(c, other):
                common = self._masks[x] & self._masks[z]
                for y, _ in self._within(b, between) if common else ():
                    self._step()
                    if common & self._masks[y]:
                        yield x, y, z

    def _reached(self, starts: frozenset[int], ways: Sequence[Iterable[int]]) -> frozenset[int]:
        """The positions, and all that come after them by these ways."""
        reached, queue = set(starts), list(starts)
        while queue:
            for there in ways[queue.pop()]:
                self._step()
                if there not in reached:
                    reached.add(there)
                    queue.append(there)
        return frozenset(reached)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise TooComplex("there are too many ways through it to look at all of them")

    def _shown(self, mask: int) -> str:
        return self._alphabet.example(mask)


def _back(seen: dict[tuple[int, int], tuple[tuple[int, int], str]], pair: tuple[int, int]) -> tuple[int, str]:
    """Where the two walkers parted, and the text since."""
    text = ""
    while pair[0] != pair[1]:
        pair, character = seen[pair]
        text = character + text
    return pair[0], text


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _backwards(follow: Sequence[Iterable[int]]) -> list[list[int]]:
    """For each position, those that it follows."""
    before: list[list[int]] = [[] for _ in follow]
    for here, others in enumerate(follow):
        for there in others:
            before[there].append(here)
    return before


def _loops(follow: Sequence[Iterable[int]], before: Sequence[Iterable[int]]) -> list[frozenset[int]]:
    """The sets of positions that can all reach each other, each before those that it leads to.

    Kosaraju's algorithm: those visited backwards from the last one finished, again and again.
    """
    left = set(range(len(follow)))
    loops = []
    for start in reversed(_finished(follow)):
        if start not in left:
            continue
        left.discard(start)
        members, queue = {start}, [start]
        while queue:
            for there in before[queue.pop()]:
                if there in left:
                    left.discard(there)
                    members.add(there)
                    queue.append(there)
        if len(members) > 1 or start in follow[start]:
            loops.append(frozenset(members))
    return loops


def _finished(follow: Sequence[Iterable[int]]) -> list[int]:
    """All positions, each behind those that it leads to, as far as there is such an order."""
    order: list[int] = []
    seen: set[int] = set()
    for start in range(len(follow)):
        if start in seen:
            continue
        seen.add(start)
        stack = [(start, iter(follow[start]))]
        while stack:
            here, others = stack[-1]
            there = next((each for each in others if each not in seen), None)
            if there is None:
                order.append(here)
                stack.pop()
            else:
                seen.add(there)
                stack.append((there, iter(follow[there])))
    return order
