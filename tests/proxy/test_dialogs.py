"""Every transcript in `tests/dialogs` goes as written."""

from pathlib import Path

import pytest

import gateway.proxy.budget
from tests.fakes.mta import FakeMTA
from tests.proxy import transcript
from tests.proxy.conftest import GatewayStarter

DIALOGS = {
    path.stem: transcript.read(path)
    for path in sorted((Path(__file__).parents[1] / "dialogs").glob("*.smtp"))
}


@pytest.mark.parametrize("dialog", DIALOGS.values(), ids=DIALOGS)
async def test_the_dialog_goes_as_written(
    start_gateway: GatewayStarter,
    mta: FakeMTA,
    monkeypatch: pytest.MonkeyPatch,
    dialog: transcript.Transcript,
):
    # Clients that err wait; we need not.
    monkeypatch.setattr(gateway.proxy.budget, "_LONGEST_DELAY", 0.001)
    transcript.prepare(dialog, mta)
    running = await start_gateway(**dialog.settings)
    await transcript.run(dialog, running.port)
    await running.no_client()
    await transcript.check(dialog, mta, running.records)


def test_a_transcript_that_says_nothing_is_refused(tmp_path: Path):
    path = tmp_path / "wrong.smtp"
    path.write_text("-> NOOP\nthen something happens\n")
    with pytest.raises(transcript.TranscriptError, match=r"wrong\.smtp:2"):
        transcript.read(path)
