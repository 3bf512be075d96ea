"""`sluicegate scan`: judge messages from files as if they had been received."""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from gateway.assembly import Assembly, assemble
from gateway.cli.common import MailboxType, config_option, echo_table
from gateway.config import Config, load
from gateway.journal.deeds import Deed, deeds, wishes
from gateway.journal.explain import explain
from gateway.journal.record import Record, encode
from gateway.journal.text import visible
from gateway.letters import Letter, LetterError, files_of, read_letters
from gateway.log import configure_logging
from gateway.scanning import by_profile, judge_message
from gateway.smtp.address import NULL_PATH
from gateway.smtp.address import Path as Mailbox
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import MTA, IPAddress, Session
from gateway.smtp.transaction import Stage

REJECTED = 1


class _Address(click.ParamType[IPAddress]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPAddress:
        try:
            return ip_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("scan")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True))
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
@click.option(
    "--envelope-from-headers",
    is_flag=True,
    help="Sender and recipient as Return-Path, X-Envelope-From, Delivered-To or an mbox say.",
)
@click.option("--mbox/--no-mbox", "is_mbox", default=None, help="What FILES are; told by their beginning.")
@click.option(
    "--jobs", type=click.IntRange(1, 100), default=4, show_default=True, help="Messages judged at once."
)
@click.option("--verbose", is_flag=True, help="The whole chain of evidence, also of many messages.")
@click.option("--json", "as_json", is_flag=True, help="One record a line.")
@config_option
def command(
    files: tuple[str, ...],
    client: IPAddress | None,
    helo: str | None,
    sender: Mailbox,
    recipients: tuple[Mailbox, ...],
    envelope_from_headers: bool,
    is_mbox: bool | None,
    jobs: int,
    verbose: bool,
    as_json: bool,
    config_file: Path,
) -> int:
    """Judge messages as if received; exit 0 if all would be accepted, 1 rejected, 75 tempfailed.

    FILES are messages, mailboxes (mbox), maildirs, and directories with *.eml files; - is standard input.
    """
    configure_logging()
    config = load(config_file)
    given = {Stage.CONNECT: client, Stage.HELO: helo}
    circumstances = Circumstances(
        _session(config, client, helo),
        sender,
        recipients,
        envelope_from_headers,
        tuple(stage for stage, fact in given.items() if not fact),
    )
    report = Report(verbose, as_json)
    try:
        letters = read_letters([found for name in files for found in _files(name)], is_mbox)
        asyncio.run(_scan(config, letters, circumstances, jobs, report))
    except LetterError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise UnreadableFile(str(error)) from error
    finally:
        report.end()
    return report.status


def _session(config: Config, client: IPAddress | None, helo: str | None) -> Session:
    """That of a client of ours, or of an MTA that asks where nobody can bring us any mail."""
    mta = None if config.listeners("smtp") else MTA(config.gateway.hostname, "scan")
    return Session(client or ip_address("127.0.0.1"), 0, "scan", helo_name=helo, esmtp=True, mta=mta)


def _files(name: str) -> Sequence[Path | None]:
    return [None] if name == "-" else files_of(Path(name))


