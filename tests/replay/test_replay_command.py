"""`sluicegate replay`, as a process, over what a real gateway has recorded."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.journal.layout import Layout
from tests.client import Client
from tests.config.command import sluicegate
from tests.fakes.mta import FakeMTA, say
from tests.journal.records import put
from tests.replay.judging import record
from tests.supervisor.process import Process

PLUGINS = '''"""A policy about header fields, one about evidence, and the filter that finds it."""

from dataclasses import dataclass
from pathlib import Path

from filters import Filter, FilterError, Finding
from policies import Evidence, Stage, Transaction, Verdict, policy, reject, tempfail


@dataclass(frozen=True, slots=True)
class Weather(Finding):
    degrees: float


class Thermometer(Filter):
    name = "thermometer"
    finds = Weather

    def __init__(self, *, log: str) -> None:
        self._log = Path(log)

    async def find(self, tx: Transaction) -> Weather:
        with self._log.open("a") as log:
            print("asked", file=log)
        if tx.message.header("X-Degrees") is None:
            raise FilterError("no answer from the roof")
        return Weather(float(tx.message.header("X-Degrees")))


@policy(at=Stage.END_OF_DATA)
def words(
    tx: Transaction, evidence: Evidence, *, word: str = "friday", lists: bool = False
) -> Verdict | None:
    """Refuse a word, and mailing lists."""
    if lists and tx.message.header("List-Id"):
        return reject("mailing-list")
    return reject("bad-word", detail=word) if word in (tx.message.header("Subject") or "") else None


@policy(at=Stage.END_OF_DATA, needs=[Weather])
def frost(tx: Transaction, evidence: Evidence, *, below: float = 0.0) -> Verdict | None:
    return reject("too-cold") if evidence[Weather].degrees < below else None


@policy(at=Stage.HELO)
def helo(tx: Transaction, evidence: Evidence, *, bad: str = "bad.example") -> Verdict | None:
    return tempfail("bad-helo") if tx.session.helo_name == bad and tx.session.esmtp else None
'''

POLICIES = """order = ["helo", "recipients", "words", "frost"]
directory = "{directory}/plugins"
[filters.thermometer]
log = "{directory}/thermometer.log"
"""
WARM = "X-Degrees: 20\r\n"
U1 = "u1@our.example"


class Gateway(Process):
    """With policies of its own."""

    def configure(self, extra: str = "", port: int | None = None) -> None:
        super().configure(extra, port)
        policies = POLICIES.format(directory=self.directory)
        self.file.write_text(self.file.read_text().replace('order = ["recipients"]\n', policies))

    def settings(self, text: str) -> str:
        """A configuration that differs by this; its file."""
        file = self.directory / "new.toml"
        file.write_text(self.file.read_text() + text)
        return str(file)


@pytest.fixture
async def recorded(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that has judged some mail."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "own.py").write_text(PLUGINS)
    script = {"RCPT TO:<gone@our.example>": say(b"550 5.1.1 unknown\r\n")}
    async with FakeMTA(script) as mta:
        with Gateway(tmp_path, mta.address) as gateway:
            await send(gateway.port)
            yield gateway


async def send(port: int) -> None:
    """One letter of each kind, in sessions of their own."""
    codes = []
    for helo, recipient, header in (
        ("EHLO c.example", U1, f"Subject: see you on friday\r\n{WARM}"),
        ("EHLO c.example", U1, f"Subject: see you on monday\r\n{WARM}"),
        ("EHLO c.example", U1, "Subject: cold\r\nX-Degrees: -5\r\n"),
        ("EHLO c.example", U1, "Subject: down\r\n"),
        ("EHLO bad.example", U1, ""),
        ("EHLO c.example", "gone@our.example", ""),
        ("EHLO c.example", "x@victim.example", ""),
    ):
        async with Client(port) as client:
            [reply] = await client.open(recipient, helo=helo)
            if reply.code == 250:
                reply = await client.data(f"{header}\r\nHello\r\n".encode())
            codes.append(reply.code)
    assert codes == [550, 250, 550, 451, 451, 550, 550]


def replay(gateway: Gateway, settings: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sluicegate(gateway.directory, "replay", "--config", settings, *arguments)


def replay_to_json(gateway: Gateway, settings: str, *arguments: str) -> tuple[list[Any], dict[str, Any]]:
    """The records that are listed, and the counts."""
    result = replay(gateway, settings, "--json", *arguments)
    assert result.stderr == ""
    *lines, counts = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == (1 if counts["flips"] else 0)
    return lines, counts


async def test_the_same_settings_flip_nothing(recorded: Gateway):
    lines, counts = replay_to_json(recorded, str(recorded.file))
    assert lines == []
    assert counts == {
        "result": "summary",
        "records": 7,
        "judged": 6,
        "unchanged": 6,
        "other_reasons": 0,
        "flips": 0,
        "undetermined": 0,
        "of_other_policies": 0,
        "by_verdict": [],
        "not_judged": {"refused by the downstream": 1},
        "not_replayable": [],
        "recorded_opinions": {},
    }


async def test_other_settings_show_what_flips(recorded: Gateway):
    by_subject = {each["message"]["subject"]: each for each in recorded.records() if each["message"]}
    settings = recorded.settings('[policies.words]\nword = "monday"\n')
    result = replay(recorded, settings)
    assert (result.returncode, result.stderr) == (1, "")
    _, flipped = result.stdout.partition("REFERENCE")[2].strip().splitlines()
    reference = by_subject["see you on monday"]["reference"]
    for cell in (
        reference,
        "s@a.example",
        U1,
        "accepted",
        "rejected: bad-word, by words",
        "see you on monday",
    ):
        assert cell in flipped
    # Nobody had asked the thermometer about the one that was refused.
    lines, counts = replay_to_json(recorded, settings)
    assert (counts["flips"], counts["undetermined"]) == (1, 1)
    assert {line["result"]: line["subject"] for line in lines} == {
        "flip": "see you on monday",
        "undetermined": "see you on friday",
    }
    assert counts["not_replayable"] == [
        {"records": 1, "policy": "frost", "lacks": "Weather: no filter was asked for it"}
    ]


async def test_nobody_is_asked_and_nothing_is_written(recorded: Gateway):
    def everything() -> dict[str, int]:
        found = [path for path in (recorded.directory / "state").rglob("*") if path.is_file()]
        return {str(path): path.stat().st_size for path in found if path.suffix == ".jsonl"}

    log = recorded.directory / "thermometer.log"
    asked, before = log.read_text(), everything()
    settings = recorded.settings("[policies.frost]\nbelow = 30.0\n")
    lines, counts = replay_to_json(recorded, settings)
    assert {line["subject"] for line in lines} == {"see you on monday"}
    assert (counts["unchanged"], log.read_text(), everything()) == (5, asked, before)


async def test_header_fields_are_known_where_they_were_asked_for(recorded: Gateway):
    fields = [each["message"]["fields"] for each in recorded.records() if each["message"]]
    assert {"subject": ["see you on monday"], "x-degrees": ["20"]} in fields
    settings = recorded.settings("[policies.words]\nlists = true\n")
    _, counts = replay_to_json(recorded, settings)
    assert counts["not_replayable"] == [
        {"records": 4, "policy": "words", "lacks": "message header 'list-id'"},
        {"records": 1, "policy": "frost", "lacks": "Weather: no filter was asked for it"},
    ]


async def test_one_policy_can_be_looked_at_alone(recorded: Gateway):
    settings = recorded.settings('[policies.words]\nmode = "off"\n[policies.helo]\nbad = "c.example"\n')
    lines, counts = replay_to_json(recorded, settings, "--policy", "helo")
    assert counts["of_other_policies"] == 0
    assert {line["then"]["reason"] for line in lines if line["result"] == "flip"} >= {"accepted", "bad-helo"}
    [gone] = [line for line in lines if line["then"]["reason"] == "bad-helo"]
    assert gone["now"][0]["verdict"] == "goes-on"
    [denied], counts = replay_to_json(recorded, settings, "--policy", "recipients")
    assert (denied["then"]["reason"], denied["now"][0]["reason"]) == ("relay-denied", "bad-helo")
    assert (counts["flips"], counts["of_other_policies"], counts["unchanged"]) == (1, 5, 1)
    result = replay(recorded, settings, "--policy", "no-such")
    assert (result.returncode, "no policy 'no-such'" in result.stderr) == (os.EX_USAGE, True)


async def test_how_many_and_how_old_records_can_be_bounded(recorded: Gateway):
    assert replay_to_json(recorded, str(recorded.file), "--limit", "2")[1]["records"] == 2
    layout = Layout(recorded.directory / "state")
    put(layout.spool, "0-0-0", record(age=3 * 86_400))
    assert replay_to_json(recorded, str(recorded.file), "--since", "2d")[1]["records"] == 7
    assert replay_to_json(recorded, str(recorded.file))[1]["records"] == 8


# Warn, replay, enforce


LINKS = '''"""What no record has is looked at."""

from policies import Evidence, FileSet, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.END_OF_DATA)
def links(
    tx: Transaction, evidence: Evidence, *, most: int = 1, bad: FileSet = FileSet.of("http://bad.example/")
) -> Verdict | None:
    """Refuse many links, and bad ones."""
    if found := bad & set(tx.message.urls):
        return reject("bad-link", detail=" ".join(sorted(found)))
    return reject("many-links", code=554) if len(tx.message.urls) > most else None
'''
TRIED = """order = ["recipients", "links"]
directory = "{directory}/plugins"
[policies.links]
mode = "warn"
bad = "{directory}/bad.txt"
"""


class Trying(Gateway):
    """With a policy in warn mode that has a list."""

    def configure(self, extra: str = "", port: int | None = None) -> None:
        Process.configure(self, extra, port)
        policies = TRIED.format(directory=self.directory)
        self.file.write_text(self.file.read_text().replace('order = ["recipients"]\n', policies))

    def enforcing(self, more: str = "") -> str:
        """A configuration in which it is no warning any more; its file."""
        file = self.directory / "new.toml"
        file.write_text(self.file.read_text().replace('mode = "warn"\n', f'mode = "enforce"\n{more}'))
        return str(file)


@pytest.fixture
async def tried(tmp_path: Path) -> AsyncIterator[Trying]:
    """A gateway that has warned of some mail, and of other mail not."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "links.py").write_text(LINKS)
    (tmp_path / "bad.txt").write_text("http://bad.example/\n")
    async with FakeMTA() as mta:
        with Trying(tmp_path, mta.address) as gateway:
            for subject, body in (
                ("none", "Hello"),
                ("one", "http://good.example/"),
                ("two", "http://good.example/ http://better.example/"),
                ("bad", "http://bad.example/"),
            ):
                async with Client(gateway.port) as client:
                    await client.open(U1)
                    reply = await client.data(f"Subject: {subject}\r\n\r\n{body}\r\n".encode())
                    assert reply.code == 250
            yield gateway


