"""Options of every type a policy may ask for: what is taken, what is refused, and how it is written."""

import datetime
import enum
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from gateway.assembly import Assembly, assemble
from gateway.config import ConfigError, load, parse
from gateway.config.options import OptionError, describe, options_of, read_value
from gateway.config.toml import toml_value
from gateway.effective import effective
from policies import FileSet, Networks
from policies.testing import evidence, message, session, transaction
from tests.config.command import sluicegate

ROOT = Path(__file__).parents[2]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (frozenset[str], ["a", "b", "a"], frozenset({"a", "b"})),
        (set[int], [1, 2, 1], {1, 2}),
        (frozenset[float], [1, 2.5], frozenset({1.0, 2.5})),
        (frozenset[Literal["a", "b"]], ["a"], frozenset({"a"})),
        (Annotated[frozenset[str], Meta(min_length=1)], ["a"], frozenset({"a"})),
        (str | None, "a", "a"),
        (Colour, "red", Colour.RED),
        (frozenset[Colour], ["red", "green"], frozenset(Colour)),
        (timedelta, 90, timedelta(seconds=90)),
        (timedelta, 0.25, timedelta(milliseconds=250)),
        (timedelta, 0, timedelta(0)),
        (timedelta, "90s", timedelta(seconds=90)),
        (timedelta, "10m", timedelta(minutes=10)),
        (timedelta, "2h30m", timedelta(hours=2, minutes=30)),
        (timedelta, "7d", timedelta(days=7)),
        (timedelta, "1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        (timedelta, "3650d", timedelta(days=3650)),
        (timedelta | None, "0s", timedelta(0)),
        (tuple[timedelta, ...], [1, "1m"], (timedelta(seconds=1), timedelta(minutes=1))),
        (dict[str, timedelta], {"a": "1m"}, {"a": timedelta(minutes=1)}),
        (Annotated[timedelta, Meta(description="how long")], 1, timedelta(seconds=1)),
        (Networks, [], Networks()),
        (Networks, ["10.0.0.0/8", "::1"], Networks.of("10.0.0.0/8", "::1")),
        (dict[str, Networks], {"a": ["::1"]}, {"a": Networks.of("::1")}),
        (re.Pattern[str], "^a+$", re.compile("^a+$")),
        (re.Pattern[str], "(?i)a", re.compile("(?i)a")),
        (re.Pattern[str] | None, "a", re.compile("a")),
        (tuple[re.Pattern[str], ...], ["a", "b"], (re.compile("a"), re.compile("b"))),
        (frozenset[re.Pattern[str]], ["a", "a"], frozenset({re.compile("a")})),
        (Annotated[list[re.Pattern[str]], Meta(min_length=1)], ["a"], [re.compile("a")]),
        (FileSet, ["A", "b"], FileSet.of("a", "B")),
        (bool | re.Pattern[str], True, True),
        (bool | re.Pattern[str], "a", re.compile("a")),
    ],
)
def test_what_is_taken(kind: Any, value: object, made: object):
    got = read_value("[x]", "y", value, kind)
    assert got == made
    assert type(got) is type(made)


