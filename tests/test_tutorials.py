"""The blocks of the tutorials run as they stand.

A fenced block whose first line is "python NAME.py" is a file of the policy directory, "toml" a part of the
configuration, "text NAME" or "eml NAME" a file beside it, "console" a dialogue with a shell: `$ ` before
what is typed, and `...` in the answer for whatever may stand there. Each page has a directory of its own, and
is followed in it from top to bottom. Its tests pass, and its Python is typed strictly.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    *("docs/writing-policies.md", "docs/policy-api.md", "docs/writing-filters.md", "docs/gallery.md"),
    "docs/behind-postfix.md",
)

BASE = """
[gateway]
hostname = "mx.example.org"
state_directory = "{directory}/state"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["example.org", "example.com"]
address = ["127.0.0.1:10025"]
"""
# The place of the policy directory in the documents, and of the command in front of them.
PLACE = "/etc/sluicegate"
COMMAND = (
    '#!/bin/sh\ncase "$*" in *--config*) set -- "$@";; *) set -- "$@" --config {file};; esac\n{run} "$@"\n'
)

_FENCE = re.compile(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
_TYPED = re.compile(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the rest of its first line, its text."""

    language: str
    name: str
    text: str


@dataclass
class Tutorial:
    """One page, laid out in a directory."""

    directory: Path
    blocks: list[Block]

    @property
    def policies(self) -> Path:
        return self.directory / "policies"

    @property
    def configuration(self) -> Path:
        return self.directory / "sluicegate.toml"

    def lay_out(self) -> None:
        """Write all files, as they are at the end of the page."""
        for block in self.blocks:
            self.write(block)

    def write(self, block: Block) -> None:
        """What is to be done with a block on the way through the page."""
        text = self.placed(block.text)
        if block.language == "python" and block.name:
            (self.policies / block.name).write_text(text, encoding="utf-8")
        elif block.language == "toml":
            self.configuration.write_text(self.completed(text), encoding="utf-8")
        elif block.name:
            (self.directory / block.name).write_text(text, encoding="utf-8")

    def completed(self, fragment: str) -> str:
        """A configuration that has this part."""
        base = "" if "[gateway]" in fragment else BASE.format(directory=self.directory)
        own = "" if "[policies]" in fragment else f'[policies]\ndirectory = "{self.policies}"\n'
        return base + own + fragment

    def placed(self, text: str) -> str:
        return text.replace(PLACE, str(self.directory))

    def run(self, command: str, status: int | None = 0) -> str:
        """What a shell command prints."""
        done = subprocess.run(
            ["sh", "-c", self.placed(command)],
            cwd=self.directory,
            env=self._environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        assert status is None or done.returncode == status, f"{command}\n{done.stdout}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        bin_directory = self.directory / "bin"
        bin_directory.mkdir(exist_ok=True)
        command = bin_directory / "sluicegate"
        command.write_text(COMMAND.format(file=self.configuration, run=f"{sys.executable} -m gateway"))
        command.chmod(0o755)
        path = f"{bin_directory}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def blocks_of(page: str) -> list[Block]:
    return [Block(*found.groups()) for found in _FENCE.finditer((ROOT / page).read_text(encoding="utf-8"))]


@pytest.fixture(params=PAGES)
def tutorial(request: pytest.FixtureRequest, tmp_path: Path) -> Tutorial:
    tutorial = Tutorial(tmp_path, blocks_of(request.param))
    tutorial.policies.mkdir()
    tutorial.configuration.write_text(tutorial.completed(""))
    return tutorial


def test_the_tests_of_the_page_pass(tutorial: Tutorial):
    tutorial.lay_out()
    files = sorted({block.name for block in tutorial.blocks if block.name.startswith("test_")})
    if files:
        said = tutorial.run(f"cd policies && python -m pytest -q -p no:cacheprovider {' '.join(files)}")
        assert " passed" in said


def test_what_is_written_in_python_is_typed(tutorial: Tutorial):
    tutorial.lay_out()
    files = sorted({block.name for block in tutorial.blocks if block.language == "python" and block.name})
    if files:
        cache = ROOT / ".mypy_cache"
        tutorial.run(f"cd policies && python -m mypy --strict --cache-dir {cache} {' '.join(files)}")


def test_a_block_of_python_without_a_name_runs_by_itself(tutorial: Tutorial):
    tutorial.lay_out()
    for block in tutorial.blocks:
        if block.language == "python" and not block.name:
            (tutorial.policies / "block.txt").write_text(block.text)
            tutorial.run("cd policies && python -W error block.txt")


def test_every_part_of_the_configuration_is_accepted(tutorial: Tutorial):
    tutorial.lay_out()
    for block in tutorial.blocks:
        if block.language == "toml":
            tutorial.write(block)
            tutorial.run("sluicegate check-config")


def test_what_is_typed_is_answered_as_the_page_says(tutorial: Tutorial):
    """From the top to the bottom: each file is written where it stands."""
    for block in tutorial.blocks:
        if block.language != "console":
            tutorial.write(block)
            continue
        for command, wanted in _TYPED.findall(block.text):
            said = tutorial.run(command, status=None)
            pattern = re.escape(tutorial.placed(wanted).rstrip()).replace(r"\.\.\.", r"(?:.|\n)*?")
            assert re.fullmatch(rf"\s*{pattern}\s*", said), f"$ {command}\n{said}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_blocks_to_run(page: str):
    assert any(block.language in {"python", "console"} for block in blocks_of(page))
