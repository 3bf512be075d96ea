"""`make bench`: messages per second, CPU and memory of the gateway, beside a bare sink.

One worker, no scanners, journal on. Every figure is the median of several rounds, in which the
gateway and the bare sink take turns.
"""

import platform
import statistics
import sys
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table

from deploy.demo.daemons import DaemonError, interrupt_on_termination
from deploy.demo.gateway_process import Gateway

from .load import Load, Result, Sink, measure, peak_memory, send

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Rounds:
    """The results of all rounds of one load: against the bare sink, and through the gateway."""

    bare: list[Result]
    through: list[Result]


def _count(most: int) -> click.IntRange:
    return click.IntRange(1, most)


@click.command(context_settings={"show_default": True})
@click.option("--messages", type=_count(100_000), default=3000, help="Messages in each run.")
@click.option("--rounds", type=_count(100), default=5, help="Runs of each kind; the median counts.")
@click.option("--connections", type=_count(100), default=10, help="Parallel connections.")
@click.option("--size", type=_count(25 * _MIB), default=4096, help="Octets in each message.")
def main(messages: int, rounds: int, connections: int, size: int) -> None:
    """Measure the gateway beside a bare SMTP sink."""
    interrupt_on_termination()
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    kinds = {
        "one message per connection": Load(messages, size, connections),
        "connections reused": Load(messages, size, connections, reuse=True),
    }
    try:
        results = {name: _compare(load, rounds, console, name) for name, load in kinds.items()}
        console.print(
            f"{messages} messages of {size} octets, {connections} at a time, median of {rounds} rounds;"
            f" Python {platform.python_version()}, {platform.machine()}",
            highlight=False,
        )
        console.print(_speed_table(results))
        peaks = _memory_table(console)
        console.print("Peak resident memory, ten messages of 25 MiB at once", highlight=False)
        console.print(peaks)
    except DaemonError as error:
        raise click.ClickException(str(error)) from error


def _compare(load: Load, rounds: int, console: Console, name: str) -> Rounds:
    done = Rounds([], [])
    with Sink() as sink, Gateway(sink.address) as gateway:
        warm_up = Load(max(load.messages // 10, load.connections), load.size, load.connections, load.reuse)
        send(warm_up, gateway.address)
        for number in range(1, rounds + 1):
            with console.status(f"{name}: round {number} of {rounds} ..."):
                done.bare.append(measure(load, sink.address, sink.pid))
                done.through.append(measure(load, gateway.address, gateway.pid))
    return done


def _speed_table(results: dict[str, Rounds]) -> Table:
    table = Table()
    table.add_column("")
    for heading in ("bare sink", "gateway", "ratio", "sink CPU", "worker CPU", "ratio", "all processes"):
        table.add_column(heading, justify="right")
    for name, done in results.items():
        bare, through = _rate(done.bare), _rate(done.through)
        sink, worker, everything = _cpu(done.bare), _cpu(done.through, "smtp"), _cpu(done.through)
        table.add_row(
            name,
            f"{bare:.0f}/s",
            f"{through:.0f}/s",
            f"{through / bare:.2f}",
            f"{sink:.3f} ms",
            f"{worker:.3f} ms",
            f"{worker / sink:.1f}" if sink else "-",
            f"{everything:.3f} ms",
        )
    return table


def _rate(results: list[Result]) -> float:
    return statistics.median(result.rate for result in results)


def _cpu(results: list[Result], process: str | None = None) -> float:
    """Milliseconds per message, of one kind of process or of all together."""
    return statistics.median(
        sum(used for name, used in result.cpu.items() if process in {None, name}) for result in results
    )


def _memory_table(console: Console) -> Table:
    """Ten large messages at once through a fresh gateway, whose peak is theirs."""
    load = Load(messages=10, size=25 * _MIB, connections=10)
    with Sink() as sink, Gateway(sink.address) as gateway:
        idle = peak_memory(gateway.pid)
        with console.status("ten messages of 25 MiB at once ..."):
            send(load, gateway.address)
        peak = peak_memory(gateway.pid)
    table = Table()
    for heading in ("gateway's processes", "idle", "peak"):
        table.add_column(heading, justify="right")
    for name in peak:
        table.add_row(name, f"{idle.get(name, 0.0):.0f} MiB", f"{peak[name]:.0f} MiB")
    table.add_row("together", f"{sum(idle.values()):.0f} MiB", f"{sum(peak.values()):.0f} MiB", style="bold")
    return table


if __name__ == "__main__":
    main()
