"""`sluicegate quarantine`: list, show, release, delete."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from gateway.journal.layout import Layout
from gateway.journal.record import MTARecord
from gateway.quarantine.store import Entry, Quarantine, quarantine_directory
from tests.config.command import sluicegate
from tests.fakes.mta import FakeMTA, say
from tests.journal.records import make_record, put

CONFIG = """
[gateway]
hostname = "mx.test"
state_directory = "{state}"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["our.example"]
address = ["{mta}"]
"""
CONTENT = b"Subject: \x1b[31mx\r\n\r\n\x00\xc3\xbc\r\n"
OLD, NEW = "7K3F-Q2MD", "AAAA-AAAA"

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    directory = quarantine_directory(tmp_path)
    directory.mkdir()
    quarantine = Quarantine(directory)
    for reference, time in ((OLD, "2026-01-01T00:00:00.000000Z"), (NEW, "2026-03-01T00:00:00.000000Z")):
        entry = Entry(
            reference=reference,
            time=time,
            reason="odd",
            policy="strange",
            client="192.0.2.1",
            reverse_path="",
            recipients=["u1@our.example"],
            subject="\x1b[31mx",
        )
        asyncio.run(quarantine.keep(entry, [CONTENT]))
    return quarantine


@pytest.fixture
def run(tmp_path: Path, mta: FakeMTA, quarantine: Quarantine) -> Run:
    file = tmp_path / "sluicegate.toml"
    file.write_text(CONFIG.format(state=tmp_path, mta=mta.address))

    def run(*arguments: str) -> CompletedProcess[str]:
        return sluicegate(tmp_path, "quarantine", *arguments, "--config", str(file))

    return run


def test_the_list_has_the_oldest_first_and_cannot_steer_a_terminal(run: Run):
    result = run()
    heading, first, second = result.stdout.splitlines()
    assert heading.split()[:2] == ["TIME", "REFERENCE"]
    assert (first.split()[1], second.split()[1]) == (OLD, NEW)
    assert first.split()[2:8] == ["odd", "strange", "192.0.2.1", "<>", "u1@our.example", "message"]
    assert "\x1b" not in result.stdout


def test_with_json_it_is_one_entry_a_line(run: Run):
    entries = [json.loads(line) for line in run("--json").stdout.splitlines()]
    assert [entry["reference"] for entry in entries] == [OLD, NEW]
    assert entries[0]["recipients"] == ["u1@our.example"]


def test_it_shows_a_message_and_releases_it(run: Run, mta: FakeMTA, quarantine: Quarantine):
    assert run("show", OLD.lower()).stdout == CONTENT.decode().replace("\r\n", "\n")
    result = run("release", OLD)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1].split()[:3] == [OLD, "u1@our.example", "yes"]
    assert mta.messages[0].content == CONTENT
    assert [entry.reference for entry in quarantine.entries()] == [NEW]


def test_a_message_that_is_not_taken_stays(run: Run, mta: FakeMTA, quarantine: Quarantine):
    mta.script = {"RCPT": say("452 4.2.2 full")}
    result = run("release", OLD)
    assert result.returncode == os.EX_TEMPFAIL
    assert "no         452 4.2.2 full" in result.stdout
    assert len(list(quarantine.entries())) == 2


def test_it_deletes_by_reference_or_by_age(run: Run, quarantine: Quarantine):
    assert run("delete", "--before", "2026-02-01").stdout == f"{OLD} deleted\n"
    assert run("delete", NEW).stdout == f"{NEW} deleted\n"
    assert not list(quarantine.entries())


@pytest.mark.parametrize("arguments", [["delete"], ["delete", OLD, "--before", "1d"], ["release"]])
def test_what_to_do_it_to_must_be_said(run: Run, quarantine: Quarantine, arguments: list[str]):
    assert run(*arguments).returncode == os.EX_USAGE
    assert len(list(quarantine.entries())) == 2


@pytest.mark.parametrize("command", ["show", "release", "delete"])
def test_what_is_not_there_is_said_before_anything_is_done(run: Run, quarantine: Quarantine, command: str):
    also = [] if command == "show" else [OLD]
    result = run(command, *also, "BBBB-BBBB")
    assert (result.returncode, result.stdout) == (os.EX_NOINPUT, "")
    assert result.stderr == "Error: nothing is kept under BBBB-BBBB\n"
    assert len(list(quarantine.entries())) == 2


@pytest.mark.parametrize("command", ["show", "release", "delete"])
def test_of_what_an_mta_holds_it_is_said_where_it_is(run: Run, tmp_path: Path, command: str):
    layout = Layout(tmp_path)
    layout.spool.mkdir(parents=True)
    mta = MTARecord("mx.test", "smtpd", "9B93523EC6E")
    held = make_record(verdict="quarantined", reference="BBBB-BBBB", mta=mta, reply=None)
    put(layout.spool, "a", held, make_record(verdict="accepted", reference="CCCC-CCCC", mta=mta))
    assert run(command, "bbbbbbbb").stderr == (
        "Error: nothing is kept under bbbbbbbb: it is held by mx.test, queue ID 9B93523EC6E;"
        " see: sluicegate explain BBBB-BBBB\n"
    )
    assert run(command, "CCCC-CCCC").stderr == "Error: nothing is kept under CCCC-CCCC\n"
