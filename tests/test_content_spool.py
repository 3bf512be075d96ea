"""Content waiting to be judged: the same octets from memory and from disk, and none silently lost."""

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spool import CHUNK, MEMORY_LIMIT, Spool, Store


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(Store(tmp_path), limit=10_000_000)
    yield spool
    spool.close()


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process can grow beyond this many octets, as on a disk that fills up."""
    limit = MEMORY_LIMIT + 1000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1, MEMORY_LIMIT, MEMORY_LIMIT + 1, 1_000_000])
@pytest.mark.parametrize("piece", [1000, 131_072])
def test_what_goes_in_comes_out(spool: Spool, size: int, piece: int):
    content = bytes(number * 7 % 256 for number in range(size))
    for at in range(0, size, piece):
        spool.append(content[at : at + piece])
    assert (spool.size, spool.digest) == (size, hashlib.sha256(content).hexdigest())
    assert (spool.overflowed, spool.failure) == (False, None)
    for start in (0, 1, size // 2, size):
        assert b"".join(spool.chunks(start)) == content[start:]
        assert spool.head(start) == content[:start]
    assert all(0 < len(chunk) <= max(CHUNK, MEMORY_LIMIT) for chunk in spool.chunks())


@pytest.mark.parametrize("size", [MEMORY_LIMIT, MEMORY_LIMIT + 1])
def test_nothing_is_left_in_the_directory(spool: Spool, tmp_path: Path, size: int):
    spool.append(b"x" * size)
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_limit_is_counted_and_not_kept(tmp_path: Path):
    spool = Spool(Store(tmp_path), limit=5)
    for _ in range(3):
        spool.append(b"abc")
    assert (spool.size, spool.overflowed, spool.failure) == (9, True, None)


def test_a_directory_that_is_gone_is_a_failure(tmp_path: Path):
    spool = Spool(Store(tmp_path / "gone"), limit=10_000_000)
    spool.append(b"x" * (MEMORY_LIMIT + 1))
    spool.append(b"x")
    assert spool.failure == f"{tmp_path / 'gone'}: No such file or directory"


def test_a_disk_that_fills_up_in_the_middle_of_a_write_is_a_failure(spool: Spool, small_files: int):
    """The system writes what fits and says how much that was; the rest must not be forgotten."""
    spool.append(b"x" * (MEMORY_LIMIT - 500))
    spool.append(b"x" * 600)
    assert spool.failure is None
    spool.append(b"x" * 1000)
    assert spool.failure is not None
    assert spool.failure.endswith("File too large")
    spool.append(b"x")
    assert spool.size == MEMORY_LIMIT - 500 + 600 + 1000 + 1


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(0, 600))
def test_pieces_make_no_difference(pieces: list[bytes], limit: int):
    spool, content = Spool(Store(Path("/nowhere")), limit), b"".join(pieces)
    for piece in pieces:
        spool.append(piece)
    assert (spool.size, spool.overflowed) == (len(content), len(content) > limit)
    if not spool.overflowed:
        assert b"".join(spool.chunks()) == content


@pytest.mark.parametrize("size", [10, MEMORY_LIMIT + 1])
def test_content_is_there_until_the_last_holder_closes(tmp_path: Path, size: int):
    spool = Spool(Store(tmp_path), limit=10_000_000)
    spool.append(b"x" * size)
    spool.hold()
    chunks = spool.chunks()
    spool.close()
    assert b"".join(chunks) == b"x" * size
    spool.close()
    spool.close()
    for read in (lambda: list(spool.chunks()), lambda: spool.head(1)):
        with pytest.raises(ValueError, match="given back"):
            read()


def test_content_that_is_given_back_while_it_is_read_is_no_shorter_message(tmp_path: Path):
    spool = Spool(Store(tmp_path), limit=10_000_000)
    spool.append(b"x" * 1_000_000)
    chunks = spool.chunks()
    next(chunks)
    spool.close()
    with pytest.raises(ValueError, match="given back"):
        next(chunks)


def test_what_all_messages_take_together_is_counted_and_given_back(tmp_path: Path):
    store = Store(tmp_path, octets=MEMORY_LIMIT + 1000)
    small, large = Spool(store, limit=10_000_000), Spool(store, limit=10_000_000)
    small.append(b"x" * 500)
    large.append(b"x" * (MEMORY_LIMIT + 400))
    assert (store.in_all, store.in_memory) == (MEMORY_LIMIT + 900, 500)
    assert store.refusal() == ""
    large.append(b"x" * 101)
    assert large.failure is not None
    assert f"{MEMORY_LIMIT + 1000} octets" in large.failure
    assert (store.in_all, store.in_memory) == (500, 500)
    small.close()
    small.close()
    assert (store.in_all, store.in_memory) == (0, 0)


def test_a_full_store_refuses(tmp_path: Path):
    store = Store(tmp_path, octets=10)
    spool = Spool(store, limit=100)
    spool.append(b"x" * 10)
    assert "10 octets" in store.refusal()
    spool.close()
    assert store.refusal() == ""


def test_messages_go_to_the_disk_at_once_where_memory_is_used_up(tmp_path: Path):
    store = Store(tmp_path, memory=1000)
    first, second = Spool(store, limit=10_000), Spool(store, limit=10_000)
    first.append(b"a" * 1000)
    second.append(b"b" * 100)
    second.append(b"c" * 100)
    assert (store.in_all, store.in_memory) == (1200, 1000)
    assert b"".join(second.chunks()) == b"b" * 100 + b"c" * 100
    first.append(b"d")
    assert store.in_memory == 0
    for spool in (first, second):
        spool.close()
    assert store.in_all == 0


def test_some_of_the_disk_is_kept_free(tmp_path: Path):
    store = Store(tmp_path, kept_free=1 << 60)
    assert "left free" in store.refusal()
    spool = Spool(store, limit=10_000_000)
    spool.append(b"x" * MEMORY_LIMIT)
    assert spool.failure is None
    spool.append(b"x")
    assert spool.failure is not None
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(0, 600), st.integers(0, 600))
def test_whatever_becomes_of_a_message_nothing_stays_counted(pieces: list[bytes], limit: int, octets: int):
    """Invariant: what a store counts is what its spools hold, and nothing once they are closed."""
    store = Store(Path("/nowhere"), octets=octets)
    spool = Spool(store, limit)
    for piece in pieces:
        spool.append(piece)
        assert store.in_all == store.in_memory <= min(octets, limit)
    spool.close()
    assert store.in_all == store.in_memory == 0
