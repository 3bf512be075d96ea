"""`python -m tests.proofs kills` and `python -m tests.proofs soak`: both proofs in full, in figures."""

import asyncio
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.proofs.matrix import Case, all_cases, run_case
from tests.proofs.promises import Outcome
from tests.proofs.report import print_kills, print_soak
from tests.proofs.scene import Scene
from tests.proofs.soak import Plan, Soak


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Prove with real processes and real signals what docs/failure-modes.md says."""


@main.command()
def kills() -> None:
    """Kill everybody in every state of a session."""
    console = _console()
    outcomes: dict[Case, Outcome | str] = {}
    with tempfile.TemporaryDirectory() as directory, Scene(Path(directory)) as scene:
        for case in all_cases():
            with console.status(f"{case[0].value} is killed {case[1].name} ..."):
                outcomes[case] = _outcome(scene, case)
        asyncio.run(scene.close())
    sys.exit(not print_kills(console, outcomes))


@main.command()
@click.option("--sessions", type=click.IntRange(1, 60_000), default=20_000, help="How many.")
@click.option("--seed", type=int, default=1, help="What each session is made from, with its number.")
@click.option("--reloads", type=click.IntRange(0), default=2, help="SIGHUPs during the warm-up.")
@click.option("--kills", type=click.IntRange(0), default=0, help="Workers killed during the warm-up.")
def soak(**plan: int) -> None:
    """Play good, bad and hostile sessions, and reckon in the end."""
    console = _console()
    with tempfile.TemporaryDirectory() as directory:
        with console.status(f"{plan['sessions']} sessions ..."):
            result = asyncio.run(Soak(Plan(**plan), Path(directory)).run())
        sys.exit(not print_soak(console, result))


def _outcome(scene: Scene, case: Case) -> Outcome | str:
    victim, state = case
    try:
        return asyncio.run(run_case(scene, victim, state))
    except Exception as error:
        # One case that fails must not hide the others; the gateway goes on.
        return f"{victim.value}, {state.name}: {error!r}"


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=160)


if __name__ == "__main__":
    main()
