"""`sluicegate policies test`: the tests beside the policies, in the environment that runs them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import click

from gateway.cli.common import config_option, policy_directory
from gateway.config import load

_OPTIONS = [
    "-P",  # not from the current directory: it may have a folder named "policies"
    "-m",
    "pytest",
    "-p",
    "gateway.plugins.fixtures",
    # The directory is the gateway's to read: nothing is left in it.
    "-p",
    "no:cacheprovider",
    # What is installed goes before a policy of the same name, as when the gateway imports it.
    "--import-mode=append",
]
_NO_TESTS = 5  # pytest's exit status


@click.command("test", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, metavar="[NAME]... [-- PYTEST ARGUMENTS]", type=click.UNPROCESSED)
@config_option
def run_tests(arguments: tuple[str, ...], config_file: Path) -> int:
    """Run the tests beside the policies with pytest: all, or those of the policies NAME."""
    directory = policy_directory(load(config_file))
    if importlib.util.find_spec("pytest") is None:
        raise click.ClickException("pytest is not installed here: pip install 'sluicegate[testing]'")
    count = next((number for number, each in enumerate(arguments) if each.startswith("-")), len(arguments))
    files = [_test_of(name, directory) for name in arguments[:count]] or [directory]
    command = [sys.executable, *_OPTIONS, *map(str, files), *arguments[count:]]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    # Our own interpreter, and what the operator has typed.
    status = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
    if status == _NO_TESTS:
        click.echo(f"{directory}: no test was run; `sluicegate policies new` writes one", err=True)
    return status


def _test_of(name: str, directory: Path) -> Path:
    file = directory / f"test_{name}.py"
    if not file.is_file():
        raise click.UsageError(f"{file}: no such test")
    return file
