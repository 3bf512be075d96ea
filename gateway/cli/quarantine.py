"""`sluicegate quarantine`: what policies have had us keep; release it, or delete it."""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import click
import msgspec

from gateway.assembly import router_of
from gateway.cli.common import MailboxType, config_option, echo_table
from gateway.cli.records import Since, json_line
from gateway.config import Config, load
from gateway.journal.deeds import is_held
from gateway.journal.index import JournalError
from gateway.journal.layout import Layout
from gateway.journal.record import timestamp
from gateway.journal.search import find
from gateway.journal.text import visible
from gateway.quarantine.releasing import Releaser
from gateway.quarantine.store import Entry, Quarantine, quarantine_directory
from gateway.smtp.address import Path as Mailbox

_HEADINGS = ("TIME", "REFERENCE", "REASON", "POLICY", "CLIENT", "SENDER", "RECIPIENTS", "KEPT", "SUBJECT")


class NotInQuarantine(click.ClickException):
    """Nothing is kept under this reference."""

    exit_code = os.EX_NOINPUT


@click.group("quarantine", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One entry a line.")
@config_option
@click.pass_context
def command(context: click.Context, as_json: bool, config_file: Path) -> None:
    """List what is kept, the oldest first."""
    if context.invoked_subcommand is not None:
        return
    entries = _quarantine(load(config_file)).entries()
    if as_json:
        sys.stdout.buffer.writelines(json_line(msgspec.json.encode(entry)) for entry in entries)
    else:
        echo_table([_HEADINGS, *map(_row, entries)])


@command.command("show")
@click.argument("reference")
@config_option
def show(reference: str, config_file: Path) -> None:
    """Print the message, octet for octet."""
    config = load(config_file)
    (entry,) = _find(config, [reference])
    with _quarantine(config).open(entry.reference) as file:
        shutil.copyfileobj(file, sys.stdout.buffer)


@command.command("release")
@click.argument("references", nargs=-1, required=True)
@click.option("--to", type=MailboxType(), multiple=True, help="To this recipient; it stays here for its own.")
@config_option
def hand_over(references: tuple[str, ...], to: tuple[Mailbox, ...], config_file: Path) -> int:
    """Hand messages to the downstream; one that all its recipients have is deleted."""
    config = load(config_file)
    entries = _find(config, references)
    outcomes = asyncio.run(_release(config, entries, to))
    echo_table([("REFERENCE", "RECIPIENT", "DELIVERED", "THE DOWNSTREAM SAID"), *outcomes])
    return 0 if all(delivered == "yes" for _, _, delivered, _ in outcomes) else os.EX_TEMPFAIL


@command.command("delete")
@click.argument("references", nargs=-1)
@click.option("--before", type=Since(), help="All older than 30d, or than an ISO 8601 time.")
@config_option
def delete(references: tuple[str, ...], before: datetime | None, config_file: Path) -> None:
    """Delete messages, by reference or by age."""
    if bool(references) == bool(before):
        raise click.UsageError("say which: references, or --before")
    config = load(config_file)
    quarantine = _quarantine(config)
    if before:
        quarantine.sweep(before.timestamp())
    entries = _find(config, references) if references else _older(config, before)
    for entry in entries:
        quarantine.delete(entry.reference)
        click.echo(f"{entry.reference} deleted")


def _quarantine(config: Config) -> Quarantine:
    return Quarantine(quarantine_directory(Path(config.gateway.state_directory)))


def _find(config: Config, references: Sequence[str]) -> list[Entry]:
    """The entries of all these references. Raises NotInQuarantine before anything is done."""
    quarantine = _quarantine(config)
    found = {reference: quarantine.find(reference.upper()) for reference in references}
    missing = [reference for reference, entry in found.items() if entry is None]
    if missing:
        raise NotInQuarantine("; ".join(_absence(config, reference) for reference in missing))
    return [entry for entry in found.values() if entry is not None]


def _absence(config: Config, reference: str) -> str:
    """That nothing is kept under it, and where the message is if an MTA holds it."""
    layout = Layout(Path(config.gateway.state_directory))
    said = f"nothing is kept under {visible(reference)}"
    with suppress(JournalError):
        for record in find(layout.index, layout.spool, reference):
            if record.mta is not None and is_held(record):
                where = visible(
                    f"{record.mta.name or 'the MTA'}, queue ID {record.mta.queue_id or 'unknown'}"
                )
                return f"{said}: it is held by {where}; see: sluicegate explain {record.reference}"
    return said


def _older(config: Config, before: datetime | None) -> list[Entry]:
    limit = timestamp(before)
    return [entry for entry in _quarantine(config).entries() if entry.time < limit]


async def _release(
    config: Config, entries: Sequence[Entry], to: Sequence[Mailbox]
) -> list[tuple[str, str, str, str]]:
    gateway = config.gateway
    releaser = Releaser(_quarantine(config), router_of(config), gateway.hostname, gateway.deadline)
    rows = []
    for entry in entries:
        for outcome in await releaser.release(entry, to):
            delivered = "yes" if outcome.is_delivered else "no"
            rows.append((entry.reference, outcome.recipient, delivered, outcome.said))
    return rows


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.time,
        entry.reference,
        entry.reason,
        entry.policy or "-",
        entry.client,
        entry.reverse_path or "<>",
        " ".join(entry.recipients),
        "copy" if entry.is_copy else "message",
        entry.subject or "",
    )
