"""`sluicegate explain`: the whole story of one decision."""

import os
import shlex
import sys
from pathlib import Path

import click

from gateway.cli.common import config_option
from gateway.cli.records import json_line, reading_journal
from gateway.journal.explain import explain
from gateway.journal.index import canonical_reference
from gateway.journal.record import decode, is_reference
from gateway.journal.search import Query, search_lines
from gateway.journal.text import visible


class UnknownReference(click.ClickException):
    """No record has this reference."""

    exit_code = os.EX_NOINPUT


@click.command("explain")
@click.argument("reference")
@click.option("--json", "as_json", is_flag=True, help="The record, as it was recorded.")
@config_option
def command(reference: str, as_json: bool, config_file: Path) -> None:
    """Tell the whole story of the decision whose reference is in the reply, such as 7K3F-Q2MD."""
    with reading_journal(config_file) as layout:
        lines = list(search_lines(layout.index, layout.spool, Query(reference=reference, limit=None)))
    if not lines:
        raise UnknownReference(f"no record has the reference {visible(reference)}{_hint(reference)}")
    if as_json:
        sys.stdout.buffer.writelines(map(json_line, lines))
    else:
        click.echo("\n\n".join(explain(decode(line)) for line in lines).encode())


def _hint(text: str) -> str:
    """Where to look for what cannot be a reference, such as an MTA's queue ID."""
    letters = canonical_reference(text)
    if is_reference(f"{letters[:4]}-{letters[4:]}"):
        return ""
    return f"; for a queue ID or other words: sluicegate log --text {shlex.quote(visible(text))}"