async def test_what_a_warning_said_is_what_would_be_refused(tried: Trying):
    lines, counts = replay_to_json(tried, tried.enforcing())
    assert {line["subject"]: line["now"][0]["reason"] for line in lines} == {
        "two": "many-links",
        "bad": "bad-link",
    }
    assert (counts["flips"], counts["unchanged"], counts["undetermined"]) == (2, 2, 0)
    assert (counts["recorded_opinions"], counts["not_replayable"]) == ({"links": 4}, [])
    result = replay(tried, tried.enforcing())
    assert "RECORDS  RECORDED OPINION USED\n4        links\n" in result.stdout
    assert "rejected: bad-link, by links" in result.stdout


@pytest.mark.parametrize("change", ["option", "source", "list"])
async def test_of_another_policy_nobody_knows_what_it_would_say(tried: Trying, change: str):
    settings = tried.enforcing("most = 2\n" if change == "option" else "")
    if change == "source":
        (tried.directory / "plugins" / "links.py").write_text(LINKS.replace("> most", ">= most"))
    elif change == "list":
        (tried.directory / "bad.txt").write_text("http://bad.example/\nhttp://worse.example/\n")
    _, counts = replay_to_json(tried, settings)
    assert (counts["flips"], counts["undetermined"], counts["recorded_opinions"]) == (0, 4, {})
    assert counts["not_replayable"] == [{"records": 4, "policy": "links", "lacks": "message.urls"}]


