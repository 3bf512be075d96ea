"""The properties that `make fuzz` looks for exceptions to, held against their seeds and against chance."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = [
    importlib.import_module(f"tests.fuzz.coverage.{path.stem}")
    for path in sorted((Path(__file__).parent / "coverage").glob("fuzz_*.py"))
]
every_target = pytest.mark.parametrize(
    "target", TARGETS, ids=lambda target: target.__name__.rpartition(".")[2]
)


@every_target
def test_an_invariant_comes_first(target: ModuleType):
    assert (target.__doc__ or "").startswith("Invariant: ")


@every_target
def test_the_seeds_hold(target: ModuleType):
    for seed in target.SEEDS:
        target.fuzz(seed)


@every_target
def test_any_words_hold(target: ModuleType):
    pieces = st.one_of(st.sampled_from(target.WORDS), st.sampled_from(target.SEEDS), st.binary(max_size=3))

    @settings(deadline=None, max_examples=max(settings.default.max_examples, 300))
    @given(st.binary(max_size=2), st.lists(pieces, max_size=20))
    def hold(start: bytes, rest: list[bytes]) -> None:
        target.fuzz(start + b"".join(rest))

    hold()
