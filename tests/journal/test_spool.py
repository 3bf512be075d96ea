"""The spool's reading side: growing, torn and foreign files."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from gateway.journal.layout import Layout
from gateway.journal.record import MAX_LINE, encode
from gateway.journal.spool import Batch, SpoolFile, list_files
from gateway.journal.writer import JournalWriter
from tests.journal.records import make_record, put, subjects


def read_all(path: Path, *, is_complete: bool = True) -> tuple[list[str | None], int, int]:
    """Subjects, lines of garbage, and the offset at which nothing more was to be had."""
    found: list[str | None] = []
    garbage = offset = 0
    with SpoolFile(path) as file:
        while batch := file.read(offset, is_complete=is_complete):
            found += subjects([entry.record for entry in batch.entries])
            garbage += batch.garbage
            offset = batch.end
    return found, garbage, offset


def test_entries_know_where_their_lines_begin(layout: Layout):
    path = put(layout.spool, "a", make_record("one"), make_record("two"))
    content = path.read_bytes()
    with SpoolFile(path) as file:
        batch = file.read(0)
    for entry in batch.entries:
        assert content[entry.offset :].startswith(entry.line + b"\n")
    assert (batch.start, batch.end) == (0, len(content))


def test_a_file_without_news_gives_an_empty_batch(layout: Layout):
    path = put(layout.spool, "a", make_record())
    with SpoolFile(path) as file:
        assert not file.read(file.size)
        assert file.read(file.size) == Batch([], file.size, file.size, 0)


def test_a_torn_line_waits_while_its_writer_lives(layout: Layout):
    line = encode(make_record("torn"))
    path = put(layout.spool, "a", make_record("whole"), tail=line[:50])
    found, garbage, offset = read_all(path, is_complete=False)
    assert (found, garbage) == (["whole"], 0)
    with path.open("ab") as stream:
        stream.write(line[50:])
    with SpoolFile(path) as file:
        assert subjects([entry.record for entry in file.read(offset).entries]) == ["torn"]


def test_a_torn_line_of_a_dead_writer_is_counted_and_passed_over(layout: Layout):
    path = put(layout.spool, "a", make_record("whole"), tail=encode(make_record())[:50])
    assert read_all(path) == (["whole"], 1, path.stat().st_size)


def test_a_last_line_that_only_lacks_its_newline_is_a_record(layout: Layout):
    path = put(layout.spool, "a", make_record("whole"), tail=encode(make_record("bare"))[:-1])
    assert read_all(path) == (["whole", "bare"], 0, path.stat().st_size)


@pytest.mark.parametrize(
    "garbage", [b"not json", b"{}", b"[" * 100_000, b"\x00" * 8192, b"\xff\xfe", b'{"reference":"x"}']
)
def test_garbage_never_hides_the_lines_behind_it(layout: Layout, garbage: bytes):
    behind = encode(make_record("behind"))
    path = put(layout.spool, "a", make_record("before"), tail=garbage + b"\n" + behind)
    assert read_all(path) == (["before", "behind"], 1, path.stat().st_size)


def test_a_line_longer_than_any_record_is_passed_over_even_while_it_grows(layout: Layout):
    behind = b"\n" + encode(make_record("behind"))
    path = put(layout.spool, "a", make_record("before"), tail=b"x" * (2 * MAX_LINE) + behind)
    found, garbage, offset = read_all(path, is_complete=False)
    assert found == ["before", "behind"]
    assert garbage >= 1
    assert offset == path.stat().st_size


def test_a_file_of_many_megabytes_is_read_in_batches(layout: Layout):
    record = make_record("x" * 100_000)
    path = put(layout.spool, "a", *[record] * 100)
    with SpoolFile(path) as file:
        assert file.read(0).end <= MAX_LINE
    assert len(read_all(path)[0]) == 100


def test_the_lock_tells_a_living_writer_from_a_dead_one(layout: Layout):
    with closing(JournalWriter(layout.spool)) as writer:
        writer.write(make_record())
        (path,) = list_files(layout.spool)
        with SpoolFile(path) as file:
            assert not file.lock()
    with SpoolFile(path) as file:
        assert file.lock()


def test_what_is_no_regular_file_is_empty_and_stops_nobody(layout: Layout):
    os.mkfifo(layout.spool / "fifo.jsonl")
    assert read_all(layout.spool / "fifo.jsonl") == ([], 0, 0)


def test_a_symbolic_link_is_not_followed(layout: Layout, tmp_path: Path):
    (tmp_path / "secret").write_bytes(encode(make_record()))
    (layout.spool / "link.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        SpoolFile(layout.spool / "link.jsonl")


def test_only_record_files_are_listed_and_the_oldest_first(layout: Layout):
    for name in ("2.jsonl", "1.jsonl", "notes.txt", "3.jsonl.gz"):
        (layout.spool / name).touch()
    assert [path.name for path in list_files(layout.spool)] == ["1.jsonl", "2.jsonl"]
    assert list_files(layout.spool / "missing") == []