# Without a gateway


def test_an_empty_journal_is_said_to_be_empty(tmp_path: Path):
    gateway = Process(tmp_path, "127.0.0.1:10025")
    gateway.configure()
    (tmp_path / "state").mkdir()
    arguments = ("replay", "--config", "sluicegate.toml", "--since", "2026-01-02T03:04:05Z")
    result = sluicegate(tmp_path, *arguments)
    said = f"no records since 2026-01-02T03:04:05Z below {tmp_path / 'state'}\n"
    assert (result.returncode, result.stdout) == (os.EX_OK, said)
    counts = json.loads(sluicegate(tmp_path, *arguments, "--json").stdout)
    assert (counts["result"], counts["records"]) == ("summary", 0)


@pytest.mark.parametrize("command", [["replay"], ["log"], ["explain", "7K3F-Q2MD"]], ids=" ".join)
def test_a_state_directory_that_is_not_there_is_an_error(tmp_path: Path, command: list[str]):
    gateway = Process(tmp_path, "127.0.0.1:10025")
    gateway.configure()
    result = sluicegate(tmp_path, *command, "--config", "sluicegate.toml")
    problem = f"state_directory {tmp_path / 'state'} cannot be read: No such file or directory"
    assert (result.returncode, result.stdout) == (os.EX_IOERR, "")
    assert result.stderr == f"Error: {problem}\n"


