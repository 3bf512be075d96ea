"""Plugins as Python's modules: lines in tracebacks, imports among them, and whose name wins."""

import inspect
import sys
import traceback
from pathlib import Path

import pytest

from gateway.plugins.discovery import PluginError, discover
from gateway.plugins.modules import PREFIX, Modules
from gateway.plugins.sources import Source, read_sources
from policies.testing import evidence, transaction

POLICY = """\
from policies import Evidence, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.END_OF_DATA)
def {name}(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return {result}
"""


def sources(**texts: str | bytes) -> list[Source]:
    return [
        Source(f"/nowhere/{name}.py", text if isinstance(text, bytes) else text.encode())
        for name, text in sorted(texts.items())
    ]


def test_what_was_read_runs_whatever_happens_to_the_file(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(POLICY.format(name="mine", result='reject("before")'))
    read = read_sources(tmp_path)
    file.write_text("nonsense(")
    found = discover(read).policies["mine"]
    verdict = found.load()(transaction(), evidence())
    assert verdict is not None
    assert verdict.reason == "before"
    assert found.origin == f"{file}:4"


def test_tracebacks_and_inspect_show_the_lines_that_were_read():
    text = POLICY.format(name="mine", result="1 / 0  # here")
    policy = discover(sources(mine=text)).policies["mine"].load()
    assert "1 / 0  # here" in inspect.getsource(policy.function)
    with pytest.raises(ZeroDivisionError) as raised:
        policy(transaction(), evidence())
    shown = "".join(traceback.format_exception(raised.value))
    assert 'File "/nowhere/mine.py", line 6, in mine\n    return 1 / 0  # here\n' in shown


@pytest.mark.parametrize(
    "text",
    [
        "# -*- coding: iso-8859-1 -*-\nWORD = 'grün'\n".encode("iso-8859-1"),
        "WORD = 'grün'\n".encode("utf-8-sig"),
        "WORD = 'grün'\r\n".encode(),
    ],
)
def test_encodings_are_as_python_takes_them(text: bytes):
    discover(sources(colour=text))
    assert sys.modules[f"{PREFIX}colour"].WORD == "grün"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"# coding: klingon\n", "/nowhere/bad.py: SyntaxError: unknown encoding: klingon"),
        (b"\n\nWORD = '\xff'\n", "/nowhere/bad.py:3: SyntaxError: (unicode error) 'utf-8' codec"),
        (b"WORD = '\0'\n", "/nowhere/bad.py:1: SyntaxError: there is a NUL in it"),
        (b"x = " + b"(" * 300, "/nowhere/bad.py:1: SyntaxError: too many nested parentheses"),
    ],
)
def test_octets_that_are_no_source_are_said_so(text: bytes, problem: str):
    with pytest.raises(PluginError) as refusal:
        discover(sources(bad=text))
    assert str(refusal.value).startswith(problem)


def test_plugins_import_each_other_and_nothing_exists_twice():
    helper = "LOADED = []\nLOADED.append(1)\nclass Thing: ...\n"
    discover(sources(a="import helper\nfrom helper import Thing\n", helper=helper, z="from a import Thing\n"))
    first, loaded, last = (sys.modules[f"{PREFIX}{name}"] for name in ("a", "helper", "z"))
    assert first.helper is loaded
    assert first.Thing is loaded.Thing is last.Thing
    assert loaded.LOADED == [1]
    assert loaded.Thing.__module__ == f"{PREFIX}helper"


def test_they_may_import_each_other_in_a_circle():
    discover(sources(a="import b\nX = 1\n", b="import a\nY = 2\n"))
    assert sys.modules[f"{PREFIX}a"].b.Y == 2
    assert sys.modules[f"{PREFIX}b"].a.X == 1


def test_an_import_may_come_late():
    text = POLICY.format(name="late", result="__import__('helper').VERDICT")
    policy = discover(sources(late=text, helper="VERDICT = None\n")).policies["late"].load()
    assert policy(transaction(), evidence()) is None


def test_a_policy_that_is_imported_is_found_once():
    found = discover(
        sources(a="from mine import mine\n", mine=POLICY.format(name="mine", result="None"))
    ).policies["mine"]
    assert found.origin == "/nowhere/mine.py:4"


def test_what_is_installed_goes_before_what_is_called_like_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    discover(sources(colorsys="MINE = 1\n", other="import colorsys\n"))
    assert sys.modules[f"{PREFIX}other"].colorsys.rgb_to_hsv
    assert sys.modules[f"{PREFIX}colorsys"].MINE == 1


def test_another_directory_replaces_the_one_before():
    discover(sources(a="import helper\n", helper="X = 1\n"))
    discover(sources(a="import helper\n", helper="X = 2\n"))
    assert sys.modules[f"{PREFIX}a"].helper.X == 2
    assert sum(isinstance(finder, Modules) for finder in sys.meta_path) == 1
    with pytest.raises(PluginError, match="No module named 'helper'"):
        discover(sources(b="import helper\n"))
    assert "helper" not in sys.modules


def test_an_error_in_a_helper_is_told_at_its_line():
    with pytest.raises(PluginError) as refusal:
        discover(sources(a="\nimport helper\n", helper="\n\n1 / 0\n"))
    assert str(refusal.value) == "/nowhere/helper.py:3: ZeroDivisionError: division by zero"


def test_a_package_below_is_no_module(tmp_path: Path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "__init__.py").touch()
    (tmp_path / "a.py").write_text("import below\n")
    with pytest.raises(PluginError) as refusal:
        discover(read_sources(tmp_path))
    assert str(refusal.value) == f"{tmp_path}/a.py:1: ModuleNotFoundError: No module named 'below'"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("from policies import SpamReprot\n", "'policies' ({}); did you mean 'SpamReport'?"),
        ("from policies import Stage\nStage.END_OF_DTA\n", "END_OF_DTA; did you mean 'END_OF_DATA'?"),
        ("from policies import Stage\nStge\n", "name 'Stge' is not defined; did you mean 'Stage'?"),
        ("from policies import Klingon\n", "cannot import name 'Klingon' from 'policies' ({})"),
    ],
)
def test_a_mistyped_name_is_guessed(text: str, problem: str):
    import policies

    with pytest.raises(PluginError) as refusal:
        discover(sources(a=text))
    line = text.count("\n")
    assert str(refusal.value).startswith(f"/nowhere/a.py:{line}: ")
    assert str(refusal.value).endswith(problem.format(policies.__file__))
