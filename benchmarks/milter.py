"""`make bench-milter`: the gateway's milter beside clamav-milter and spamass-milter on the same Postfix.

One private Postfix has an smtpd for each contestant, and all contestants ask the same scanners, over TCP on
the loopback. First the scanners are quick ones that know one string each, so that it can be seen what the
milters cost; then clamd and spamd, local tests only. CPU is that of all processes, ended children included.
"""

import platform
import sys
from collections.abc import Sequence
from operator import attrgetter

import click
from rich.console import Console
from rich.table import Table

from deploy.demo.daemons import DaemonError, interrupt_on_termination
from gateway.milter.presence import why_missing

from .contestants import NOBODY, Arena, Contestant, arena
from .load import Load
from .turns import Figure, Rounds, Usage, check, in_turns, median, ratio

_MOST = 10_000
_rate, _milters, _together = attrgetter("rate"), attrgetter("milters"), attrgetter("together")
_scanners, _postfix = attrgetter("scanners"), attrgetter("postfix")
_KINDS = {"quick": "quick scanners", "real": "clamd and spamd"}
_HEADINGS = (
    *("messages", "of no milter", "milters' CPU", "scanners' CPU", "Postfix's CPU"),
    *("rate beside rival", "milters' CPU beside it", "all CPU beside it"),
)


def _count(most: int) -> click.IntRange:
    return click.IntRange(1, most)


@click.command(context_settings={"show_default": True})
@click.option("--messages", type=_count(_MOST), default=200, help="In each run with quick scanners.")
@click.option("--real-messages", type=_count(_MOST), default=30, help="In each run with real ones.")
@click.option("--rounds", type=_count(100), default=3, help="Turns of each contestant; medians count.")
@click.option("--connections", type=_count(100), default=10, help="Parallel connections.")
@click.option("--size", "sizes", type=_count(25_000_000), multiple=True, default=(4096, 100_000))
@click.option("--workers", type=click.IntRange(0, 64), default=0, help="The gateway's; 0 is one per core.")
@click.option("--scanners", "kinds", type=click.Choice(list(_KINDS)), multiple=True, default=list(_KINDS))
def main(
    messages: int,
    real_messages: int,
    rounds: int,
    connections: int,
    sizes: Sequence[int],
    workers: int,
    kinds: Sequence[str],
) -> None:
    """Compare milters in turns on one Postfix; sizes are octets, and the real scanners get the first."""
    interrupt_on_termination()
    missing = why_missing()
    if missing:
        raise click.ClickException(missing)
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    counts = {"quick": messages, "real": real_messages}
    try:
        for kind in kinds:
            loads = _loads(kind, counts[kind], sizes, connections)
            with arena(workers, is_quick=kind == "quick") as contest:
                check(contest)
                for load in loads:
                    _show(console, contest, kind, load, rounds)
    except DaemonError as error:
        raise click.ClickException(str(error)) from error


def _loads(kind: str, messages: int, sizes: Sequence[int], connections: int) -> list[Load]:
    """Of the real scanners the first size will do: they take so long that nothing else counts."""
    if kind == "real":
        return [Load(messages, sizes[0], connections)]
    return [Load(messages, size, connections, reuse) for size in sizes for reuse in (False, True)]


def _show(console: Console, contest: Arena, kind: str, load: Load, rounds: int) -> None:
    with console.status("starting ...") as status:
        done = in_turns(contest, load, rounds, status.update)
    way = "connections reused" if load.reuse else "one message per connection"
    console.print(
        f"{_KINDS[kind]}; {load.messages} messages of {load.size} octets, {way}, {load.connections} at a"
        f" time, median of {rounds} rounds; Python {platform.python_version()}",
        highlight=False,
    )
    console.print(table(contest.contestants, done))


def table(contestants: Sequence[Contestant], done: Rounds) -> Table:
    """One row for each contestant; CPU is milliseconds for each message."""
    result = Table()
    result.add_column("")
    for heading in _HEADINGS:
        result.add_column(heading, justify="right")
    for each in contestants:
        mine, rival = done[each.name], done.get(each.beside)
        result.add_row(
            each.name,
            f"{median(mine, _rate):.0f}/s",
            _ratio(mine, done[NOBODY], _rate),
            *(f"{median(mine, figure):.2f} ms" for figure in (_milters, _scanners, _postfix)),
            *(_ratio(mine, rival, figure) for figure in (_rate, _milters, _together)),
        )
    return result


def _ratio(mine: Sequence[Usage], others: Sequence[Usage] | None, figure: Figure) -> str:
    found = None if others is None else ratio(mine, others, figure)
    return "" if found is None else f"{found:.2f}"


if __name__ == "__main__":
    main()
