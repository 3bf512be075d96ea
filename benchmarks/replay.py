"""`make bench-replay`: how long `sluicegate replay` takes over a journal of made-up decisions.

The records are those of a day's mail at a small site, half of them in the index, half in the spool; the
settings differ from those that made them, so that some flip. One process, one core.
"""

import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from gateway.journal.keeper import Keeper
from gateway.journal.layout import Layout
from gateway.journal.record import (
    ClientRecord,
    MessageRecord,
    Record,
    encode,
    new_reference,
    timestamp,
)

_CONFIGURATION = """\
[gateway]
hostname = "mx.example.com"
state_directory = "{state}"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["example.com"]
address = ["127.0.0.1:10025"]
[filters.clamav]
address = "127.0.0.1:3310"
[filters.spamassassin]
address = "127.0.0.1:783"
[filters.dnsbl]
zones = {{ "bl.example.net" = 5 }}
[policies]
order = ["blocklist", "recipients", "virus", "spam"]
[policies.spam]
reject_score = 6.0
"""
_NINETY_DAYS = 7_776_000.0


def _record(chance: random.Random, number: int) -> Record:
    """One decision of the kinds that there are most of."""
    when = datetime.now(UTC) - timedelta(seconds=chance.uniform(60, 86_400))
    address, user = f"192.0.2.{chance.randrange(256)}", chance.randrange(500)
    (kind,) = chance.choices((_message, _listed, _unknown, _given_up), (70, 20, 7, 3))
    return Record(
        reference=new_reference(),
        time=timestamp(when),
        node="mx.example.com",
        listener="127.0.0.1:2525",
        client=ClientRecord(address, 40_000, helo=f"mail{number}.example.net", protocol="ESMTP"),
        reverse_path=f"sender{number}@example.net",
        recipients=[f"user{user}@example.com"],
        parameters={"SIZE": "12345", "BODY": "8BITMIME"},
        opinions={"blocklist": {"verdict": None, "mode": "enforce", "stage": "connect"}},
        **kind(chance, number),
    )


def _found(source: str, **fields: object) -> dict[str, Any]:
    return {**fields, "source": source, "elapsed": 0.01}


def _decided(verdict: str, stage: str, spoken: str, reason: str, policy: str | None = None) -> dict[str, Any]:
    return {"verdict": verdict, "stage": stage, "spoken": spoken, "reason": reason, "policy": policy}


def _listed(_: random.Random, __: int) -> dict[str, Any]:
    listings = _found("dnsbl", total=5.0, zones={"bl.example.net": ["127.0.0.2"]})
    decided = _decided("rejected", "connect", "rcpt", "dns-blocklisted", "blocklist")
    return {**decided, "evidence": {"Listings": listings}}


def _unknown(_: random.Random, __: int) -> dict[str, Any]:
    return {**_decided("rejected", "rcpt", "rcpt", "unknown-recipient"), "evidence": dict(_AT_RCPT)}


def _given_up(_: random.Random, __: int) -> dict[str, Any]:
    return {**_decided("aborted", "rcpt", "rcpt", "client-disconnected"), "evidence": dict(_AT_RCPT)}


def _message(chance: random.Random, number: int) -> dict[str, Any]:
    """A whole message, refused as spam or passed on."""
    score = round(chance.gauss(1.0, 3.0), 1)
    decided = _decided("accepted", "relay", "end-of-data", "accepted")
    if score >= 8.0:
        decided = _decided("rejected", "end-of-data", "end-of-data", "spam-score", "spam")
    rules = ["BAYES_50", "HTML_MESSAGE", "SPF_PASS", "DKIM_VALID", "URIBL_BLOCKED"]
    evidence = {
        **_AT_RCPT,
        "VirusReport": _found("clamav", signature=None),
        "SpamReport": _found("spamassassin", score=score, threshold=5.0, rules=rules),
    }
    message = MessageRecord(
        chance.randrange(500, 100_000),
        f"{number:064x}",
        f"<{number}@example.net>",
        f"Message number {number}",
        f"Sender {number} <sender{number}@example.net>",
    )
    return {**decided, "evidence": evidence, "message": message}


_AT_RCPT = {
    "Listings": _found("dnsbl", total=0.0, zones={}),
    "Route": _found("relay", domain="example.com"),
}


def _journal(directory: Path, records: int) -> Path:
    """A state directory with so many records and a configuration for it; the configuration's path."""
    layout = Layout(directory / "state")
    layout.spool.mkdir(parents=True)
    chance = random.Random(1)
    lines = [encode(_record(chance, number)) for number in range(records)]
    keeper = Keeper(layout.spool, layout.index, _NINETY_DAYS)
    for name, part in (("1-1-1", lines[: records // 2]), ("2-2-2", lines[records // 2 :])):
        (layout.spool / f"{name}.jsonl").write_bytes(b"".join(part))
        if name == "1-1-1":
            keeper.poll()
    keeper.close()
    file = directory / "sluicegate.toml"
    file.write_text(_CONFIGURATION.format(state=layout.state_directory))
    return file


def _measure(file: Path) -> tuple[float, float, str]:
    """Seconds, seconds of CPU, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "replay", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1}:
        raise click.ClickException(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, used, done.stdout


@click.command(context_settings={"show_default": True})
@click.option("--records", type=click.IntRange(1, 1_000_000), default=10_000, help="Records in the journal.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, help="Runs; the median counts.")
def main(records: int, rounds: int) -> None:
    """Measure `sluicegate replay`, the start of the process included."""
    with tempfile.TemporaryDirectory() as directory:
        file = _journal(Path(directory), records)
        runs = [_measure(file) for _ in range(rounds)]
    print(runs[0][2].partition("REFERENCE")[0].strip())
    elapsed = statistics.median(run[0] for run in runs)
    cpu = statistics.median(run[1] for run in runs)
    print(
        f"\n{records} records: {elapsed:.2f} s, {cpu:.2f} s of CPU, median of {rounds};"
        f" Python {platform.python_version()}, {platform.machine()}"
    )


if __name__ == "__main__":
    main()
