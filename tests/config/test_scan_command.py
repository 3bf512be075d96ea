"""`sluicegate scan`: exit statuses, output, and which stages are judged."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from gateway.journal.record import Record, decode
from tests.config.command import sluicegate

LETTERS = {
    "clean": b"Subject: Monday\r\n\r\nHello\r\n",
    "junk": b"Subject: friday\r\n\r\nHello\r\n",
    "cold": b"Subject: Monday\r\nX-Degrees: -1\r\n\r\nHello\r\n",
    "down": b"Subject: Monday\r\nX-Down: yes\r\n\r\nHello\r\n",
    "junk-while-down": b"Subject: friday\r\nX-Down: yes\r\n\r\nHello\r\n",
    "unix": b"Subject: friday\n\nHello",
    "empty": b"",
}


@pytest.fixture
def letters(home: Path) -> Path:
    for name, content in LETTERS.items():
        (home / f"{name}.eml").write_bytes(content)
    return home


def scan(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sluicegate(home, "scan", "--config", "sluicegate.toml", *arguments)


def scan_to_records(home: Path, *arguments: str) -> list[Record]:
    result = scan(home, "--json", *arguments)
    assert result.stderr == ""
    return [decode(line.encode()) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        (["clean.eml"], os.EX_OK, "clean.eml: accepted: accepted"),
        (["empty.eml"], os.EX_OK, "empty.eml: accepted: accepted"),
        (["junk.eml"], 1, "junk.eml: rejected: bad-subject"),
        (["unix.eml"], 1, "unix.eml: rejected: bad-subject"),
        (["cold.eml"], 1, "cold.eml: rejected: too-cold"),
        (["down.eml"], os.EX_TEMPFAIL, "down.eml: tempfailed: evidence-unavailable"),
        (["junk-while-down.eml"], 1, "junk-while-down.eml: rejected: bad-subject"),
        (["clean.eml", "down.eml"], os.EX_TEMPFAIL, "down.eml: tempfailed"),
        (["down.eml", "junk.eml", "clean.eml"], 1, "junk.eml: rejected"),
    ],
)
def test_the_exit_status_is_the_worst_of_all_verdicts(
    letters: Path, files: list[str], status: int, said: str
):
    result = scan(letters, *files)
    assert (result.returncode, result.stderr) == (status, "")
    assert said in result.stdout
    assert "\x1b" not in result.stdout


def test_the_evidence_and_the_opinions_are_told(letters: Path):
    output = scan(letters, "down.eml").stdout
    assert "no answer from the roof" in output
    assert "thermometer" in output
    assert "frost" in output


def test_json_is_one_record_a_line(letters: Path):
    clean, junk = scan_to_records(letters, "clean.eml", "junk.eml")
    assert (clean.verdict, clean.stage, clean.reason) == ("accepted", "relay", "accepted")
    assert (junk.verdict, junk.stage, junk.reason) == ("rejected", "end-of-data", "bad-subject")
    assert (junk.policy, junk.detail, junk.node) == ("subject", "friday", "mx.test")
    assert junk.message is not None
    assert (junk.message.subject, junk.message.size) == ("friday", len(LETTERS["junk"]))
    assert clean.evidence["Weather"]["degrees"] == 20.0
    assert clean.opinions["frost"]["verdict"] is None


def test_unknown_facts_are_not_judged(letters: Path):
    [record] = scan_to_records(letters, "clean.eml")
    assert record.opinions.keys() == {"subject", "frost"}


def test_given_facts_are_judged_and_recorded(letters: Path):
    facts = ["--client", "2001:db8::1", "--helo", "client.test", "--sender", "a@b.example"]
    [record] = scan_to_records(letters, *facts, "--recipient", "u1@our.example", "clean.eml")
    assert record.opinions.keys() == {"helo", "recipients", "subject", "frost"}
    assert (record.client.address, record.client.helo) == ("2001:db8::1", "client.test")
    assert (record.reverse_path, record.recipients) == ("a@b.example", ["u1@our.example"])


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--recipient", "u1@our.example"], 0, "accepted"),
        (["--recipient", "postmaster"], 0, "accepted"),
        (["--recipient", "u1@victim.example"], 1, "relay-denied"),
        (["--recipient", "u1@our.example", "--recipient", "u1@victim.example"], 1, "relay-denied"),
        (["--helo", "mx.test"], os.EX_TEMPFAIL, "bad-helo"),
        (["--helo", "other.test"], 0, "accepted"),
        (["--sender", ""], 0, "accepted"),
    ],
)
def test_early_stages_can_decide(letters: Path, arguments: list[str], status: int, reason: str):
    result = scan(letters, "--json", *arguments, "clean.eml")
    assert result.returncode == status
    assert json.loads(result.stdout)["reason"] == reason


def test_addresses_may_be_beyond_ascii(letters: Path):
    result = scan(
        letters, "--json", "--sender", "jürgen@bücher.example", "--recipient", "ü@our.example", "clean.eml"
    )
    record = json.loads(result.stdout)
    assert (result.returncode, record["verdict"]) == (0, "accepted")
    assert (record["reverse_path"], record["recipients"]) == ("jürgen@bücher.example", ["ü@our.example"])


def test_a_policy_that_only_warns_lets_pass(letters: Path):
    with (letters / "sluicegate.toml").open("a") as config:
        config.write('[policies.subject]\nmode = "warn"\n')
    [record] = scan_to_records(letters, "junk.eml")
    assert record.verdict == "accepted"
    assert record.opinions["subject"]["verdict"] == "would-reject"


def test_mail_that_may_pass_unscanned_says_so(letters: Path):
    config = letters / "sluicegate.toml"
    config.write_text(config.read_text().replace('place = "roof"', 'place = "roof"\nunavailable = "accept"'))
    [record] = scan_to_records(letters, "down.eml")
    assert (record.verdict, record.reason) == ("accepted", "evidence-unavailable")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-file.eml"],
        ["plugins"],
        ["--client", "localhost", "clean.eml"],
        ["--sender", "nobody", "clean.eml"],
        ["--sender", "ü@b.example@c", "clean.eml"],
        ["--recipient", "a@b@c", "clean.eml"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(letters: Path, arguments: list[str]):
    result = scan(letters, *arguments)
    assert (result.returncode, result.stdout) == (os.EX_USAGE, "")
    assert "Traceback" not in result.stderr
