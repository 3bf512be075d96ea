"""`sluicegate log` and `sluicegate explain`, as processes: output, exit status, terminals."""

import functools
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path

import pytest

from gateway.journal.keeper import Keeper
from gateway.journal.layout import Layout
from gateway.journal.record import encode
from tests.journal.records import make_record, put

CONFIG = """
[gateway]
hostname = "mx.test"
state_directory = "{state}"
[[listener]]
protocol = "smtp"
address = "127.0.0.1:2525"
[[relay]]
domains = ["example.com"]
address = ["127.0.0.1:10025"]
[policies]
order = ["recipients"]
"""

WARNING = {"fresh": {"verdict": "would-reject", "mode": "warn", "reason": "too-fresh"}}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(layout: Layout) -> Path:
    path = layout.state_directory.with_name("sluicegate.toml")
    path.write_text(CONFIG.format(state=layout.state_directory))
    return path


@pytest.fixture
def run(config: Path) -> Run:
    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", command, "--config", str(config), *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )

    return run


def test_json_output_is_the_recorded_lines_and_nothing_else(layout: Layout, run: Run):
    records = [make_record(f"Grüße {number}", age=10 - number) for number in range(3)]
    put(layout.spool, "a", *records)
    result = run("log", "--json", "--limit", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.encode() == b"".join(map(encode, records[1:]))


def test_all_criteria_can_be_given(layout: Layout, run: Run):
    record = make_record("wanted", opinions=WARNING)
    put(layout.spool, "a", record, make_record("other", reason="virus-found"))
    result = run(
        "log",
        "--json",
        *("--since", "2h", "--verdict", "rejected", "--reason", "spam-score", "--client", "192.0.2.0/24"),
        *("--sender", "@sender.example", "--recipient", "b@example.com", "--stage", "end-of-data"),
        *("--text", "wanted", "--policy", "fresh", "--limit", "100000"),
    )
    assert result.stdout.encode() == encode(record)


@pytest.mark.parametrize(("since", "count"), [("30m", 1), ("2h", 2), ("2d", 3), ("1w", 3), ("2020-01-01", 3)])
def test_since_is_an_age_or_a_time(layout: Layout, run: Run, since: str, count: int):
    put(layout.spool, "a", *[make_record(age=age) for age in (90_000, 3600, 60)])
    assert run("log", "--json", "--since", since).stdout.count("\n") == count


@pytest.mark.parametrize(
    "arguments",
    [
        ["--verdict", "refused"],
        ["--stage", "data"],
        ["--since", "yesterday"],
        ["--since", "99999999999999d"],
        ["--limit", "0"],
        ["--nonsense"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(run: Run, arguments: list[str]):
    result = run("log", *arguments)
    assert (result.returncode, result.stdout) == (os.EX_USAGE, "")
    assert arguments[0] in result.stderr


def test_columns_are_aligned_and_never_cut_in_a_pipe(layout: Layout, run: Run):
    long = "a very long subject " * 20 + "end"
    put(
        layout.spool,
        "a",
        make_record("short", reason="a-reason-longer-than-others"),
        make_record(long, age=5),
    )
    result = run("log")
    heading, first, second = result.stdout.splitlines()
    assert heading.startswith("TIME")
    assert first.endswith("end")
    assert first.index(long) == second.index("short") == heading.index("SUBJECT")
    assert "\x1b" not in result.stdout


def test_the_table_has_what_the_policy_said_that_was_asked_for(layout: Layout, run: Run):
    put(layout.spool, "a", make_record("Hello", opinions=WARNING), make_record("Unasked"))
    assert "  would-reject too-fresh  Hello\n" in run("log", "--policy", "Fresh").stdout
    assert "Unasked" not in run("log", "--policy", "fresh").stdout
    assert "would-reject" not in run("log").stdout


def test_of_a_traceback_the_table_has_what_happened(layout: Layout, run: Run):
    detail = 'Traceback (most recent call last):\n  File "x.py", line 3, in mine\nValueError: boom\n'
    put(layout.spool, "a", make_record(None, detail=detail))
    assert run("log").stdout.splitlines()[1].endswith("  ValueError: boom")


def test_no_records_is_no_output_and_no_error(run: Run):
    result = run("log")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_controls_in_a_record_never_reach_the_output(layout: Layout, run: Run):
    record = make_record("\x1b]0;owned\x07 \x9b31m \x7f \u202e\r\nrejected", reverse_path="\x1b[2J@a.example")
    put(layout.spool, "a", record)
    for result in (run("log"), run("log", "--json"), run("explain", record.reference)):
        assert result.returncode == 0
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.stdout)
    assert json.loads(run("log", "--json").stdout)["message"]["subject"] == record.message.subject  # type: ignore[union-attr]


def test_on_a_terminal_lines_are_coloured_and_cut_to_its_width(layout: Layout, config: Path):
    put(layout.spool, "a", make_record("漢字 " * 100))
    controller, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 150, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-m", "gateway", "log", "--config", str(config)]
    subprocess.run(command, stdout=terminal, env=environment, check=True, timeout=60)
    os.close(terminal)
    output = os.read(controller, 10_000).decode()
    os.close(controller)
    plain = re.sub(r"\x1b\[\d*m", "", output).splitlines()
    assert "\x1b[31mrejected\x1b[0m" in output
    assert plain[1].endswith("…")
    assert len(plain[0]) <= 150


def test_follow_prints_what_comes_in_at_once(layout: Layout, config: Path):
    put(layout.spool, "a", make_record("before"))
    command = [sys.executable, "-m", "gateway", "log", "--config", str(config), "--follow", "--json"]
    # A shell starts background jobs with SIGINT ignored, and their children inherit that.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=heeding) as process:
        assert process.stdout is not None
        assert b"before" in process.stdout.readline()
        put(layout.spool, "b", make_record("after"))
        assert b"after" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b""
    assert process.returncode == 128 + signal.SIGINT


def test_nobody_complains_to_a_reader_that_has_seen_enough(layout: Layout, config: Path):
    put(layout.spool, "a", *[make_record("x" * 1000) for _ in range(500)])
    command = [sys.executable, "-m", "gateway", "log", "--config", str(config), "--limit", "500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("command", [["log"], ["explain", "7K3F-Q2MD"]])
def test_an_unreadable_journal_is_one_line_and_a_status(layout: Layout, run: Run, command: list[str]):
    layout.index.write_bytes(b"no database " * 1000)
    result = run(*command)
    assert (result.returncode, result.stdout) == (os.EX_IOERR, "")
    assert result.stderr.count("\n") == 1
    assert str(layout.index) in result.stderr


def test_explain_tells_the_story_from_spool_and_index(layout: Layout, run: Run):
    record = make_record(reason="relay-denied", policy="recipients", reference="7K3F-Q2MD")
    put(layout.spool, "a", record)
    pending = run("explain", "7k3fq2md")
    keeper = Keeper(layout.spool, layout.index, 86_400)
    assert keeper.poll() == 1
    keeper.close()
    moved = run("explain", "7K3F-Q2MD")
    assert pending.returncode == moved.returncode == 0
    assert pending.stdout == moved.stdout
    assert "relay-denied" in moved.stdout
    assert run("explain", "7K3F-Q2MD", "--json").stdout.encode() == encode(record)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("7k3fq2md", "7k3fq2md"),
        (
            "7K3F-\x1b[2J",
            "7K3F-\\x1b[2J; for a queue ID or other words: sluicegate log --text '7K3F-\\x1b[2J'",
        ),
        ("9B93523EC6E", "9B93523EC6E; for a queue ID or other words: sluicegate log --text 9B93523EC6E"),
    ],
)
def test_explain_of_an_unknown_reference_is_one_line_and_a_status(run: Run, reference: str, said: str):
    result = run("explain", reference)
    assert (result.returncode, result.stdout) == (os.EX_NOINPUT, "")
    assert result.stderr == f"Error: no record has the reference {said}\n"


def test_a_configuration_that_is_none_is_a_status_of_its_own(run: Run, config: Path):
    config.write_text("[gateway]\nnonsense = 1\n")
    assert run("log").returncode == os.EX_CONFIG
