"""`sluicegate log`: search the records, newest last."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from gateway.cli.common import config_option
from gateway.cli.records import Since, json_line, reading_journal
from gateway.journal.record import STAGES, VERDICTS, Record, decode
from gateway.journal.search import DEFAULT_LIMIT, Query, follow, search_lines
from gateway.journal.text import cut, padded, visible, width
from gateway.journal.tracebacks import essence

_HEADINGS = (
    *("TIME", "VERDICT", "STAGE", "REASON", "REFERENCE", "CLIENT", "SENDER", "RECIPIENTS"),
    "SUBJECT OR DETAIL",
)
# Columns begin so wide, for those who follow: what comes later should stand below what came first.
_WIDTHS = (20, 11, 11, 18, 9, 15, 24, 24)
_WIDEST = 40  # one long address must not push the others off the screen
_BLOCK = 500
_COLOURS = {
    "accepted": "green",
    "rejected": "red",
    "tempfailed": "yellow",
    "quarantined": "magenta",
    "aborted": "bright_black",
}


@click.command("log")
@click.option("--since", type=Since(), help="Not older than 30m, 2h, 7d, or an ISO 8601 time (local).")
@click.option("--verdict", type=click.Choice(VERDICTS), help="What became of it.")
@click.option("--reason", help="The reason's slug, such as spam-score.")
@click.option("--client", help="Address, network (CIDR) or name of the sending host.")
@click.option("--sender", help="Address or @domain; '<>' is the null sender.")
@click.option("--recipient", help="Address or @domain.")
@click.option("--stage", type=click.Choice(STAGES), help="Where it was decided, or told to the client.")
@click.option(
    "--text", help="Words in subject, addresses, names, reply, detail or an opinion, or the MTA's queue ID."
)
@click.option("--policy", help="A policy that had an opinion, also if it only warns; then the table has it.")
@click.option("--follow", "is_following", is_flag=True, help="Go on with what comes in.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="The newest so many.",
)
@click.option("--json", "as_json", is_flag=True, help="One record a line, as it was recorded.")
@config_option
def command(config_file: Path, *, is_following: bool, as_json: bool, **demands: Any) -> None:
    """Search the records, newest last. Everything that is given must match."""
    query = Query(**demands)
    with reading_journal(config_file) as layout:
        lines = (follow if is_following else search_lines)(layout.index, layout.spool, query)
        block = 1 if is_following else _BLOCK
        output = map(json_line, lines) if as_json else _table(lines, block, query.policy)
        for line in output:
            sys.stdout.buffer.write(line)
            if is_following:
                sys.stdout.buffer.flush()
        sys.stdout.buffer.flush()


def _table(lines: Iterator[bytes], block_size: int, policy: str | None) -> Iterator[bytes]:
    """Aligned columns; on a terminal in colour, and cut to its width.

    The last one has what `policy` said, if there is one, and subject or detail.
    """
    widths = list(_WIDTHS)
    is_terminal = sys.stdout.isatty()
    terminal = shutil.get_terminal_size().columns if is_terminal else None
    rows: Iterable[tuple[str, ...]] = [_HEADINGS]
    while block := [_cells(decode(line), policy) for line in islice(lines, block_size)]:
        columns_of_cells = zip(*(row[:-1] for row in block), strict=True)
        widths = [
            min(max(before, *map(width, cells)), _WIDEST)
            for before, cells in zip(widths, columns_of_cells, strict=True)
        ]
        for row in (*rows, *block):
            yield f"{_row(row, widths, terminal)}\n".encode()
        rows = []


def _cells(record: Record, policy: str | None) -> tuple[str, ...]:
    subject = record.message.subject if record.message else None
    cells = (
        f"{record.time[:19]}Z",
        record.verdict,
        record.stage,
        record.reason,
        record.reference,
        record.client.address,
        record.reverse_path or "-",
        " ".join(record.recipients) or "-",
        "  ".join(filter(None, (_said(record, policy), subject or essence(record.detail) or "-"))),
    )
    return tuple(map(visible, cells))


def _said(record: Record, policy: str | None) -> str:
    """What that policy said."""
    if policy is None:
        return ""
    named = (opinion for name, opinion in record.opinions.items() if name.lower() == policy.lower())
    return " ".join(
        str(opinion[part]) for opinion in named for part in ("verdict", "reason") if opinion.get(part)
    )


def _row(cells: tuple[str, ...], widths: list[int], columns: int | None) -> str:
    """One line; `columns` is the terminal's width, or `None` where there is no terminal."""
    line = "  ".join([*map(padded, cells[:-1], widths), cells[-1]])
    if columns is None:
        return line
    line = cut(line, columns)
    colour = _COLOURS.get(cells[1])
    before, verdict, after = line.partition(cells[1])
    return f"{before}{click.style(verdict, fg=colour)}{after}" if colour else line
