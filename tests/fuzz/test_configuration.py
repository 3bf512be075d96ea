"""Invariant: any file is a configuration, or one line about what is wrong with it."""

import random
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.assembly import assemble
from gateway.config import ConfigError, parse
from gateway.effective import effective
from gateway.reference import EXAMPLE

FILE = Path("sluicegate.toml")
LINES = [line for line in EXAMPLE.splitlines() if line]
WORDS = [
    "[",
    "]",
    "[[",
    "]]",
    '"',
    "=",
    "{",
    "}",
    "nan",
    "-inf",
    "1e400",
    "9" * 30,
    "true",
    "\n",
    "'",
    "\\",
    "\0",
    "é",
]


def judge(octets: bytes) -> None:
    try:
        assembly = assemble(parse(FILE, octets))
        shown = effective(assembly)
    except ConfigError as error:
        text = str(error)
        assert text.startswith(f"{FILE}: ")
        assert text.isprintable()
        return
    assert effective(assemble(parse(FILE, shown.encode()))) == shown


@settings(deadline=None)  # how fast is no question here
@given(st.binary(max_size=200))
@example(b"a = " + b"[" * 100_000)
def test_any_octets(octets: bytes):
    judge(octets)


@settings(deadline=None)  # how fast is no question here
@given(st.lists(st.sampled_from(LINES), max_size=30))
def test_any_lines_in_any_order(lines: list[str]):
    judge("\n".join(lines).encode())


@settings(deadline=None)  # how fast is no question here
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_slips_of_the_pen(chance: random.Random, count: int):
    text = EXAMPLE
    for _ in range(count):
        start = chance.randrange(len(text))
        end = start + chance.choice([0, 1, 2, 5, 20])
        text = text[:start] + chance.choice(["", *WORDS]) + text[end:]
    judge(text.encode())


@settings(deadline=None)  # how fast is no question here
@given(
    st.integers(0, len(LINES) - 1),
    st.sampled_from(['"x"', "1", "-1", "0", "nan", "inf", "true", "[]", "{}", '[""]']),
)
def test_other_values(number: int, value: str):
    key, equals, _ = LINES[number].partition(" = ")
    judge("\n".join([*LINES[:number], f"{key} = {value}" if equals else key, *LINES[number + 1 :]]).encode())
