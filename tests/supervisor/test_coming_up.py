"""Workers that do not come up: the old ones go on, and the log says why in one line."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gateway import child
from tests.fakes.mta import FakeMTA
from tests.supervisor.watched import Watched
from tests.waiting import eventually

_LONG = 30.0
_HANGS = """\
import pathlib, time

pathlib.Path("{sign}").touch()
while True:
    time.sleep(1)
"""


@pytest.fixture
async def watched(tmp_path: Path, mta: FakeMTA) -> AsyncIterator[Watched]:
    async with Watched(tmp_path, mta.address, workers=1) as gateway:
        yield gateway


async def refusal(lines: list[EventDict]) -> dict[str, Any]:
    """The line that says that the old configuration stays."""

    def find() -> list[EventDict]:
        return [line for line in lines if "the old one stays" in line["event"]]

    (line,) = await eventually(find, _LONG)
    return dict(line)


async def test_what_ends_while_a_plugin_is_loaded_is_said_with_the_line(watched: Watched, tmp_path: Path):
    before, sign = watched.workers(), tmp_path / "sign"
    (tmp_path / "policies" / "hangs.py").write_text(_HANGS.format(sign=sign))
    with capture_logs() as lines:
        watched.reload()
        await eventually(sign.exists, _LONG)
        (new,) = watched.workers() - before
        os.kill(new, signal.SIGABRT)
        line = await refusal(lines)
    place = f"{tmp_path}/policies/hangs.py:"
    assert line["error"].startswith(f"the smtp process died (Aborted); it was at {place}")
    assert line["error"].removeprefix(f"the smtp process died (Aborted); it was at {place}") in {"4", "5"}
    assert watched.workers() == before


async def test_who_does_not_come_up_in_time_is_ended(watched: Watched, monkeypatch: pytest.MonkeyPatch):
    before = watched.workers()
    # Nobody is so fast.
    monkeypatch.setattr(child, "START_TIMEOUT", 0.001)
    with capture_logs() as lines:
        watched.reload()
        line = await refusal(lines)
    assert line["error"] == "the smtp process did not come up within 0.001 s"
    assert watched.workers() == before


async def test_why_a_worker_refuses_is_in_the_line(watched: Watched, tmp_path: Path):
    before, bad = watched.workers(), tmp_path / "policies" / "bad.py"
    bad.write_text("1 / 0\n")
    with capture_logs() as lines:
        watched.reload()
        line = await refusal(lines)
    problem = f"{bad}:1: ZeroDivisionError: division by zero"
    assert line["error"] == f"{watched.process.file}: [policies] directory: {problem}"
    assert watched.workers() == before


async def test_who_cannot_be_started_again_is_said(watched: Watched, monkeypatch: pytest.MonkeyPatch):
    (worker,) = watched.workers()
    with capture_logs() as lines, monkeypatch.context() as hasty:
        hasty.setattr(child, "START_TIMEOUT", 0.001)
        os.kill(worker, signal.SIGKILL)

        def said() -> list[str]:
            return [line["error"] for line in lines if line["event"] == "a process does not come up"]

        assert (await eventually(said, _LONG))[0] == "the smtp process did not come up within 0.001 s"
    await eventually(watched.workers, _LONG)
