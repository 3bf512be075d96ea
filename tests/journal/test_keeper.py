"""The keeper: every record once in the index, whatever happens to keeper, writer, index and disk."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from structlog.testing import capture_logs

from gateway.journal import keeper as keeper_module
from gateway.journal.index import Index, JournalError, open_for_reading
from gateway.journal.keeper import Keeper
from gateway.journal.layout import Layout
from gateway.journal.record import encode
from gateway.journal.search import Query, search
from gateway.journal.spool import list_files
from gateway.journal.writer import JournalWriter
from tests.journal.disk import file_size_limit
from tests.journal.records import make_record, put, subjects

RETENTION = 86_400.0


@pytest.fixture
def keeper(layout: Layout) -> Iterator[Keeper]:
    with closing(Keeper(layout.spool, layout.index, RETENTION)) as keeper:
        yield keeper


def indexed(layout: Layout) -> list[str | None]:
    """What the index alone has."""
    return subjects(search(layout.index, layout.spool / "elsewhere", Query(limit=None)))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@contextmanager
def running(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(keeper_module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(keeper_module, "MAX_PAUSE", 0.004)
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,))
    thread.start()
    try:
        yield
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join()


def test_a_finished_file_is_moved_and_deleted(layout: Layout, keeper: Keeper):
    put(layout.spool, "a", make_record("one"), make_record("two"))
    assert keeper.poll() == 2
    assert list_files(layout.spool) == []
    assert indexed(layout) == ["one", "two"]
    assert keeper.poll() == 0


def test_a_file_that_grows_is_moved_piece_by_piece_and_deleted_after_its_writer(
    layout: Layout, keeper: Keeper
):
    with closing(JournalWriter(layout.spool)) as writer:
        for name in ("one", "two"):
            writer.write(make_record(name))
            assert keeper.poll() == 1
        assert len(list_files(layout.spool)) == 1
    assert keeper.poll() == 0
    assert list_files(layout.spool) == []
    assert indexed(layout) == ["one", "two"]


def test_a_file_that_was_left_for_the_next_one_is_deleted(layout: Layout, keeper: Keeper):
    with closing(JournalWriter(layout.spool, rotate_at=3000)) as writer:
        for number in range(20):
            writer.write(make_record(str(number)))
        keeper.poll()
        assert len(list_files(layout.spool)) <= 1
    assert indexed(layout) == [str(number) for number in range(20)]


def test_garbage_is_reported_and_passed_over(layout: Layout, keeper: Keeper):
    put(layout.spool, "a", make_record("one"), tail=b"garbage\n" + encode(make_record("two")) + b"torn")
    with capture_logs() as logs:
        assert keeper.poll() == 2
    assert [entry["lines"] for entry in logs] == [1, 1]
    assert list_files(layout.spool) == []


def test_a_file_that_cannot_be_read_holds_up_no_other_and_is_named_once(layout: Layout, keeper: Keeper):
    (layout.spool / "0.jsonl").symlink_to("nowhere")
    put(layout.spool, "1", make_record("one"))
    with capture_logs() as logs:
        assert [keeper.poll(), keeper.poll()] == [1, 0]
    assert [entry["file"] for entry in logs] == [str(layout.spool / "0.jsonl")]


def test_a_keeper_started_late_finds_everything(layout: Layout, keeper: Keeper):
    for number in range(5):
        put(layout.spool, str(number), make_record(str(number)))
    assert keeper.poll() == 5
    assert indexed(layout) == ["0", "1", "2", "3", "4"]


def test_two_keepers_at_once_index_nothing_twice(layout: Layout):
    # While one creates the index, SQLite does not let the other wait; it would have to try again.
    Index(layout.index).close()
    names = [str(number) for number in range(400)]
    for number in range(40):
        put(layout.spool, f"{number:03}", *map(make_record, names[number * 10 : number * 10 + 10]))
    keepers = [Keeper(layout.spool, layout.index, RETENTION) for _ in range(2)]
    threads = [threading.Thread(target=_poll_and_close, args=(keeper,)) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, indexed(layout)), key=int) == names


def _poll_and_close(keeper: Keeper) -> None:
    for _ in range(5):
        keeper.poll()
    keeper.close()


def test_old_records_go(layout: Layout, keeper: Keeper):
    put(layout.spool, "a", make_record("old", age=2 * RETENTION), make_record("young"))
    keeper.poll()
    assert indexed(layout) == ["young"]


def test_a_deleted_index_is_begun_anew(layout: Layout, keeper: Keeper):
    with closing(JournalWriter(layout.spool)) as writer:
        writer.write(make_record("still in the spool"))
        keeper.poll()
        for path in layout.state_directory.glob("journal.sqlite*"):
            path.unlink()
        writer.write(make_record("new"))
        assert keeper.poll() == 2
    assert indexed(layout) == ["still in the spool", "new"]


def test_a_full_disk_stops_nothing_for_good(layout: Layout, keeper: Keeper):
    keeper.poll()
    put(layout.spool, "a", *[make_record(str(number)) for number in range(200)])
    with file_size_limit(100_000), pytest.raises((sqlite3.Error, OSError)):
        keeper.poll()
    keeper.close()
    assert len(list_files(layout.spool)) == 1
    assert keeper.poll() == 200
    assert indexed(layout) == [str(number) for number in range(200)]


def test_a_broken_index_is_reported_once_and_tried_again_until_it_works(
    layout: Layout, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
):
    layout.index.write_bytes(b"this is no database " * 1000)
    attempts = threading.Semaphore(0)
    really_poll = Keeper.poll

    def poll(self: Keeper) -> int:
        attempts.release()
        return really_poll(self)

    monkeypatch.setattr(Keeper, "poll", poll)
    put(layout.spool, "a", make_record("patient"))
    with capture_logs() as logs, running(keeper, monkeypatch):
        for _ in range(5):
            assert attempts.acquire(timeout=20)
        mended = layout.index.with_name("mended")
        mended.touch()
        mended.rename(layout.index)
        wait_until(lambda: list_files(layout.spool) == [])
    assert indexed(layout) == ["patient"]
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert "not a database" in logs[0]["error"]


def test_an_index_of_a_newer_release_is_left_alone(layout: Layout, keeper: Keeper):
    keeper.poll()
    keeper.close()
    with closing(sqlite3.connect(layout.index)) as connection:
        connection.execute("PRAGMA user_version = 2")
    put(layout.spool, "a", make_record())
    with pytest.raises(JournalError, match="newer release"):
        keeper.poll()
    assert len(list_files(layout.spool)) == 1


def test_pauses_grow_while_it_fails(layout: Layout, keeper: Keeper):
    layout.index.mkdir()
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            pauses.append(timeout)
            if len(pauses) == 12:
                layout.index.rmdir()
            return len(pauses) == 14

    keeper.run(Stop())
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert pauses[11] == keeper_module.MAX_PAUSE
    assert pauses[13] == keeper_module.POLL_SECONDS


def test_what_was_written_before_the_stop_is_in_the_index_after_it(layout: Layout, keeper: Keeper):
    stop = threading.Event()
    stop.set()
    put(layout.spool, "a", make_record("last"))
    keeper.run(stop)
    assert indexed(layout) == ["last"]


# A keeper that kills itself just before the given call, at the given count of calls.
_KEEPER_THAT_DIES = """
import os, signal, sys, threading
from pathlib import Path
from gateway.journal import index, keeper
from gateway.journal.layout import Layout

