"""`sluicegate scan`: judge messages from files as if they had been received."""

import asyncio
import os
import tempfile
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from gateway.assembly import assemble
from gateway.cli.common import MailboxType, config_option
from gateway.config import Config, load
from gateway.journal.explain import explain
from gateway.journal.record import Record, encode
from gateway.log import configure_logging
from gateway.scanning import by_profile, judge_message
from gateway.smtp.address import NULL_PATH
from gateway.smtp.address import Path as Mailbox
from gateway.smtp.content import normalized
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import IPAddress, Session
from gateway.smtp.transaction import Stage
from gateway.spool import Spool, Store

REJECTED = 1


class _Address(click.ParamType[IPAddress]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPAddress:
        try:
            return ip_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("scan")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--client", type=_Address(), help="Address of the sending host; without it, nothing is judged at connect."
)
@click.option("--helo", help="The name it claims; without it, nothing is judged at HELO.")
@click.option(
    "--sender", type=MailboxType(), default=NULL_PATH, help="Reverse-path; the null one by default."
)
@click.option(
    "--recipient",
    "recipients",
    type=MailboxType(),
    multiple=True,
    help="Forward-path; none: nothing is judged at RCPT.",
)
@click.option("--json", "as_json", is_flag=True, help="One record a line.")
@config_option
def command(
    files: tuple[Path, ...],
    client: IPAddress | None,
    helo: str | None,
    sender: Mailbox,
    recipients: tuple[Mailbox, ...],
    as_json: bool,
    config_file: Path,
) -> int:
    """Judge messages as if received; exit 0 if all would be accepted, 1 rejected, 75 tempfailed."""
    configure_logging()
    config = load(config_file)
    session = Session(client or ip_address("127.0.0.1"), 0, "scan", helo_name=helo, esmtp=True)
    envelope = _envelope(sender, recipients)
    given = {Stage.CONNECT: client, Stage.HELO: helo, Stage.RCPT: recipients}
    skip = [stage for stage, fact in given.items() if not fact]
    verdicts = asyncio.run(_scan(config, files, session, envelope, skip, as_json))
    if "rejected" in verdicts:
        return REJECTED
    return os.EX_TEMPFAIL if "tempfailed" in verdicts else os.EX_OK


def _envelope(sender: Mailbox, recipients: tuple[Mailbox, ...]) -> Envelope:
    """As a client would have announced it: addresses beyond ASCII need SMTPUTF8 (RFC 6531)."""
    is_ascii = all(path.is_ascii for path in (sender, *recipients))
    return Envelope(sender, recipients, parameters={} if is_ascii else {"SMTPUTF8": None})


async def _scan(
    config: Config,
    files: Iterable[Path],
    session: Session,
    envelope: Envelope,
    skip: list[Stage],
    as_json: bool,
) -> set[str]:
    assembly = assemble(config)
    verdicts = set()
    try:
        for file in files:
            spool = _received(file)
            for each in by_profile(assembly, envelope):
                record = await judge_message(assembly, session, each, spool, skip)
                _show(file, record, as_json)
                verdicts.add(record.verdict)
            spool.close()
    finally:
        await assembly.close()
    return verdicts


def _received(file: Path) -> Spool:
    """The file's content as it would have arrived: CRLF at the end of every line."""
    content = normalized(file.read_bytes())
    spool = Spool(Store(Path(tempfile.gettempdir())), limit=len(content))
    spool.append(content)
    return spool


def _show(file: Path, record: Record, as_json: bool) -> None:
    if as_json:
        click.echo(encode(record), nl=False)
    else:
        click.echo(f"{file}: {record.verdict}: {record.reason}\n{explain(record)}")
