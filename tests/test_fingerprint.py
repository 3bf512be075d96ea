"""Fingerprints of policies: the same while code and options are, and other ones otherwise."""

import asyncio
import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.assembly import Assembly, assemble
from gateway.config import load
from gateway.config.toml import toml_value
from gateway.plugins import fingerprint
from gateway.plugins.fingerprint import Fingerprint, fingerprint_of
from policies.spam import spam

OWN = '''"""A policy with all kinds of options, and a helper."""

import functools
import re
from datetime import timedelta

from policies import Evidence, FileSet, Networks, Stage, Transaction, Verdict, policy, reject


def loudly(function):
    @functools.wraps(function)
    def wrapper(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return function(tx, evidence)

    return wrapper


@policy(at=Stage.END_OF_DATA)
def own(
    tx: Transaction,
    evidence: Evidence,
    *,
    score: float = 5.0,
    word: re.Pattern[str] | None = re.compile("a|b"),
    wait: timedelta = timedelta(minutes=5),
    networks: Networks = Networks(["192.0.2.0/24"]),
    names: frozenset[str] = frozenset({"a", "b", "c"}),
    listed: FileSet = FileSet.of(),
    more: dict[str, FileSet] = {},
) -> Verdict | None:
    from helper import REASON

    return reject(REASON) if score > 9 else None


@policy(at=Stage.END_OF_DATA)
@loudly
def loud(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return None


def made(limit: int):
    @policy(at=Stage.END_OF_DATA)
    def crafted(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return reject("too-large") if tx.message.size > limit else None

    return crafted


crafted = made(3)
'''
CONFIG = """
[gateway]
hostname = "mx.test"
state_directory = "state"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["our.example"]
address = ["127.0.0.1:10025"]
[policies]
directory = "plugins"
order = ["own", "loud", "crafted", "other"]
[policies.own]
"""
OTHER = OWN.partition("@policy(at=Stage.END_OF_DATA)\n@loudly")[0].replace("own(", "other(")
OTHER = OTHER.replace("from helper", "from unrelated")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration, plugins and a list."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "own.py").write_text(OWN)
    (plugins / "other.py").write_text(OTHER)
    (plugins / "helper.py").write_text('"""Words."""\n\nfrom deeper import REASON\n')
    (plugins / "deeper.py").write_text('"""Words."""\n\nREASON = "no"\n')
    (plugins / "unrelated.py").write_text('"""Words."""\n\nREASON = "no"\n')
    (tmp_path / "list.txt").write_text("a\nb\n")
    (tmp_path / "sluicegate.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assembled(home: Path) -> Assembly:
    return assemble(load(home / "sluicegate.toml"))


def of(home: Path, name: str = "own") -> str:
    """The fingerprint that a policy has there now."""
    [setting] = [each for each in assembled(home).policies if each.policy.name == name]
    return setting.fingerprint.now


def configured(text: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        (home / "sluicegate.toml").write_text(CONFIG + text)

    return change


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        text = (home / name).read_text()
        assert old in text
        (home / name).write_text(text.replace(old, new))

    return change


SAME = [
    configured(""),
    configured('mode = "warn"\non_error = "accept"\n'),
    configured("score = 5\n"),
    configured('word = "a|b"\nwait = "300s"\n'),
    configured('names = ["c", "b", "a"]\nnetworks = ["192.0.2.0/24"]\n'),
    configured('[policies.other]\nscore = 1\nmode = "off"\n'),
    edited("plugins/other.py", "score > 9", "score > 8"),
    edited("plugins/unrelated.py", "no", "yes"),
    edited("list.txt", "a", "c"),
]
OTHERS = [
    configured("score = 5.5\n"),
    configured('word = "a|c"\n'),
    configured('word = "(?i)a|b"\n'),
    configured("wait = 301\n"),
    configured('networks = ["192.0.2.0/25"]\n'),
    configured('names = ["a", "b"]\n'),
    configured('listed = "list.txt"\n'),
    configured('listed = ["a"]\n'),
    configured('more = {x = "list.txt"}\n'),
    edited("plugins/own.py", "score > 9", "score > 8"),
    edited("plugins/own.py", "float = 5.0", "float = 6.0"),
    edited("plugins/helper.py", "Words", "Other words"),
    edited("plugins/deeper.py", "no", "yes"),
]


@pytest.mark.parametrize("change", SAME)
def test_it_is_the_same(home: Path, change: Callable[[Path], None]):
    before = of(home)
    change(home)
    assert re.fullmatch(r"[0-9a-f]{12}", before)
    assert of(home) == before


@pytest.mark.parametrize("change", OTHERS)
def test_it_is_another_one(home: Path, change: Callable[[Path], None]):
    before = of(home)
    change(home)
    after = of(home)
    assert re.fullmatch(r"[0-9a-f]{12}", after)
    assert after != before


def test_a_copy_of_the_directory_is_the_same(home: Path):
    before = of(home)
    (home / "plugins").rename(home / "copied")
    edited("sluicegate.toml", '"plugins"', '"copied"')(home)
    assert of(home) == before


def test_each_profile_has_its_own(home: Path):
    edited("sluicegate.toml", "[policies.own]\n", '[[profile]]\nrecipients = ["x@our.example"]\n')(home)
    with (home / "sluicegate.toml").open("a") as file:
        file.write("[profile.policies.own]\nscore = 6\n")
    profiles = assembled(home).profiles
    pipelines = [profiles.general.pipeline, *(profile.pipeline for profile in profiles.special)]
    found = []
    for pipeline in pipelines:
        pipeline.adapted(lambda setting: found.append(setting) or setting, lambda setting: setting)
    marks = [setting.fingerprint.now for setting in found if setting.policy.name == "own"]
    assert len(marks) == len(set(marks)) == 2


@pytest.mark.parametrize("option", ['listed = "list.txt"', 'more = {x = "list.txt"}'])
def test_it_follows_a_list_that_changes(home: Path, option: str):
    configured(option)(home)
    assembly = assembled(home)
    setting = assembly.policies[0]
    before = setting.fingerprint.now
    (home / "list.txt").write_text("a\n\n# with a comment\nB\n")
    asyncio.run(assembly.files.reload())
    assert setting.fingerprint.now == before
    (home / "list.txt").write_text("a\nb\nc\nand more\n")
    asyncio.run(assembly.files.reload())
    assert setting.fingerprint.now not in {before, ""}
    assert setting.fingerprint.now == of(home)


@pytest.mark.parametrize("name", ["loud", "crafted"])
def test_what_was_made_in_another_function_has_none(home: Path, name: str):
    assert of(home, name) == ""


def test_what_has_no_source_has_none(home: Path):
    setting = assembled(home).policies[0]
    sys.modules[setting.policy.__module__].__file__ = None
    assert fingerprint_of(setting.policy, {}, toml_value) == Fingerprint()


def test_a_built_in_one_changes_with_the_version(monkeypatch: pytest.MonkeyPatch):
    before = fingerprint_of(spam, {}, toml_value)
    assert before == fingerprint_of(spam, {"reject_score": 8.0}, toml_value)
    monkeypatch.setattr(fingerprint, "__version__", "99.0")
    assert fingerprint_of(spam, {}, toml_value) != before


def test_what_will_be_imported_later_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "lingering"
    package.mkdir()
    for name in ("__init__", "later"):
        (package / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(os.fspath(tmp_path))
    for name, line, is_known in (
        ("at_once", "from lingering import *", True),
        ("in_time", "from lingering.later import __doc__", True),
        ("too_late", "", False),
    ):
        inside = "" if is_known else "    import lingering.unseen\n"
        text = f"from policies import Stage, policy\n{line}\n\n@policy(at=Stage.CONNECT)\n"
        (package / f"{name}.py").write_text(f"{text}def it(tx, evidence):\n{inside}    return None\n")
        module = importlib.import_module(f"lingering.{name}")
        assert bool(fingerprint_of(module.it, {}, toml_value).now) is is_known


PACKAGE = {
    "__init__.py": '"""Policies."""\n',
    "rules/__init__.py": '"""Rules."""\n',
    "rules/mine.py": '"""One."""\n\nimport json\n\nfrom policies import Stage, policy\n\n'
    "from . import near\nfrom .. import far\nfrom ..other.deep import DEEP\n\n\n"
    "@policy(at=Stage.CONNECT)\ndef mine(tx, evidence):\n    return None\n",
    "rules/near.py": '"""Near."""\n',
    "rules/unused.py": '"""Unused."""\n',
    "far.py": '"""Far."""\n',
    "other/__init__.py": '"""Others."""\n',
    "other/deep.py": '"""Deep."""\n\nDEEP = 1\n',
}


@pytest.mark.parametrize("changed", PACKAGE)
def test_of_a_package_what_is_imported_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str):
    marks = []
    for number, name in enumerate((None, changed)):
        place = tmp_path / str(number)
        for file, text in PACKAGE.items():
            path = place / "fingerprinted" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "# changed\n" * (file == name))
        monkeypatch.syspath_prepend(os.fspath(place))
        for known in [known for known in sys.modules if known.partition(".")[0] == "fingerprinted"]:
            monkeypatch.delitem(sys.modules, known)
        module = importlib.import_module("fingerprinted.rules.mine")
        marks.append(fingerprint_of(module.mine, {}, toml_value).now)
    assert all(marks)
    assert (marks[0] == marks[1]) is (changed == "rules/unused.py")
