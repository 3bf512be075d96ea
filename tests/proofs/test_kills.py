"""A part of the kill matrix: something of every row and column. `make proofs` has the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proofs.matrix import Case, run_case, some_cases
from tests.proofs.scene import Scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory: Path = tmp_path_factory.mktemp("kills")
    with Scene(directory) as scene:
        yield scene


@pytest.mark.parametrize("case", some_cases(), ids=lambda case: f"{case[0].value} {case[1].name}")
async def test_a_kill_loses_nothing_and_promises_nothing_false(scene: Scene, case: Case) -> None:
    await run_case(scene, *case)


async def test_nothing_outlives_the_gateway(scene: Scene) -> None:
    await scene.close()
