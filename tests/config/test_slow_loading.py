"""`check-config` with a plugin that does not come to an end: whoever waits is told for what."""

import os
import sys
from pathlib import Path

import pytest

from gateway.cli import check_config, main
from gateway.plugins.modules import PREFIX

# Goes on once it has been complained about.
SLOW = """\
import sys, time

end = time.monotonic() + 30
while f"still loading {__file__}:" not in sys.stderr.getvalue():
    assert time.monotonic() < end
    time.sleep(0.01)
"""


def test_it_says_at_which_line_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    slow = home / "plugins" / "slow.py"
    slow.write_text(SLOW)
    monkeypatch.setattr(check_config, "PATIENCE", 0.01)
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", ["sluicegate", "check-config", "--config", "sluicegate.toml"])
    before = set(sys.modules)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        for name in set(sys.modules) - before:
            if name.startswith(PREFIX):
                del sys.modules[name]
    assert end.value.code == os.EX_OK
    complaints = capsys.readouterr().err.splitlines()
    assert {f"still loading {slow}:{line}" for line in (3, 4, 5, 6)} & set(complaints)
    assert all(line.startswith(f"still loading {home}/plugins/") for line in complaints)
