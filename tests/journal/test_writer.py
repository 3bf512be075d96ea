"""The writer: every record is on disk before the reply, or kept in order, or refused beforehand."""

import ctypes
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.journal.layout import Layout
from gateway.journal.record import encode
from gateway.journal.spool import SpoolFile, list_files
from gateway.journal.writer import JournalFull, JournalWriter
from tests.journal.disk import file_size_limit
from tests.journal.records import make_record, spooled, subjects

ROOT = Path(__file__).parents[2]


def is_locked(path: Path) -> bool:
    with SpoolFile(path) as file:
        return not file.lock()


def test_a_record_is_in_the_file_when_write_returns(layout: Layout):
    with closing(JournalWriter(layout.spool)) as writer:
        writer.write(make_record("one"))
        writer.write(make_record("two"))
        assert spooled(layout.spool) == ["one", "two"]
        assert writer.waiting == 0


def test_each_record_is_one_system_call(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    written: list[bytes] = []
    really_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        written.append(data)
        return really_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    records = [make_record(), make_record()]
    with closing(JournalWriter(layout.spool)) as writer:
        for record in records:
            writer.write(record)
    assert written == [encode(record) for record in records]


def test_the_file_is_private_and_locked_for_as_long_as_the_writer_lives(layout: Layout):
    writer = JournalWriter(layout.spool)
    writer.write(make_record())
    (path,) = list_files(layout.spool)
    assert stat.S_IMODE(path.stat().st_mode) & 0o037 == 0
    assert is_locked(path)
    writer.close()
    assert not is_locked(path)


def test_writers_never_share_a_file(layout: Layout):
    writers = [JournalWriter(layout.spool) for _ in range(20)]
    for writer in writers:
        writer.write(make_record())
    assert len(list_files(layout.spool)) == 20
    for writer in writers:
        writer.close()


def test_a_new_file_is_begun_when_the_old_one_is_long_enough(layout: Layout):
    with closing(JournalWriter(layout.spool, rotate_at=3000)) as writer:
        for number in range(10):
            writer.write(make_record(str(number)))
        files = list_files(layout.spool)
        assert len(files) > 2
        assert all(path.stat().st_size < 6000 for path in files)
        assert [is_locked(path) for path in files[:-1]] == [False] * (len(files) - 1)
    assert spooled(layout.spool) == [str(number) for number in range(10)]


def test_a_file_that_is_deleted_under_the_writer_is_left_at_the_next_flush(layout: Layout):
    with closing(JournalWriter(layout.spool)) as writer:
        writer.write(make_record("lost by whoever deleted it"))
        list_files(layout.spool)[0].unlink()
        writer.flush()
        writer.write(make_record("found"))
        assert spooled(layout.spool) == ["found"]


def test_a_new_file_that_the_keeper_deletes_before_it_is_locked_is_not_written_to(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    really_lock = fcntl.flock
    stolen: list[Path] = []

    def lock_after_keeper(descriptor: int, operation: int) -> None:
        if not stolen:
            stolen.extend(list_files(layout.spool))
            stolen[0].unlink()
        really_lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_keeper)
    with closing(JournalWriter(layout.spool)) as writer:
        writer.write(make_record("kept"))
    assert stolen
    assert spooled(layout.spool) == ["kept"]


def test_a_missing_directory_is_no_error_until_the_buffer_is_full(tmp_path: Path):
    directory = tmp_path / "later"
    with closing(JournalWriter(directory, buffer_limit=8)) as writer:
        writer.write(make_record("early"))
        assert writer.waiting == 1
        assert not writer.flush()
        directory.mkdir()
        assert writer.flush()
    assert spooled(directory) == ["early"]


@pytest.mark.parametrize("cut", [0, 1, 7, 400, -1])
def test_a_line_torn_by_a_full_disk_is_completed_and_nothing_written_twice(layout: Layout, cut: int):
    names = ["before", "torn", "waiting", "last"]
    records = [make_record(name) for name in names]
    room = len(encode(records[0])) + (len(encode(records[1])) + cut if cut < 0 else cut)
    with closing(JournalWriter(layout.spool)) as writer:
        with file_size_limit(room):
            for record in records[:3]:
                writer.write(record)
            assert list_files(layout.spool)[0].stat().st_size == room
            assert writer.waiting == 2
        writer.write(records[3])
        assert writer.waiting == 0
    assert spooled(layout.spool) == names


def test_records_stay_in_order_when_the_disk_comes_and_goes(layout: Layout):
    names = [str(number) for number in range(60)]
    with closing(JournalWriter(layout.spool)) as writer:
        for number, name in enumerate(names):
            with file_size_limit(1500 * (number // 20) + 700):
                writer.write(make_record(name))
        assert writer.waiting > 0
        assert writer.flush()
    assert spooled(layout.spool) == names


def test_new_work_is_turned_away_before_a_record_has_to_be(layout: Layout):
    with closing(JournalWriter(layout.spool, buffer_limit=8)) as writer:
        with file_size_limit(0):
            for _ in range(6):
                assert not writer.is_full
                writer.write(make_record())
            assert writer.is_full
            writer.write(make_record())
            writer.write(make_record())
            with pytest.raises(JournalFull):
                writer.write(make_record("refused"))
            assert writer.waiting == 8
        writer.write(make_record("taken again"))
        assert not writer.is_full
    assert spooled(layout.spool) == ["hello"] * 8 + ["taken again"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB: a mounted one for root, else a directory under a file size limit."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(directory), b"tmpfs", 0, b"size=64k") == 0:
        yield directory
        libc.umount2(bytes(directory), 0)
    else:
        with file_size_limit(65_536):
            yield directory


def test_a_disk_that_fills_up_and_is_emptied_leaves_no_gap(tiny_disk: Path):
    moved: list[str | None] = []
    names = [str(number) for number in range(300)]
    with closing(JournalWriter(tiny_disk, rotate_at=16_384)) as writer:
        for name in names:
            writer.write(make_record(name))
            if writer.waiting == 20:
                moved += _take_away_finished_files(tiny_disk)
        moved += _take_away_finished_files(tiny_disk)
        assert writer.flush()
    moved += _take_away_finished_files(tiny_disk)
    assert moved == names


def _take_away_finished_files(directory: Path) -> list[str | None]:
    moved: list[str | None] = []
    for path in list_files(directory):
        with SpoolFile(path) as file:
            if not file.lock():
                continue
            moved += subjects([entry.record for entry in file.read(0, is_complete=True).entries])
            path.unlink()
    return moved


_WRITE_FOR_EVER = """
import sys
from pathlib import Path
from gateway.journal.writer import JournalWriter
from tests.journal.records import make_record

writer = JournalWriter(Path(sys.argv[1]), rotate_at=20_000)
number = 0
while True:
    writer.write(make_record(str(number)))
    print(number, flush=True)
    number += 1
"""


def test_every_record_that_was_acknowledged_survives_sigkill(layout: Layout):
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOR_EVER, layout.spool], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline().strip() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.read().split()
    found = spooled(layout.spool)
    assert found[: len(acknowledged)] == acknowledged
    assert not any(is_locked(path) for path in list_files(layout.spool))


def test_a_directory_that_cannot_be_listed_is_enough(tmp_path: Path):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gateway.journal.writer import JournalWriter\n"
        "from tests.journal.records import make_record\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "writer = JournalWriter(Path(sys.argv[1]))\n"
        "writer.write(make_record('blind'))\n"
        "sys.exit(writer.waiting)\n"
    )
    # Not below tmp_path: pytest lets only its own user through there.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o333)
        subprocess.run([sys.executable, "-c", program, name], check=True, cwd=ROOT)
        directory.chmod(0o700)
        assert spooled(directory) == ["blind"]