def test_an_old_refusal_would_go_on(tmp_path: Path):
    gateway = Process(tmp_path, "127.0.0.1:10025")
    gateway.configure()
    layout = Layout(tmp_path / "state")
    layout.spool.mkdir(parents=True)
    listed = {"Listings": {"total": 5.0, "zones": {}}}
    fields = {"recipients": [U1], "evidence": listed, "message": None}
    put(layout.spool, "1-1-1", record("rejected", "connect", "listed", "blocklist", "rcpt", **fields))
    result = sluicegate(tmp_path, "replay", "--config", "sluicegate.toml")
    assert result.returncode == 1
    assert "rejected: listed, by blocklist  would go on beyond rcpt" in result.stdout


@pytest.mark.parametrize(
    ("configuration", "arguments", "status"),
    [
        ("nonsense", [], os.EX_CONFIG),
        (None, ["--since", "yesterday"], os.EX_USAGE),
        (None, ["--limit", "0"], os.EX_USAGE),
    ],
)
def test_what_makes_no_sense_is_an_error(
    tmp_path: Path, configuration: str | None, arguments: list[str], status: int
):
    gateway = Process(tmp_path, "127.0.0.1:10025")
    gateway.configure()
    if configuration is not None:
        gateway.file.write_text(configuration)
    result = sluicegate(tmp_path, "replay", "--config", "sluicegate.toml", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert "Traceback" not in result.stderr


def test_a_journal_that_cannot_be_read_is_an_error(tmp_path: Path):
    gateway = Process(tmp_path, "127.0.0.1:10025")
    gateway.configure()
    layout = Layout(tmp_path / "state")
    layout.state_directory.mkdir()
    layout.index.write_bytes(b"no database" * 1000)
    result = sluicegate(tmp_path, "replay", "--config", "sluicegate.toml")
    assert (result.returncode, "Traceback" in result.stderr) == (os.EX_IOERR, False)
