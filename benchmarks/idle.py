"""`make bench-idle`: what thousands of clients cost that are connected and say nothing.

They greet and fall silent, each few from an address of its own in 127.0.0.0/8, at one of two gateways
that are otherwise the same. Then new mail is sent to the two in turn, so that whatever else the machine
does meets both. Memory is the proportional set size (PSS, proc(5)) of all of a gateway's processes: what
they share counts once.
"""

import platform
import re
import resource
import socket
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from deploy.demo.daemons import LOOPBACK, DaemonError, interrupt_on_termination
from deploy.demo.gateway_process import Gateway

from .load import Load, Result, Sink, measure, process_ids, send

_PER_ADDRESS = 10
_ADDRESSES_PER_NETWORK = 5
_PATIENCE = 60.0
_SPARE_DESCRIPTORS = 100


@dataclass(frozen=True)
class Figures:
    """One gateway's: memory of all processes in MiB, and the results of each round."""

    memory: float
    results: list[Result]

    @property
    def rate(self) -> float:
        """Messages per second, the median."""
        return statistics.median(result.rate for result in self.results)

    @property
    def cpu(self) -> float:
        """Milliseconds of the workers for each message, the median."""
        return statistics.median(result.cpu["smtp"] for result in self.results)


@click.command(context_settings={"show_default": True})
@click.option("--connections", type=click.IntRange(1, 50_000), default=10_000, help="Idle connections.")
@click.option("--messages", type=click.IntRange(1, 100_000), default=2000, help="Messages in each round.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, help="Rounds; the median counts.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, help="SMTP processes.")
def main(connections: int, messages: int, rounds: int, workers: int) -> None:
    """Measure memory and the rate of new mail with and without idle connections."""
    interrupt_on_termination()
    _allow_descriptors(connections + _SPARE_DESCRIPTORS)
    load = Load(messages, size=4096, connections=10)
    limits = f"max_connections = {2 * connections + 100}"  # far from where silence is cut short
    try:
        with ExitStack() as running:
            sink = running.enter_context(Sink())
            quiet, crowded = (
                running.enter_context(Gateway(sink.address, workers=workers, listener=limits))
                for _ in range(2)
            )
            without, with_idle = _compare(load, rounds, connections, quiet, crowded)
    except DaemonError as error:
        raise click.ClickException(str(error)) from error
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    console.print(
        f"{connections} idle connections; {messages} messages of {load.size} octets, {load.connections} at a"
        f" time, median of {rounds} rounds; {workers} workers; Python {platform.python_version()}",
        highlight=False,
    )
    console.print(_table(without, with_idle, connections))


def _compare(
    load: Load, rounds: int, connections: int, quiet: Gateway, crowded: Gateway
) -> tuple[Figures, Figures]:
    """The two in turn, one of them with idle clients."""
    for gateway in (quiet, crowded):
        send(load, gateway.address)  # warm
    results: tuple[list[Result], list[Result]] = ([], [])
    with _idle_clients(crowded.port, connections) as clients:
        for _ in range(rounds):
            for gateway, done in zip((quiet, crowded), results, strict=True):
                done.append(measure(load, gateway.address, gateway.pid))
        figures = (
            Figures(_proportional_memory(quiet.pid), results[0]),
            Figures(_proportional_memory(crowded.pid), results[1]),
        )
        _check_all_there(clients)
    return figures


def _table(without: Figures, with_idle: Figures, connections: int) -> Table:
    table = Table()
    for heading in ("", "nobody idle", "with idle connections", ""):
        table.add_column(heading, justify="right" if heading else "left")
    growth = with_idle.memory - without.memory
    table.add_row(
        "memory (PSS), all processes",
        f"{without.memory:.0f} MiB",
        f"{with_idle.memory:.0f} MiB",
        f"{growth * 1024 / connections:.1f} KiB each",
    )
    table.add_row(
        "new mail",
        f"{without.rate:.0f}/s",
        f"{with_idle.rate:.0f}/s",
        f"ratio {with_idle.rate / without.rate:.2f}",
    )
    table.add_row(
        "worker CPU for a message",
        f"{without.cpu:.3f} ms",
        f"{with_idle.cpu:.3f} ms",
        f"ratio {with_idle.cpu / without.cpu:.2f}",
    )
    return table


@contextmanager
def _idle_clients(port: int, count: int) -> Iterator[Sequence[socket.socket]]:
    """So many clients that have greeted and been answered."""
    with ExitStack() as open_sockets:
        clients = []
        for source in _sources(count):
            client = socket.create_connection((LOOPBACK, port), _PATIENCE, source_address=(source, 0))
            clients.append(open_sockets.enter_context(client))
            _expect(client, b"220 ")
            client.sendall(b"EHLO idle.example\r\n")
            _expect(client, b"250")
        yield clients


def _sources(count: int) -> Iterator[str]:
    """An address for each client; few clients share one, and few addresses a network."""
    for number in range(count):
        network, rest = divmod(number, _PER_ADDRESS * _ADDRESSES_PER_NETWORK)
        yield f"127.{1 + network // 256}.{network % 256}.{1 + rest // _PER_ADDRESS}"


def _expect(client: socket.socket, start: bytes) -> None:
    reply = client.recv(4096)
    if not reply.startswith(start):
        raise DaemonError(f"an idle client was told {reply!r}")


def _check_all_there(clients: Sequence[socket.socket]) -> None:
    """Those that were hung up on meanwhile would make the figures too good."""
    for client in clients:
        client.setblocking(False)
        try:
            said = client.recv(4096)
        except BlockingIOError:
            continue
        raise DaemonError(f"an idle client was hung up on: {said!r}")


def _proportional_memory(group: int) -> float:
    total = 0
    for pid in process_ids(group):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total / 1024


def _allow_descriptors(needed: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < needed:
        raise click.ClickException(f"{needed} descriptors are needed, and ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