class UnreadableFile(click.ClickException):
    """A file is there and cannot be read."""

    exit_code = os.EX_NOINPUT


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How the messages are taken to have come; stages of which nothing is known are in `skip`."""

    session: Session
    sender: Mailbox
    recipients: tuple[Mailbox, ...]
    by_headers: bool
    skip: tuple[Stage, ...]

    def envelope(self, letter: Letter) -> Envelope:
        """As a client would have announced it: addresses beyond ASCII need SMTPUTF8 (RFC 6531)."""
        sender, recipients = self.sender, self.recipients
        if self.by_headers:
            said, delivered_to = letter.sender(), letter.recipient()
            sender = sender if said is None else said
            recipients = recipients if delivered_to is None else (delivered_to,)
        is_ascii = all(path.is_ascii for path in (sender, *recipients))
        return Envelope(sender, recipients, parameters={} if is_ascii else {"SMTPUTF8": None})

    async def judge(self, assembly: Assembly, letter: Letter) -> list[Record]:
        """The records that the letter would have had, one for each profile among its recipients."""
        envelope = self.envelope(letter)
        skip = self.skip if envelope.recipients else (*self.skip, Stage.RCPT)
        try:
            return [
                await judge_message(assembly, self.session, each, letter.content, skip)
                for each in by_profile(assembly, envelope)
            ]
        finally:
            letter.content.close()


async def _scan(
    config: Config, letters: Iterable[Letter], circumstances: Circumstances, jobs: int, report: "Report"
) -> None:
    """Judge so many at a time, and report them in their order."""
    assembly = assemble(config)
    waiting: deque[tuple[str, asyncio.Task[list[Record]]]] = deque()
    unreadable: Exception | None = None
    try:
        try:
            for letter in letters:
                if letter.doubt:
                    click.echo(f"{visible(letter.name)}: {letter.doubt}; judged all the same", err=True)
                waiting.append((letter.name, asyncio.create_task(circumstances.judge(assembly, letter))))
                if len(waiting) >= jobs:
                    await _report_first(waiting, report)
        except (OSError, LetterError) as error:
            unreadable = error
        while waiting:
            await _report_first(waiting, report)
        if unreadable is not None:
            raise unreadable
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
        await assembly.close()


async def _report_first(waiting: "deque[tuple[str, asyncio.Task[list[Record]]]]", report: "Report") -> None:
    name, task = waiting.popleft()
    report.add(name, await task)


class Report:
    """What is printed: of one message everything, of many a line each and then the counts."""

    def __init__(self, verbose: bool, as_json: bool) -> None:
        self._verbose = verbose
        self._as_json = as_json
        self._first: tuple[str, list[Record]] | None = None
        self._messages = 0
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._beside: Counter[tuple[str, str, str]] = Counter()

    def add(self, name: str, records: list[Record]) -> None:
        """The next message. The first one waits until it is known whether it is the only one."""
        self._messages += 1
        self._counts.update((record.verdict, record.reason, record.policy or "-") for record in records)
        for record in records:
            # A record counts once, whatever it has twice; in order, for the table.
            beside = dict.fromkeys((deed.kind, deed.what, deed.policy) for deed in _beside(record))
            self._beside.update(list(beside))
        if self._messages == 1 and not self._as_json:
            self._first = (name, records)
            return
        self._release(self._verbose)
        self._show(name, records, self._verbose)

    def end(self) -> None:
        """Nothing comes any more."""
        self._release(True)
        if self._messages > 1 and not self._as_json:
            _echo_counts(("VERDICT", "REASON", "POLICY"), self._counts)
            if self._beside:
                _echo_counts(("BESIDE THAT", "WHAT OR WHY", "POLICY"), self._beside)

    @property
    def status(self) -> int:
        """The exit status: that of the worst verdict."""
        verdicts = {verdict for verdict, _, _ in self._counts}
        if "rejected" in verdicts:
            return REJECTED
        return os.EX_TEMPFAIL if "tempfailed" in verdicts else os.EX_OK

    def _release(self, whole: bool) -> None:
        if self._first is not None:
            self._show(*self._first, whole)
            self._first = None

    def _show(self, name: str, records: list[Record], whole: bool) -> None:
        for record in records:
            if self._as_json:
                click.echo(encode(record), nl=False)
            elif whole:
                story = explain(record, is_trial=True)
                click.echo(f"{visible(name)}: {record.verdict}: {record.reason}\n{story}".encode())
            else:
                click.echo(_line(name, record).encode())


def _echo_counts(headings: tuple[str, ...], counts: Counter[tuple[str, str, str]]) -> None:
    click.echo()
    echo_table([("MESSAGES", *headings), *((str(number), *what) for what, number in counts.most_common())])


def _beside(record: Record) -> list[Deed]:
    """What policies did beside the verdict, or would have done if they did not only warn."""
    return [*wishes(record), *deeds(record)]


def _line(name: str, record: Record) -> str:
    by = f", by {record.policy}" if record.policy else ""
    beside = "".join(f"; {deed.kind} {deed.what}, by {deed.policy}" for deed in _beside(record))
    subject = record.message.subject if record.message else None
    return visible(f"{name}: {record.verdict}: {record.reason}{by}{beside}  {subject or ''}".rstrip())
