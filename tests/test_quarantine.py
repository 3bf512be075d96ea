"""The quarantine on disk: whole entries or none, and nothing but entries is taken for one."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.quarantine.store import CannotKeep, Entry, Quarantine

CHUNKS = (b"Subject: x\r\n", b"\r\n", b"\x00\xff\r\n")


def entry(reference: str = "7K3F-Q2MD", time: str = "2026-01-01T00:00:00.000000Z") -> Entry:
    return Entry(
        reference=reference,
        time=time,
        reason="odd",
        policy="strange",
        client="192.0.2.1",
        reverse_path="",
        recipients=["a@example.com"],
        parameters={"BODY": "8BITMIME", "SMTPUTF8": None},
    )


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path)


async def test_what_is_kept_is_found_and_can_be_deleted(quarantine: Quarantine, tmp_path: Path):
    await quarantine.keep(entry(), CHUNKS)
    assert quarantine.find("7K3F-Q2MD") == entry()
    with quarantine.open("7K3F-Q2MD") as file:
        assert file.read() == b"".join(CHUNKS)
    assert all(os.stat(tmp_path / name).st_mode & 0o137 == 0 for name in os.listdir(tmp_path))
    quarantine.delete("7K3F-Q2MD")
    assert quarantine.find("7K3F-Q2MD") is None
    assert not os.listdir(tmp_path)


async def test_the_oldest_comes_first(quarantine: Quarantine):
    for reference, time in (("AAAA-AAAA", "2026-03"), ("BBBB-BBBB", "2026-01"), ("CCCC-CCCC", "2026-02")):
        await quarantine.keep(entry(reference, time), CHUNKS)
    assert [each.reference[0] for each in quarantine.entries()] == ["B", "C", "A"]


@pytest.mark.parametrize("error", [OSError("disk"), asyncio.CancelledError()])
async def test_half_a_message_is_none(quarantine: Quarantine, tmp_path: Path, error: BaseException):
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise error

    with pytest.raises(CannotKeep if isinstance(error, OSError) else type(error)):
        await quarantine.keep(entry(), chunks())
    assert not os.listdir(tmp_path)


async def test_a_reference_that_is_taken_stays_the_first_ones(quarantine: Quarantine):
    await quarantine.keep(entry(), CHUNKS)
    with pytest.raises(CannotKeep, match="File exists"):
        await quarantine.keep(entry(), [b"other"])
    with quarantine.open("7K3F-Q2MD") as file:
        assert file.read() == b"".join(CHUNKS)


async def test_what_a_killed_process_left_is_swept_up_and_nothing_else(
    quarantine: Quarantine, tmp_path: Path
):
    await quarantine.keep(entry(), CHUNKS)
    for name in ("BBBB-BBBB.eml", "CCCC-CCCC.eml", "BBBB-BBBB.new"):
        (tmp_path / name).write_bytes(b"half")
    for name in os.listdir(tmp_path):
        os.utime(tmp_path / name, (1000, 2000 if name.startswith("C") else 1000))
    quarantine.sweep(before=1500)
    assert sorted(os.listdir(tmp_path)) == ["7K3F-Q2MD.eml", "7K3F-Q2MD.json", "CCCC-CCCC.eml"]


async def test_a_message_on_its_way_in_is_not_swept_up(quarantine: Quarantine):
    """Whatever age was asked for: its client is about to hear that it was taken."""

    def chunks() -> Iterator[bytes]:
        yield b"half"
        quarantine.sweep(before=2**40)
        yield b" and half"

    await quarantine.keep(entry(), chunks())
    with quarantine.open("7K3F-Q2MD") as file:
        assert file.read() == b"half and half"


@pytest.mark.parametrize(
    "reference", ["", "7K3F", "../../../etc/passwd", "7K3F-Q2M1", "7k3f-q2md", "7K3F-Q2MD/", "7K3F-Q2MD\0"]
)
def test_what_is_no_reference_is_not_looked_for(quarantine: Quarantine, reference: str):
    assert quarantine.find(reference) is None


def test_what_is_no_entry_is_passed_over(quarantine: Quarantine, tmp_path: Path):
    (tmp_path / "7K3F-Q2MD.json").write_bytes(b"{")
    (tmp_path / "AAAA-AAAA.json").write_bytes(b'{"reference": 1}')
    (tmp_path / "notes.json").write_bytes(b"{}")
    (tmp_path / "BBBB-BBBB.eml").write_bytes(b"content without an entry")
    assert not list(quarantine.entries())