NUMBERS_OF_SECONDS = (
    'a number of seconds, or text such as "90s", "10m", "2h30m" or "7d"; from 0 up to "3650d"'
)


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (frozenset[str], "a", '"a" will not do; allowed: a list of strings'),
        (frozenset[str], [1], "[1] will not do; allowed: a list of strings"),
        (set[int], [1.5], "[1.5] will not do; allowed: a list of whole numbers"),
        (
            Annotated[set[int], Meta(min_length=1)],
            [],
            "[] will not do; allowed: a list of whole numbers, at least 1",
        ),
        (Colour, "blue", '"blue" will not do; allowed: one of "red", "green"'),
        *[
            (timedelta, value, f"{shown} will not do; allowed: {NUMBERS_OF_SECONDS}")
            for value, shown in [
                (-1, "-1"), (-0.1, "-0.1"), (float("nan"), "nan"), (float("inf"), "inf"), (True, "true"),
                (10**400, "1" + "0" * 199 + "..."), ("", '""'), ("5", '"5"'), ("-5s", '"-5s"'),
                ("5 s", '"5 s"'),
                ("5S", '"5S"'), ("5s5m", '"5s5m"'), ("1.5h", '"1.5h"'), ("3650d1s", '"3650d1s"'),
                ("٣s", '"٣s"'), ("1w", '"1w"'), ("PT5M", '"PT5M"'), ([5], "[5]"),
                ("9" * 100 + "s", '"' + "9" * 100 + 's"'),
            ]
        ],
        (
            Networks,
            ["10.0.0.1/8"],
            '"10.0.0.1/8" has bits set behind its prefix; the network is "10.0.0.0/8"',
        ),
        (Networks, "10.0.0.0/8", '"10.0.0.0/8" will not do; allowed: a list of addresses and networks'),
        (Networks, [1], "[1] will not do; allowed: a list of addresses and networks"),
        (re.Pattern[str], 1, "1 will not do; allowed: a regular expression in Python's syntax"),
        (re.Pattern[str], "a**", '"a**" is no regular expression: multiple repeat at position 2'),
        (
            re.Pattern[str] | None,
            "(",
            '"(" is no regular expression: missing ), unterminated subpattern at position 0',
        ),
        (
            Annotated[list[re.Pattern[str]], Meta(min_length=1)],
            [],
            "[] will not do; allowed: a list of regular expressions in Python's syntax, at least 1",
        ),
        (dict[str, re.Pattern[str]], ["a"], '["a"] will not do; allowed: a table of regular expressions'),
        (FileSet, "", '"" will not do; allowed: the path of a text file with an entry on each line'),
        (FileSet, ["10.0.0.1/8"], '"10.0.0.1/8" has bits set behind its prefix'),
    ],
)  # fmt: skip
def test_what_is_refused(kind: Any, value: object, problem: str):
    with pytest.raises(ConfigError) as refused:
        read_value("[x]", "y", value, kind)
    assert refused.value.problem.startswith(problem)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tuple[timedelta, ...], f"a list of (durations ({NUMBERS_OF_SECONDS}))"),
        (list[FileSet], "a list of (paths of text files, or lists of strings)"),
        (dict[str, Networks], "a table of lists of addresses and networks"),
        (re.Pattern[str] | None, "a regular expression in Python's syntax"),
    ],
)
def test_what_is_allowed_is_said(kind: Any, words: str):
    assert describe(kind) == words


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (timedelta(minutes=5), "300"),
        (timedelta(milliseconds=1500), "1.5"),
        (frozenset({"b", "a"}), '["a", "b"]'),
        ({2, 1}, "[1, 2]"),
        (Colour.RED, '"red"'),
        (Networks.of("10.0.0.0/8", "192.0.2.1/32"), '["10.0.0.0/8", "192.0.2.1"]'),
        (re.compile(r"^\d+$"), r'"^\\d+$"'),
        (re.compile("a", re.IGNORECASE), '"(?i)a"'),
        ((re.compile("a"), re.compile("b")), '["a", "b"]'),
        ({"x": timedelta(1)}, "{x = 86400}"),
        (FileSet.of("B", "a"), '["a", "b"]'),
        (frozenset({re.compile("b"), re.compile("a")}), '["a", "b"]'),
    ],
)
def test_how_defaults_are_written(value: object, written: str):
    assert toml_value(value) == written
    tomllib.loads(f"x = {written}")


# Defaults


def test_defaults_may_be_of_all_these_types():
    def function(
        *,
        delay: timedelta = timedelta(minutes=5),
        subject: re.Pattern[str] = re.compile("x"),
        trusted: Networks = Networks.of("10.0.0.0/8"),
        words: frozenset[str] = frozenset(),
        blocked: FileSet = FileSet.of(),
        later: "datetime.timedelta | None" = None,
    ) -> None: ...

    options = options_of(function)
    assert {
        name: toml_value(option.default) for name, option in options.items() if option.default is not None
    } == {
        "delay": "300",
        "subject": '"x"',
        "trusted": '["10.0.0.0/8"]',
        "words": "[]",
        "blocked": "[]",
    }


