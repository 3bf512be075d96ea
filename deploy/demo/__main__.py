"""`make demo`: real mail through the gateway, between real daemons, and what became of it.

The argument says who has the port: `proxy`, the gateway, or `milter`, a Postfix that asks it.
Exit status 0 if every message met its expected fate, 1 if not. On a terminal everything stays up
for trying by hand until Ctrl-C; the gateway's directory, `.demo`, stays readable afterwards.
"""

import contextlib
import fcntl
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .daemons import Clamd, DaemonError, Spamd, interrupt_on_termination
from .fate import Fate, try_out
from .front import FRONTS, D, Front, StartFront
from .gateway_process import clamav, dnsbl, spamassassin
from .messages import LISTED_CLIENT, samples
from .nameserver import Nameserver

_DIRECTORY = Path.cwd() / ".demo"
_ZONE = "bl.example.net"
_UNBOUNDED = 1000  # columns: more than anything printed here has
_ORDER = ("recipients", "blocklist", "virus", "spam")


def main(name: str) -> int:
    """Start everything, send everything, print what became of it."""
    interrupt_on_termination()
    # Elsewhere than on a terminal nothing is cut or folded, however long.
    console = Console() if sys.stdout.isatty() else Console(width=_UNBOUNDED)
    try:
        with _alone(), _front(_named(name), console) as front:
            fates = list(_send_all(front, console))
            _report(f"FRONT={name}: {front.what}", fates, console)
            _print_wrong(fates, console)
            _print_commands(front, fates, console)
            if console.is_terminal:
                _wait_for_interrupt(front, console)
    except DaemonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if any(fate.differences for fate in fates) else 0


def _named(name: str) -> StartFront:
    if name not in FRONTS:
        raise DaemonError(f"FRONT is {' or '.join(FRONTS)}, not {name!r}")
    return FRONTS[name]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Only one at a time in a checkout: it owns `.demo`."""
    with Path(__file__).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DaemonError("another demonstration is running in this checkout") from None
        yield


@contextlib.contextmanager
def _front(start_front: StartFront, console: Console) -> Iterator[Front]:
    with contextlib.ExitStack() as running:

        def start(daemon: D, /) -> D:
            with _step(console, f"starting {daemon.name}"):
                running.enter_context(daemon)
            return daemon

        clamd, spamd = start(Clamd()), start(Spamd())
        nameserver = running.enter_context(Nameserver(_ZONE, [LISTED_CLIENT]))
        filters = [clamav(clamd.address), spamassassin(spamd.address), dnsbl(nameserver.address, _ZONE)]
        yield start_front(start, filters, _ORDER, _DIRECTORY)


@contextlib.contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"{what} ..."):
        yield
    console.print(f"{what}: {time.monotonic() - started:.1f} s", highlight=False)


def _send_all(front: Front, console: Console) -> Iterator[Fate]:
    for sample in samples():
        with console.status(f"sending: {sample.what} ..."):
            yield try_out(front, sample)


def _report(title: str, fates: list[Fate], console: Console) -> None:
    """One line a message; where the terminal is too narrow for that, two columns share one."""
    table = _table(_HEADINGS, [_cells(fate) for fate in fates], fates)
    unbounded = console.options.update(width=_UNBOUNDED)
    if console.measure(table, options=unbounded).maximum > console.width:
        table = _table(_stacked(_HEADINGS), [_stacked(_cells(fate)) for fate in fates], fates)
    console.print(f"\n{title}", highlight=False)
    console.print(table)


_HEADINGS = ("", "sent", "the client was told", "at stage", "by policy", "reason", "took", "Postfix received")


def _cells(fate: Fate) -> tuple[str, ...]:
    return (
        "WRONG" if fate.differences else "ok",
        fate.sample.what,
        f"{fate.reply.code} {fate.reply.text}",
        *(str(fate.record.get(key) or "-") for key in ("stage", "policy", "reason")),
        f"{fate.seconds * 1000:.0f} ms",
        _delivery(fate),
    )


def _stacked(cells: tuple[str, ...]) -> tuple[str, ...]:
    mark, sent, told, stage, policy, reason, took, received = cells
    return (mark, f"{sent}\n{told}", f"{stage}\n{policy}\n{reason}", f"{took}\n{received}")


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]], fates: list[Fate]) -> Table:
    table = Table(show_lines=len(headings) < len(_HEADINGS))
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading == "took" else "left")
    for row, fate in zip(rows, fates, strict=True):
        table.add_row(*map(escape, row), style="bold red" if fate.differences else "")
    return table


def _delivery(fate: Fate) -> str:
    if fate.received is None:
        return "nothing"
    return f"{len(fate.sample.content):,} octets, {'identical' if fate.arrived_whole else 'ALTERED'}"


def _print_wrong(fates: list[Fate], console: Console) -> None:
    for fate in fates:
        for difference in fate.differences:
            console.print(f"WRONG  {fate.sample.what}: {difference}", style="bold red", markup=False)


def _print_commands(front: Front, fates: list[Fate], console: Console) -> None:
    """How to look further, ready to be pasted."""
    program, configuration = Path(sys.executable).with_name("sluicegate"), front.gateway.configuration
    config = f"--config {shlex.quote(_short(configuration))}"
    refused = [fate for fate in fates if fate.reply.reference]
    console.print("\nLook further:")
    commands = [f"log {config}", f"log {config} --verdict rejected --json"]
    commands += [f"explain {fate.reply.reference} {config}" for fate in refused[:2]]
    for command in commands:
        console.print(
            f"  {shlex.quote(_short(program))} {command}", markup=False, highlight=False, soft_wrap=True
        )


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _wait_for_interrupt(front: Front, console: Console) -> None:
    console.print(
        f"\nStill running: {front.what}. SMTP at {front.address}; Postfix knows"
        f" {', '.join(front.postfix.users)} at example.com. For example:\n"
        f"  swaks --server {front.address} --from anna@example.org --to b@example.com\n"
        f"Mailboxes: {front.postfix.directory}/mail\nCtrl-C ends it.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(" ".join(sys.argv[1:])))
    sys.exit(130)
