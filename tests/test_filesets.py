"""Sets in files: read when the configuration is, read again when they change, kept when they are bad."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway import filesets
from gateway.filesets import FileSetError, FileSets
from tests.waiting import eventually


def put(file: Path, text: str) -> None:
    file.write_text(text)


def move(file: Path, other: Path) -> None:
    file.rename(other)


def in_place(file: Path, text: str) -> None:
    """As an editor does that keeps the file."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    # Two changes within one tick of the file system's clock are one change to it.
    os.utime(file, ns=(before + 1_000_000, before + 1_000_000))


def by_rename(file: Path, text: str) -> None:
    """As a program does that writes a new one and puts it in the place of the old one."""
    other = file.with_suffix(".new")
    other.write_text(text)
    os.utime(other, ns=(file.stat().st_mtime_ns,) * 2)
    other.rename(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "blocked.txt"
    file.write_text("a\nb\n")
    return file


@pytest.mark.parametrize(
    ("content", "entries"),
    [
        (b"", set()),
        (b"a", {"a"}),
        (b"a\nb\n", {"a", "b"}),
        (b"a\r\nb\r\n", {"a", "b"}),
        (b"  a \n\n\t\nA\n", {"a"}),
        (b"# all\na # one\nb#c\n#\n   # d\n", {"a", "b#c"}),
        (b"#x@example.com\nuser#1@example.com\n", {"user#1@example.com"}),
        (b"\xef\xbb\xbfa\n", {"a"}),
        ("Jürgen@bücher.example\n".encode(), {"jürgen@bücher.example"}),
        (b"two words\n", {"two words"}),
        (b"192.0.2.0/24\n", {"192.0.2.0/24"}),
    ],
)
def test_what_is_in_a_file(content: bytes, entries: set[str], file: Path):
    file.write_bytes(content)
    assert FileSets(file.parent).open(file.name) == entries


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a\nb\n\xff\n", ":3: is not UTF-8"),
        (b"\xe9", ":1: is not UTF-8"),
        (b"a\x00b\n\xed\xa0\x80", ":2: is not UTF-8"),
        (
            b"# x\n\nA\n  10.1.2.3/8 # ours\n",
            ':4: "10.1.2.3/8" has bits set behind its prefix; the network is "10.0.0.0/8"',
        ),
        (b"a" * 101, " is too large; allowed: up to 100 octets"),
    ],
)
def test_what_is_refused(content: bytes, problem: str, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(filesets, "MAX_SIZE", 100)
    file.write_bytes(content)
    with pytest.raises(FileSetError) as refused:
        FileSets(file.parent).open(file.name)
    assert str(refused.value) == f"{file}{problem}"


def test_what_is_no_file_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for name, problem in [
        ("pipe", "is not a file"),
        ("missing", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("missing/x", "cannot be read: No such file or directory"),
        ("x\0y", "cannot be read: embedded null byte"),
    ]:
        with pytest.raises(FileSetError) as refused:
            FileSets(tmp_path).open(name)
        assert str(refused.value) == f"{tmp_path / name} {problem}"


def test_one_file_is_one_set(file: Path):
    files = FileSets(file.parent)
    assert files.open("blocked.txt") is files.open(f"./x/../{file.name}") is files.open(str(file))


@pytest.mark.parametrize("change", [in_place, by_rename])
async def test_a_change_is_seen(change: Callable[[Path, str], None], file: Path):
    files = FileSets(file.parent)
    blocked = files.open(file.name)
    change(file, "c\nd\n")  # of the same size
    with capture_logs() as logs:
        await files.reload()
        await files.reload()
    assert blocked == {"c", "d"}
    assert logs == [{"event": "a file was read again", "log_level": "info", "file": str(file), "entries": 2}]


async def test_what_has_not_changed_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch):
    files = FileSets(file.parent)
    files.open(file.name)
    monkeypatch.setattr(filesets, "_entries", None)
    with capture_logs() as logs:
        await files.reload()
    assert logs == []


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda file: file.write_bytes(b"c\n\xff\n"), "{}:2: is not UTF-8"),
        (lambda file: file.write_text("c\n10.0.0.1/8\n"), '{}:2: "10.0.0.1/8" has bits set'),
        (Path.unlink, "{} cannot be read: No such file or directory"),
    ],
    ids=["not UTF-8", "host bits", "missing"],
)
async def test_a_bad_file_keeps_what_there_is_and_says_so_once(
    spoil: Callable[[Path], None], problem: str, file: Path
):
    files = FileSets(file.parent)
    blocked = files.open(file.name)
    spoil(file)
    with capture_logs() as logs:
        for _ in range(3):
            await files.reload()
    assert blocked == {"a", "b"}
    (line,) = logs
    assert (line["log_level"], line["event"]) == ("error", "a file keeps the entries it had")
    assert line["problem"].startswith(problem.format(file))
    put(file, "c\n")
    with capture_logs() as logs:
        for _ in range(3):
            await files.reload()
    assert blocked == {"c"}
    assert [line["event"] for line in logs] == ["a file was read again"]


async def test_a_file_that_comes_back_as_it_was_is_well_again(file: Path):
    files = FileSets(file.parent)
    blocked = files.open(file.name)
    with capture_logs() as logs:
        move(file, file.with_suffix(".away"))
        await files.reload()
        move(file.with_suffix(".away"), file)
        await files.reload()
        await files.reload()
    assert blocked == {"a", "b"}
    assert [line["log_level"] for line in logs] == ["error", "info"]


async def test_one_bad_file_does_not_keep_others_from_being_read(file: Path):
    files = FileSets(file.parent)
    other = file.with_name("other.txt")
    other.write_text("x\n")
    files.open(file.name)
    kept = files.open(other.name)
    move(file, file.with_suffix(".away"))
    by_rename(other, "y\n")
    await files.reload()
    assert kept == {"y"}


async def test_a_look_that_fails_is_not_the_last(file: Path, monkeypatch: pytest.MonkeyPatch):
    files = FileSets(file.parent)
    blocked = files.open(file.name)
    by_rename(file, "c\n")
    real, looks = filesets._look, []

    def look(path: Path, known: filesets._Mark | None) -> filesets._Look:
        looks.append(path)
        if len(looks) == 1:
            raise RuntimeError("can't start new thread")
        return real(path, known)

    monkeypatch.setattr(filesets, "_look", look)
    monkeypatch.setattr(filesets, "INTERVAL", 0)
    with capture_logs() as logs:
        looking = asyncio.create_task(files.keep_reloading())
        await eventually(lambda: blocked == {"c"})
        looking.cancel()
    assert [line["log_level"] for line in logs] == ["error", "info"]


async def test_nobody_looks_where_there_is_no_file(tmp_path: Path):
    await FileSets(tmp_path).keep_reloading()