def _one(*, subject: re.Pattern[str] = re.compile("(a+)+$")) -> None: ...
def _listed(*, subjects: tuple[re.Pattern[str], ...] = (re.compile("a"), re.compile("(a+)+$"))) -> None: ...
def _tabled(*, subjects: dict[str, re.Pattern[str]] = {"x": re.compile("(a+)+$")}) -> None: ...  # noqa: B006


@pytest.mark.parametrize("function", [_one, _listed, _tabled])
def test_a_default_that_backtracks_is_refused_with_file_and_line(function: Callable[..., None]):
    line = function.__code__.co_firstlineno
    with pytest.raises(
        OptionError, match=rf'test_options.py:{line}: option .* its default "\(a\+\)\+\$" backtracks'
    ):
        options_of(function)


# The whole way: a policy with them, in a configuration

EVERYTHING = r'''"""A policy with an option of every type."""

import re
from datetime import timedelta

from policies import Evidence, FileSet, Networks, Stage, Transaction, Verdict
from policies import matches, policy, reject, tempfail


@policy(at=Stage.RCPT)
def everything(
    tx: Transaction,
    evidence: Evidence,
    *,
    delay: timedelta = timedelta(minutes=5),
    longest: timedelta | None = None,
    trusted: Networks = Networks.of("10.0.0.0/8", "2001:db8::1"),
    greeting: re.Pattern[str] = re.compile("^localhost", re.IGNORECASE),
    local_parts: tuple[re.Pattern[str], ...] = (re.compile(r"\d{5,}"),),
    domains: frozenset[str] = frozenset({"example.net"}),
    numbers: set[int] = set(),
    senders: FileSet = FileSet.of("@example.org"),
    clients: FileSet = FileSet.of(),
) -> Verdict | None:
    """Refuse on any of many grounds."""
    if tx.session.client_address in trusted:
        return None
    sender = tx.envelope.reverse_path
    entry = matches(sender, senders) or matches(sender.domain, domains)
    entry = entry or matches(tx.session.client_address, clients)
    if entry is not None:
        return reject("blocked", detail=entry)
    if any(pattern.search(sender.local_part) for pattern in local_parts):
        return reject("digits", detail=sender.local_part)
    if greeting.match(tx.session.helo_name or "") and delay.total_seconds() not in numbers:
        return tempfail("greeting")
    return None
'''

CONFIG = """
[gateway]
hostname = "mx.test"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["our.example"]
address = ["127.0.0.1:10025"]
[policies]
directory = "{plugins}"
order = ["everything"]
"""

