"""`python -m tests.proofs kills` and `python -m tests.proofs soak`: both proofs in full, with their figures."""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.proofs.matrix import all_cases, run_case
from tests.proofs.promises import Outcome
from tests.proofs.scene import Scene, Victim
from tests.proofs.states import STATES


@click.group()
def main() -> None:
    """Prove what docs/failure-modes.md says, with real processes and real signals."""


@main.command()
def kills() -> None:
    """Kill everybody in every state of a session."""
    console = _console()
    outcomes = {}
    with _directory() as directory, Scene(directory) as scene:
        for victim, state in all_cases():
            with console.status(f"{victim.value} is killed {state.name} ..."):
                outcomes[victim, state] = _outcome(scene, victim, state)
        asyncio.run(scene.close())
    console.print("What the client heard when somebody was killed, and how many copies arrived in the end,")
    console.print("after it sent again what was not accepted; '-' is a connection that broke")
    console.print(_table(outcomes))
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, str)]
    twice = [each for each in outcomes.values() if isinstance(each, Outcome) and each.copies == 2]
    console.print(
        f"{len(outcomes)} cases, {len(failed)} failed; 0 messages lost, {len(twice)} delivered twice, all "
        "where the downstream had the end of data and the client no 250 (RFC 1047)"
        if not failed
        else f"{len(outcomes)} cases, {len(failed)} FAILED:\n" + "\n".join(failed),
        highlight=False,
    )
    sys.exit(bool(failed))


def _outcome(scene: Scene, victim: Victim, state) -> "Outcome | str":
    try:
        return asyncio.run(run_case(scene, victim, state))
    except (AssertionError, TimeoutError) as error:
        return f"{victim.value} {state.name}: {error!r}"


def _table(outcomes) -> Table:
    table = Table()
    table.add_column("state")
    for victim in Victim:
        table.add_column(victim.value, justify="right")
    for state in STATES:
        cells = (outcomes[victim, state] for victim in Victim)
        table.add_row(state.name, *(str(cell) if isinstance(cell, Outcome) else "FAILED" for cell in cells))
    return table


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluicegate-proofs-") as directory:
        yield Path(directory)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=200)


if __name__ == "__main__":
    main()
