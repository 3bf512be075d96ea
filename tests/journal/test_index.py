"""The index: records and offsets together, schema versions, retention, readers without rights."""

import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from gateway.journal.index import Index, JournalError, address_key, open_for_reading
from gateway.journal.layout import Layout
from gateway.journal.record import Record
from gateway.journal.search import Query, search
from gateway.journal.spool import Batch, SpoolFile
from tests.journal.records import make_record, put, subjects


def batch_of(layout: Layout, *records: Record) -> Batch:
    with SpoolFile(put(layout.spool, "batch", *records)) as file:
        batch = file.read(0)
    file.path.unlink()
    return batch


def indexed(layout: Layout) -> list[str | None]:
    return subjects(search(layout.index, layout.spool, Query(limit=None)))


def test_a_batch_is_taken_only_where_the_last_one_ended(layout: Layout):
    batch = batch_of(layout, make_record("one"))
    with Index(layout.index) as index:
        assert index.append("a", batch)
        assert not index.append("a", batch)
        assert index.offsets() == {"a": batch.end}
    assert indexed(layout) == ["one"]


def test_a_batch_that_fails_leaves_neither_rows_nor_offset(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    batch = batch_of(layout, make_record("one"), make_record("two"))
    with Index(layout.index) as index:
        with monkeypatch.context() as patch:
            patch.setattr("gateway.journal.index._INSERT_TEXT", "INSERT INTO nowhere VALUES (?, ?)")
            with pytest.raises(sqlite3.OperationalError):
                index.append("a", batch)
        assert index.offsets() == {}
        assert indexed(layout) == []
        assert index.append("a", batch)


def test_a_newer_schema_is_refused_by_readers_and_by_the_writer(layout: Layout):
    Index(layout.index).close()
    connection = sqlite3.connect(layout.index)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="schema 99"):
        Index(layout.index)
    with pytest.raises(JournalError, match="schema 99"):
        open_for_reading(layout.index)


def test_an_index_that_is_none_is_a_clear_error_for_readers(layout: Layout):
    layout.index.write_bytes(b"this is not a database, whatever its name" * 100)
    with pytest.raises(JournalError, match=r"journal\.sqlite: cannot be read"):
        open_for_reading(layout.index)


@pytest.mark.parametrize("exists", [True, False])
def test_no_index_yet_is_no_error_for_readers(layout: Layout, exists: bool):
    if exists:
        layout.index.touch()
    assert open_for_reading(layout.index) is None


def test_a_reader_cannot_write(layout: Layout):
    Index(layout.index).close()
    connection = open_for_reading(layout.index)
    assert connection is not None
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("DELETE FROM records")
    connection.close()


_SEARCH_AS_NOBODY = """
import os, sys
from pathlib import Path
from gateway.journal.layout import Layout
from gateway.journal.search import Query, search

if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
layout = Layout(Path(sys.argv[1]))
sys.exit(len(search(layout.index, layout.spool, Query())))
"""


@pytest.mark.parametrize("keeper_runs", [True, False])
def test_a_reader_with_no_right_but_to_read_can_search(layout: Layout, keeper_runs: bool):
    batch = batch_of(layout, make_record(), make_record(), make_record())
    # Not below tmp_path: pytest lets only its own user through there.
    with tempfile.TemporaryDirectory() as name:
        public = Layout(Path(name))
        public.spool.mkdir(parents=True)
        with Index(public.index) as index:
            index.append("a", batch)
            if not keeper_runs:
                index.close()
            for path in public.state_directory.glob("journal.sqlite*"):
                path.chmod(0o444)
            public.state_directory.chmod(0o555)
            found = subprocess.run([sys.executable, "-c", _SEARCH_AS_NOBODY, name], check=False)
            public.state_directory.chmod(0o700)
    assert found.returncode == 3


def test_the_files_are_closed_to_others(layout: Layout):
    with Index(layout.index) as index:
        index.append("a", batch_of(layout, make_record("one")))
        for path in layout.state_directory.glob("journal.sqlite*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0


def test_an_index_that_was_replaced_is_noticed(layout: Layout):
    with Index(layout.index) as index:
        assert index.is_current
        layout.index.unlink()
        assert not index.is_current
        layout.index.touch()
        other = layout.index.with_name("other")
        other.touch()
        other.rename(layout.index)
        assert not index.is_current


def test_old_records_are_deleted_in_batches_with_all_that_belongs_to_them(layout: Layout):
    ages = [1000, 900, 800, 10, 0]
    records = [make_record(f"subject{age}", age=age, recipients=[f"u{age}@example.com"]) for age in ages]
    with Index(layout.index) as index:
        index.append("a", batch_of(layout, *records))
        assert [index.expire(records[3].time, 2) for _ in range(3)] == [2, 1, 0]
    assert indexed(layout) == ["subject10", "subject0"]
    with closing(sqlite3.connect(layout.index)) as connection:
        assert connection.execute("SELECT count(*) FROM recipients").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM texts").fetchone() == (2,)


def test_offsets_of_deleted_files_are_kept_for_an_hour(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    batch = batch_of(layout, make_record())
    with Index(layout.index) as index:
        index.append("gone", batch)
        index.append("there", batch)
        index.forget(["there"])
        assert set(index.offsets()) == {"gone", "there"}
        monkeypatch.setattr("gateway.journal.index._FORGET_AFTER", -1.0)
        index.forget(["there"])
        assert set(index.offsets()) == {"there"}


def test_addresses_compare_like_numbers_and_families_do_not_mix():
    keys = [address_key(text) for text in ("0.0.0.1", "9.0.0.1", "10.0.0.1", "255.0.0.1", "::", "fe80::1")]
    assert all(keys)
    assert sorted(keys, key=bytes) == keys  # type: ignore[arg-type]
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1")
    assert address_key("mail.example.org") is None