SETTINGS = r"""
[policies.everything]
delay = "1h"
longest = 7.5
trusted = ["192.0.2.0/24"]
greeting = "(?i)^friend"
local_parts = ['^[a-z]{9}\d+$', "x"]
domains = ["b.example", "a.example", "b.example"]
numbers = [3, 1]
senders = "lists/senders.txt"
clients = "./lists/../lists/senders.txt"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "everything.py").write_text(EVERYTHING)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "senders.txt").write_text("# senders\nAnna@example.com\n198.51.100.0/24\n")
    return tmp_path


def configured(home: Path, text: str = "") -> Assembly:
    file = home / "sluicegate.toml"
    file.write_text(CONFIG.format(plugins=home / "plugins") + text)
    return assemble(load(file))


def test_a_policy_has_them(home: Path):
    (setting,) = configured(home, SETTINGS).policies
    options = dict(setting.options)
    assert options.pop("senders") is options.pop("clients")
    assert options == {
        "delay": timedelta(hours=1),
        "longest": timedelta(seconds=7.5),
        "trusted": Networks.of("192.0.2.0/24"),
        "greeting": re.compile("(?i)^friend"),
        "local_parts": (re.compile(r"^[a-z]{9}\d+$"), re.compile("x")),
        "domains": frozenset({"a.example", "b.example"}),
        "numbers": {1, 3},
    }


def test_a_path_begins_where_the_configuration_is(home: Path, tmp_path_factory: Any, monkeypatch: Any):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    (setting,) = configured(home, SETTINGS).policies
    senders = setting.options["senders"]
    assert set(senders) == {"anna@example.com", "198.51.100.0/24"}
    assert ip_address("198.51.100.9") in senders


@pytest.mark.parametrize("text", ["", SETTINGS], ids=["defaults", "settings"])
def test_the_effective_configuration_can_be_read_back(home: Path, text: str):
    before = configured(home, text)
    shown = effective(before)
    after = assemble(parse(home / "sluicegate.toml", shown.encode()))
    assert effective(after) == shown
    (written,), (read,) = before.policies, after.policies
    defaults = {name: option.default for name, option in options_of(written.policy.function).items()}
    expected = {
        name: value for name, value in (defaults | dict(written.options)).items() if value is not None
    }
    assert {name: toml_value(value) for name, value in read.options.items()} == {
        name: toml_value(value) for name, value in expected.items()
    }


def test_the_command_shows_them(home: Path):
    configured(home)
    result = sluicegate(home, "policies", "--config", "sluicegate.toml")
    assert result.stderr == ""
    assert (
        'delay=300, longest=none, trusted=["10.0.0.0/8", "2001:db8::1"], greeting="(?i)^localhost", '
        r'local_parts=["\\d{5,}"], domains=["example.net"], numbers=[], senders=["@example.org"], clients=[]'
    ) in result.stdout


def test_its_types_are_checked_by_mypy(home: Path):
    """In its strict mode, as its author would run it."""
    cache, policy = str(home / "cache"), str(home / "plugins" / "everything.py")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", cache, policy],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "Success: no issues found in 1 source file\n", result.stderr


# The example of docs/policy-api.md

PAGE = ROOT / "docs" / "policy-api.md"


@pytest.fixture
def blocks() -> dict[str, str]:
    """The blocks of code in its section about options, by their language."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition("\n## Options\n")
    found = re.findall(
        r"^```(\w+)[^\n]*\n(.*?)^```$", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL
    )
    assert [language for language, _ in found] == ["python", "toml", "text"]
    return dict(found)


@pytest.mark.parametrize(
    ("sender", "subject", "client", "reason"),
    [
        ("promotions@shop.example", "Hello", "203.0.113.1", "listed-sender"),
        ("info@shop.example", "Hello", "203.0.113.1", None),
        ("a@bulk.example", "Hello", "203.0.113.1", "listed-sender"),
        ("a@x.bulk.example", "Hello", "203.0.113.1", "listed-sender"),
        ("a@x.bulk.example", "Hello", "192.0.2.7", None),
        ("a@b.example", "CHEAP pills now", "203.0.113.1", "listed-subject"),
        ("a@b.example", "[1234567]", "203.0.113.1", "listed-subject"),
        ("a@b.example", "Not so cheap", "203.0.113.1", None),
    ],
)
def test_the_example_in_the_guide(
    sender: str, subject: str, client: str, reason: str | None, blocks: dict[str, str], tmp_path: Path
):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "listed.py").write_text(blocks["python"])
    (tmp_path / "senders.txt").write_text(blocks["text"])
    file = tmp_path / "sluicegate.toml"
    config = CONFIG.format(plugins=tmp_path / "plugins").replace("everything", "listed")
    file.write_text(config + blocks["toml"])
    (setting,) = assemble(load(file)).policies
    tx = transaction(
        session=session(client_address=client),
        reverse_path=sender,
        message=message(header={"Subject": subject}),
    )
    verdict = setting.policy(tx, evidence(), **setting.options)
    assert (verdict and verdict.reason) == reason
