"""The command as a process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def sluicegate(
    directory: Path, *arguments: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `sluicegate` in this directory; standard output and standard error are no terminals.

    `given` is what it reads from standard input, which is by default that of the tests.
    """
    return subprocess.run(
        [sys.executable, "-B", "-m", "gateway", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=given,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
