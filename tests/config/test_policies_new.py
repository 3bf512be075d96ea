"""`sluicegate policies new` and `test`: what is written passes, and nothing is overwritten."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.plugins.scaffold import ScaffoldError, scaffold
from policies import Stage
from tests.config.command import ROOT, sluicegate

BROKEN = """
import pytest
from helo import helo


@pytest.mark.parametrize("good", [True, False])
def test_helo(judge, good):
    assert good
"""


def new(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sluicegate(directory, "policies", "new", *arguments)


def write_all(directory: Path) -> list[str]:
    """A policy for each stage, and one for each kind of evidence at the last."""
    names = []
    for stage in Stage:
        names.append(f"at_{stage.name.lower()}")
        assert new(directory, names[-1], "--at", stage.value, "--directory", ".").returncode == 0
    for needs in (["Listings"], ["Route", "SpamReport"], ["VirusReport"]):
        names.append(f"with_{needs[-1].lower()}")
        wanted = [word for need in needs for word in ("--needs", need)]
        assert new(directory, names[-1], *wanted, "--directory", ".").returncode == 0
    return names


def test_what_is_written_is_typed_tested_and_loads(tmp_path: Path):
    names = write_all(tmp_path)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.stdout == f"Success: no issues found in {2 * len(names)} source files\n"
    (tmp_path / "sluicegate.toml").write_text(
        '[gateway]\nhostname = "mx.test"\n[[listener]]\naddress = "127.0.0.1:2525"\n'
        '[[relay]]\ndomains = ["a.example"]\naddress = ["127.0.0.1:10025"]\n[policies]\ndirectory = "."\n'
    )
    tested = sluicegate(
        tmp_path,
        "policies",
        "test",
        "--config",
        "sluicegate.toml",
        "--",
        "-q",
        "-W",
        "error",
        "-p",
        "no:asyncio",
    )
    assert f"{3 * len(names)} passed" in tested.stdout, tested.stdout + tested.stderr
    assert tested.returncode == 0
    listed = sluicegate(tmp_path, "policies", "--config", "sluicegate.toml").stdout
    assert all(f"\n{name} " in listed for name in names)
    assert not (tmp_path / ".pytest_cache").exists()
    assert not (tmp_path / "__pycache__").exists()


def test_it_goes_into_the_configured_directory_and_says_what_is_next(home: Path):
    for arguments in (
        ["--config", "sluicegate.toml", "new", "mine"],
        ["new", "yours", "--config", "sluicegate.toml"],
    ):
        result = sluicegate(home, "policies", *arguments)
        name = arguments[-1] if arguments[0] == "--config" else arguments[1]
        assert (result.returncode, result.stderr) == (os.EX_OK, "")
        files, *_ = result.stdout.split("Try it")
        assert files == f"plugins/{name}.py\nplugins/test_{name}.py\n"
        assert f"sluicegate policies test {name}\n" in result.stdout
        assert f'add "{name}" to `order`' in result.stdout
        assert (home / "plugins" / f"{name}.py").is_file()


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path, there: str):
    (tmp_path / there).write_text("precious")
    result = new(tmp_path, "mine", "--directory", ".")
    assert result.returncode == os.EX_USAGE
    assert f"{there} is there already" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["my-policy"], "'my-policy' is no name for a function"),
        (["größe"], "'größe' is no name for a function; take ASCII letters, digits and _"),
        (["1st"], "'1st' is no name for a function; take ASCII letters, digits and _"),
        (["class"], "'class' is a keyword of Python"),
        (["../x"], "'../x' is no name for a function"),
        (["_"], "'_' has neither a letter nor a digit"),
        (["test_x"], "'test_x' is a name for a test: test_x.py would not be loaded"),
        (["x_test"], "'x_test' is a name for a test"),
        (["conftest"], "'conftest' is a name for a test"),
        (["order"], "'order' is a key of [policies]"),
        (["spam"], "the name 'spam' is taken by policies.spam:spam"),
        (["email"], "'email' is a module that is installed"),
        (["policies"], "'policies' is a module that is installed"),
        (["reject"], "'reject' is a name that a policy or its test uses"),
        (["subject"], "'subject' is a name that a policy or its test uses"),
        (["x", "--at", "mail", "--needs", "SpamReport"], "SpamReport is found at end-of-data and not before"),
        (["x", "--at", "connect", "--needs", "Route"], "Route is found at rcpt and not before"),
        (["x", "--needs", "Klingon"], "'Klingon' is not one of"),
        (["x", "--directory", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: list[str], problem: str):
    directory = [] if "--directory" in arguments else ["--directory", "."]
    result = new(tmp_path, *arguments, *directory)
    assert (result.returncode, result.stdout) == (os.EX_USAGE, "")
    assert problem in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_evidence_that_nobody_can_make_up_is_refused():
    from dataclasses import dataclass

    from policies import Finding

    @dataclass(frozen=True)
    class Weather(Finding):
        sky: object

    with pytest.raises(ScaffoldError, match=r"Weather\.sky is of a type that has no value"):
        scaffold("x", Stage.END_OF_DATA, [Weather])


# Running the tests beside the policies


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sluicegate(home, "policies", "test", "--config", "sluicegate.toml", *arguments)


def test_the_status_is_that_of_the_tests(home: Path):
    (home / "plugins" / "test_helo.py").write_text(BROKEN)
    everything, passing = run(home, "helo"), run(home, "helo", "--", "-k", "True")
    assert (everything.returncode, passing.returncode) == (1, 0)
    assert "1 failed, 1 passed" in everything.stdout
    assert "1 passed, 1 deselected" in passing.stdout


def test_without_a_test_there_is_nothing_to_run(home: Path):
    assert (run(home).returncode, run(home, "helo").returncode) == (5, os.EX_USAGE)
    assert "plugins: no test was run; `sluicegate policies new` writes one" in run(home).stderr
    assert "plugins/test_helo.py: no such test" in run(home, "helo").stderr


@pytest.mark.parametrize("command", ["test", "new"])
def test_policies_live_in_a_directory(home: Path, command: str):
    config = home / "sluicegate.toml"
    text = config.read_text()
    config.write_text(text.replace('directory = "plugins"', ""))
    result = sluicegate(home, "policies", "--config", "sluicegate.toml", command, "x")
    assert result.returncode == os.EX_CONFIG
    assert result.stderr == "sluicegate.toml: [policies] directory: is not set, and policies live there\n"
    config.write_text(text.replace('"plugins"', '"nowhere"'))
    result = sluicegate(home, "policies", "--config", "sluicegate.toml", command, "x")
    assert result.stderr == "sluicegate.toml: [policies] directory: nowhere: no such directory\n"


def test_without_pytest_it_says_how_to_get_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(home)
    monkeypatch.setitem(sys.modules, "pytest", None)
    monkeypatch.setattr(sys, "argv", ["sluicegate", "policies", "--config", "sluicegate.toml", "test"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "pip install 'sluicegate[testing]'" in capsys.readouterr().err