layout, place, count = Layout(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])

def dying(function):
    def call(*args, **keywords):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **keywords)
    return call

owner, name = {
    "append": (index.Index, "append"),
    "row": (index, "_record_row"),
    "settle": (index.Index, "settle"),
    "unlink": (Path, "unlink"),
    "after": (keeper.Keeper, "_report_garbage"),
}[place]
setattr(owner, name, dying(getattr(owner, name)))
keeper.Keeper(layout.spool, layout.index, 86400).poll()
"""


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("place", ["append", "row", "settle", "unlink", "after"])
def test_a_keeper_killed_at_any_place_loses_and_doubles_nothing(
    layout: Layout, keeper: Keeper, place: str, count: int
):
    names = [str(number) for number in range(12)]
    for number in range(4):
        put(layout.spool, str(number), *map(make_record, names[number * 3 : number * 3 + 3]))
    died = subprocess.run(
        [sys.executable, "-c", _KEEPER_THAT_DIES, layout.state_directory, place, str(count)], check=False
    )
    assert died.returncode == -signal.SIGKILL
    keeper.poll()
    assert list_files(layout.spool) == []
    assert sorted(map(str, indexed(layout)), key=int) == names


_KEEPER = """
import sys, threading
from pathlib import Path
from gateway.journal.keeper import Keeper
from gateway.journal.layout import Layout

layout = Layout(Path(sys.argv[1]))
keeper = Keeper(layout.spool, layout.index, 86400)
while True:
    print(keeper.poll(), flush=True)
"""


def test_a_keeper_killed_again_and_again_under_load_loses_and_doubles_nothing(layout: Layout, keeper: Keeper):
    written = 0
    with closing(JournalWriter(layout.spool, rotate_at=20_000)) as writer:
        for _ in range(5):
            with subprocess.Popen(
                [sys.executable, "-c", _KEEPER, layout.state_directory], stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                for _ in range(20):
                    for _ in range(20):
                        writer.write(make_record(str(written)))
                        written += 1
                    process.stdout.readline()
                process.kill()
    keeper.poll()
    assert sorted(map(str, indexed(layout)), key=int) == [str(number) for number in range(written)]


def test_an_idle_poll_writes_nothing(layout: Layout, keeper: Keeper):
    with closing(JournalWriter(layout.spool)) as writer:
        writer.write(make_record())
        keeper.poll()
        before = [(path, os.stat(path).st_mtime_ns) for path in layout.state_directory.glob("*")]
        keeper.poll()
        assert before == [(path, os.stat(path).st_mtime_ns) for path in layout.state_directory.glob("*")]


def test_a_reader_of_the_index_never_holds_up_the_keeper(layout: Layout, keeper: Keeper):
    keeper.poll()
    connection = open_for_reading(layout.index)
    assert connection is not None
    with closing(connection):
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM records").fetchone()
        put(layout.spool, "a", make_record())
        assert keeper.poll() == 1
        assert list_files(layout.spool) == []
