"""The measurement of sets of policies, on a small archive and with real scanners."""

import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks import corpus
from benchmarks.scans import Scan
from tests.fakes.spamd import GTUBE
from tests.integration.test_real_scanners import PLAIN

CORPUS = Path(__file__).parents[1] / "corpus"
HAM = (
    *("base64-attachment", "dot-first", "eight-bit-body", "folded-header", "mbox-line", "nested-multipart"),
    *("plain", "quoted-printable", "signature-layout", "text-only", "trace-fields"),
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Eleven good messages and the one that every scanner knows."""
    for folder in ("easy-ham-1", "spam-1"):
        (tmp_path / "archive" / folder).mkdir(parents=True)
    for name in HAM:
        shutil.copy(CORPUS / f"{name}.eml", tmp_path / "archive" / "easy-ham-1" / f"{name}.txt")
    (tmp_path / "archive" / "spam-1" / "gtube.txt").write_bytes(PLAIN + GTUBE + b"\r\n")
    return tmp_path / "archive"


def test_a_small_archive_is_measured(archive: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    cases = [str(archive), "--cache", str(cache)]
    result = CliRunner().invoke(corpus.main, cases, catch_exceptions=False)
    assert result.exit_code == 0, result.output

    scans = {
        scan.message: scan
        for scan in (msgspec.json.decode(line, type=Scan) for line in cache.read_bytes().splitlines())
    }
    assert set(scans) == {"spam-1/gtube", *(f"easy-ham-1/{name}" for name in HAM)}
    gtube = scans["spam-1/gtube"]
    assert gtube.spamassassin is not None
    assert gtube.rspamd is not None
    assert "GTUBE" in gtube.spamassassin.rules
    assert gtube.rspamd.action == "reject"
    # Each message is told from a client, of whom the gateway does not know the name.
    assert all(
        scan.rspamd and "HFILTER_HOSTNAME_UNKNOWN" in scan.rspamd.rules
        for scan in scans.values()
        if scan != gtube
    )

    everything = result.output.partition("all: 11 easy ham, 0 hard ham, 1 spam")[2]
    for name in ("SpamAssassin alone", "Rspamd alone", "both"):
        row = next(line for line in everything.splitlines() if name in line)
        cells = [cell.strip() for cell in row.split("│")]
        assert (cells[2], cells[4]) == ("1 (100.0 %)", "0 (0.0 %)")

    # With all of it known, no scanner is started.
    again = CliRunner().invoke(corpus.main, cases, catch_exceptions=False, env={"PATH": ""})
    assert again.output.partition("first half")[1:] == result.output.partition("first half")[1:]


def test_an_archive_without_messages_is_said_to_be_one(tmp_path: Path):
    result = CliRunner().invoke(corpus.main, [str(tmp_path)])
    assert result.exit_code == 1
    assert "has no directory of ham or spam" in result.output
