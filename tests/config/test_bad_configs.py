"""Every folder of tests/bad_configs holds a configuration that is refused, and the line that says why.

`{file}` in the expected line stands for the configuration's path, `{dir}` for its folder, `{root}` for the
repository's.
"""

import functools
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import main
from tests.config.command import ROOT, sluicegate

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "bad_configs").glob("*/.expected-error"))

GOOD = """
[gateway]
hostname = "mx.test"
state_directory = "{state}"
[[listener]]
address = "{listen}"
[[relay]]
domains = ["example.com"]
address = ["127.0.0.1:10025"]
"""


@pytest.fixture(autouse=True)
def _leave_no_bytecode(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither compiled plugins beside the golden files, nor their modules in this process."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("sluicegate_plugin_"):
            del sys.modules[name]


def expected(case: Path) -> str:
    line = (case / ".expected-error").read_text(encoding="utf-8")
    names = {"file": case / "sluicegate.toml", "dir": case, "root": ROOT}
    return functools.reduce(lambda text, name: text.replace(f"{{{name}}}", str(names[name])), names, line)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_check_config_says_what_is_wrong_in_one_line(
    case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(case)
    monkeypatch.setattr(
        sys, "argv", ["sluicegate", "check-config", "--config", str(case / "sluicegate.toml")]
    )
    with pytest.raises(SystemExit) as end:
        main()
    output = capsys.readouterr()
    assert (end.value.code, output.out, output.err) == (os.EX_CONFIG, "", expected(case))
    assert output.err.count("\n") == 1


def test_there_are_cases():
    assert len(CASES) > 60


@pytest.mark.parametrize("name", ["toml-syntax", "unknown-key"])
@pytest.mark.parametrize("command", ["check-config", "run", "scan", "log", "explain", "policies"])
def test_every_command_reads_the_file_first(name: str, command: str, tmp_path: Path):
    assert_says_what_is_expected(name, command, tmp_path)


@pytest.mark.parametrize("name", ["policy-option-typo", "plugin-that-raises", "filter-without-an-address"])
@pytest.mark.parametrize("command", ["check-config", "run", "scan"])
def test_what_judges_mail_puts_it_together_first(name: str, command: str, tmp_path: Path):
    assert_says_what_is_expected(name, command, tmp_path)


def assert_says_what_is_expected(name: str, command: str, tmp_path: Path) -> None:
    case = tmp_path / name
    shutil.copytree(Path(__file__).parents[1] / "bad_configs" / name, case)
    config = case / "sluicegate.toml"
    # `run` makes the state directory before plugins are looked at.
    config.write_text(
        config.read_text().replace("[gateway]\n", f'[gateway]\nstate_directory = "{tmp_path}"\n')
    )
    arguments = {"scan": [str(config)], "explain": ["7K3F-Q2MD"]}.get(command, [])
    result = sluicegate(case, command, *arguments, "--config", str(config))
    assert (result.returncode, result.stdout, result.stderr) == (os.EX_CONFIG, "", expected(case))


@pytest.mark.parametrize(
    ("name", "problem"),
    [("no-such-file", "No such file or directory"), ("", "Is a directory"), ("file/x", "Not a directory")],
)
def test_a_file_that_cannot_be_read(name: str, problem: str, tmp_path: Path):
    (tmp_path / "file").touch()
    path = tmp_path / name
    result = sluicegate(tmp_path, "check-config", "--config", str(path))
    assert (result.returncode, result.stdout) == (os.EX_CONFIG, "")
    assert result.stderr == f"{path}: cannot be read: {problem}\n"


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield "{}:{}".format(*listening.getsockname())


def test_a_port_in_use(taken: str, tmp_path: Path):
    config = tmp_path / "sluicegate.toml"
    config.write_text(GOOD.format(state=tmp_path / "state", listen=taken))
    result = sluicegate(tmp_path, "run", "--config", str(config))
    assert (result.returncode, result.stdout) == (os.EX_CONFIG, "")
    problem = f"{taken} cannot be listened on: Address already in use"
    assert result.stderr == f"{config}: [[listener]] address: {problem}\n"


def test_a_port_in_use_for_metrics(taken: str, tmp_path: Path):
    config = tmp_path / "sluicegate.toml"
    metrics = f'[metrics]\naddress = "{taken}"\n'
    config.write_text(GOOD.format(state=tmp_path / "state", listen="127.0.0.1:0") + metrics)
    result = sluicegate(tmp_path, "run", "--config", str(config))
    assert (result.returncode, result.stdout) == (os.EX_CONFIG, "")
    problem = f"{taken} cannot be listened on: Address already in use"
    assert result.stderr == f"{config}: [metrics] address: {problem}\n"


@pytest.mark.parametrize("state", ["file", "file/below"])
def test_a_state_directory_that_is_none(state: str, taken: str, tmp_path: Path):
    (tmp_path / "file").touch()
    config = tmp_path / "sluicegate.toml"
    config.write_text(GOOD.format(state=tmp_path / state, listen=taken))
    result = sluicegate(tmp_path, "run", "--config", str(config))
    assert (result.returncode, result.stdout) == (os.EX_CONFIG, "")
    problem = f'"{tmp_path / state}" cannot be used: Not a directory'
    assert result.stderr == f"{config}: [gateway] state_directory: {problem}\n"
