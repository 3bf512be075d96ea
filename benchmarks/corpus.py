"""`python -m benchmarks.corpus DIRECTORY`: what sets of policies refuse and mark of ham and spam.

The messages are judged by real scanners (`benchmarks/scans.py`), and then by the gateway's pipeline with
one set of policies after another (`benchmarks/judging.py`). With `--cache`, what the scanners found is kept,
and other sets are compared in seconds.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from deploy.demo.daemons import DaemonError, interrupt_on_termination
from filters.base import FilterError

from .archive import CLASSES, Sample, read
from .judging import SETS, Judged, Outcome, Tally, agreements, half_of, judge
from .scans import Cache, scan, scanners

_HALVES = {"first half": (0,), "second half": (1,), "all": (0, 1)}
_COUNTED: Sequence[Outcome] = ("refused", "marked")
_COLUMNS: Sequence[tuple[str, Outcome]] = [
    (kind, outcome) for kind in ("spam", "easy ham", "hard ham") for outcome in _COUNTED
]


@click.command(context_settings={"show_default": True})
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="Messages of each directory; all by default.")
@click.option("--cache", type=click.Path(dir_okay=False, path_type=Path), help="Keep findings in this file.")
def main(directory: Path, limit: int | None, cache: Path | None) -> None:
    """Count what is refused and marked of the messages below DIRECTORY."""
    interrupt_on_termination()
    try:
        judged = asyncio.run(_scanned(read(directory, limit), Cache(cache)))
    except (ValueError, DaemonError, FilterError) as error:
        raise click.ClickException(str(error)) from error
    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=1000, highlight=False)
    for title, halves in _HALVES.items():
        messages = [each for each in judged if half_of(each[1]) in halves]
        console.print(_set_table(title, {each.name: asyncio.run(judge(each, messages)) for each in SETS}))
    console.print(_agreement_table([each for each in judged if half_of(each[1]) == 0]))


async def _scanned(samples: Sequence[Sample], cache: Cache) -> list[Judged]:
    """Each message with what the scanners found in it; they are started only for what is not known yet."""
    missing = [sample for sample in samples if cache.get(sample) is None]
    if missing:
        with scanners() as filters, click.progressbar(length=len(missing), label="scanning") as bar:
            await scan(missing, filters, cache, bar.update)
    return [(sample, found) for sample in samples if (found := cache.get(sample)) is not None]


def _set_table(title: str, tallies: Mapping[str, Tally]) -> Table:
    """One row for each set of policies, and below it the ham that it refused."""
    messages = next(iter(tallies.values())).messages
    counts = ", ".join(f"{messages[kind]} {kind}" for kind in CLASSES)
    table = Table(title=f"{title}: {counts}", title_justify="left")
    table.add_column("policies")
    for kind, outcome in _COLUMNS:
        table.add_column(f"{kind} {outcome}", justify="right")
    for name, tally in tallies.items():
        wrongly = (f"  {each}" for each in tally.wrongly)
        table.add_row("\n".join((name, *wrongly)), *(tally.share(*column) for column in _COLUMNS))
    return table


def _agreement_table(messages: Sequence[Judged]) -> Table:
    """One row for each value that could be chosen."""
    table = Table(title="first half, by rspamd_score", title_justify="left")
    table.add_column("rspamd_score", justify="right")
    table.add_column("spam refused", justify="right")
    table.add_column("Rspamd's highest score of suspected ham", justify="right")
    table.add_column("SpamAssassin's of ham with rspamd_score", justify="right")
    for each in agreements(messages):
        highest = f"{each.rspamd_of_ham:.1f}", f"{each.spamassassin_of_ham:.1f}"
        table.add_row(f"{each.rspamd_score:g}", f"{100 * each.refused_spam:.1f} %", *highest)
    return table


if __name__ == "__main__":
    main()
