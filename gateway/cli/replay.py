"""`sluicegate replay`: judge recorded mail again by other settings or policies; what would flip?"""

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.assembly import Assembly, assemble
from gateway.cli.common import config_option, echo_table
from gateway.cli.records import Since, json_line, reading_journal
from gateway.config import load
from gateway.journal.record import Record, decode
from gateway.journal.search import Query, search_lines
from gateway.log import configure_logging
from gateway.replay.replaying import GOES_ON, Outcome, Replay, Replayed
from gateway.replay.tally import Tally, is_of, line_of

FLIPPED = 1


@click.command("replay")
@click.option(
    "--since",
    type=Since(),
    default="7d",
    show_default=True,
    help="Not older than 30m, 2h, 7d, or an ISO 8601 time (local).",
)
@click.option("--limit", type=click.IntRange(min=1), help="The newest so many records; all without it.")
@click.option("--policy", help="Only what this policy decides, now or then.")
@click.option(
    "--json", "as_json", is_flag=True, help="A flip or undetermined record a line, then the counts."
)
@config_option
def command(since: datetime, limit: int | None, policy: str | None, as_json: bool, config_file: Path) -> int:
    """Judge recorded mail again by this configuration, offline; exit 1 if any verdict flips.

    The records are those below its state_directory. No filter is asked, and nothing is written.
    """
    configure_logging()
    assembly = assemble(load(config_file))
    tally = Tally(policy)
    with reading_journal(config_file) as layout:
        lines = search_lines(layout.index, layout.spool, Query(since=since, limit=limit))
        asyncio.run(_replay(assembly, map(decode, lines), tally, as_json))
    _check_policy(policy, assembly, tally)
    if as_json:
        _echo_json(tally.as_json())
    elif tally.records:
        _echo(tally)
    else:
        click.echo(f"no records since {since:%Y-%m-%dT%H:%M:%SZ} below {layout.state_directory}")
    return FLIPPED if tally.flipped else os.EX_OK


async def _replay(assembly: Assembly, records: Iterable[Record], tally: Tally, as_json: bool) -> None:
    replay = Replay(assembly.profiles, assembly.router)
    try:
        for record in records:
            replayed = await replay.judge(record)
            if tally.add(replayed) and as_json:
                _echo_json(line_of(replayed))
    finally:
        await assembly.close()


def _check_policy(policy: str | None, assembly: Assembly, tally: Tally) -> None:
    known = {setting.policy.name for setting in assembly.policies}
    if policy is not None and policy not in known and not tally.flipped:
        raise click.UsageError(f"no policy {policy!r} is in force, and none decided any of these records")


def _echo_json(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json_line(msgspec.json.encode(value)))


def _echo(tally: Tally) -> None:
    """The counts, then each flip."""
    for rows in (_counts(tally), _changes(tally), _recalled(tally), _doubts(tally), _flips(tally)):
        table = list(rows)
        if table:
            echo_table(table)
            click.echo()


def _counts(tally: Tally) -> Iterator[tuple[str, ...]]:
    yield "records", str(tally.records)
    yield "judged again", str(tally.judged)
    yield "  unchanged", f"{tally.unchanged}{_in_brackets(tally.other_reasons, 'for another reason')}"
    yield "  flips", str(len(tally.flipped))
    yield "  undetermined", str(tally.undetermined)
    if tally.policy is not None:
        yield "  of other policies", str(tally.of_others)
    yield "not judged", str(tally.skipped.total())
    for why, number in tally.skipped.most_common():
        yield f"  {why}", str(number)


def _in_brackets(number: int, words: str) -> str:
    return f" ({number} {words})" if number else ""


def _changes(tally: Tally) -> Iterator[tuple[str, ...]]:
    if tally.flips:
        yield "RECORDS", "VERDICT THEN", "VERDICT NOW"
    for (then, now, verdicts), number in tally.flips.most_common():
        yield str(number), _words(then), _words(now, verdicts)


def _recalled(tally: Tally) -> Iterator[tuple[str, ...]]:
    if tally.recalled:
        yield "RECORDS", "RECORDED OPINION USED"
    for policy, number in tally.recalled.most_common():
        yield str(number), policy


def _doubts(tally: Tally) -> Iterator[tuple[str, ...]]:
    if tally.doubts:
        yield "RECORDS", "NOT REPLAYABLE", "FOR WANT OF"
    for (policy, cause), number in tally.doubts.most_common():
        yield str(number), policy, cause


def _flips(tally: Tally) -> Iterator[tuple[str, ...]]:
    if tally.flipped:
        yield "REFERENCE", "TIME", "SENDER", "RECIPIENTS", "VERDICT THEN", "VERDICT NOW", "SUBJECT"
    for replayed in tally.flipped:
        yield from _flips_of(replayed, tally.policy)


def _flips_of(replayed: Replayed, policy: str | None) -> Iterator[tuple[str, ...]]:
    record = replayed.record
    subject = record.message.subject if record.message else None
    for fate in replayed.flips:
        if is_of(replayed, fate, policy):
            yield (
                record.reference,
                f"{record.time[:19]}Z",
                record.reverse_path or "-",
                " ".join(fate.recipients) or "-",
                _words(replayed.then),
                _words(fate.outcome, fate.verdicts),
                subject or "-",
            )


def _words(outcome: Outcome, verdicts: frozenset[str] = frozenset()) -> str:
    if len(verdicts) > 1:
        return " or ".join("would go on" if verdict == GOES_ON else verdict for verdict in sorted(verdicts))
    if outcome.verdict == GOES_ON:
        return f"would go on beyond {outcome.stage}"
    by = f", by {outcome.policy}" if outcome.policy else ""
    reason = "" if outcome.reason == outcome.verdict else f": {outcome.reason}"
    return f"{outcome.verdict}{reason}{by}"
