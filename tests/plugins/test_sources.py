"""What is read of a plugin directory, what is left alone, and when a change is one."""

import os
from pathlib import Path

import pytest

from gateway.plugins.sources import MAX_FILE_SIZE, MAX_FILES, SourcesError, Watch, read_sources


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)


def test_each_file_is_read_with_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, b="B = 1\n", a="A = 1\n")
    monkeypatch.chdir(tmp_path)
    first, second = read_sources(Path())
    assert (first.path, first.octets, first.name) == (str(tmp_path / "a.py"), b"A = 1\n", "a")
    assert second.name == "b"


@pytest.mark.parametrize(
    "name", ["test_a.py", "a_test.py", "conftest.py", ".a.py", ".#a.py", "a.pyc", "a.py~", "a.txt", "README"]
)
def test_tests_hidden_files_and_others_are_no_plugins(name: str, tmp_path: Path):
    (tmp_path / name).write_text("nonsense(")
    assert read_sources(tmp_path) == ()


@pytest.mark.parametrize("name", ["tested.py", "attest.py", "latest.py", "my-policy.py", "__init__.py"])
def test_others_are(name: str, tmp_path: Path):
    (tmp_path / name).touch()
    assert [source.path for source in read_sources(tmp_path)] == [str(tmp_path / name)]


def test_subdirectories_are_left_alone(tmp_path: Path):
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", a="")
    (tmp_path / "directory.py").mkdir()
    assert read_sources(tmp_path) == ()


def test_a_dangling_lock_of_an_editor_is_no_plugin(tmp_path: Path):
    (tmp_path / ".#a.py").symlink_to("somebody@host.1234")
    assert read_sources(tmp_path) == ()


def test_what_cannot_be_read_is_said(tmp_path: Path):
    def complaint() -> str:
        with pytest.raises(SourcesError) as refusal:
            read_sources(tmp_path / "x")
        return str(refusal.value)

    assert complaint() == f"{tmp_path}/x: no such directory"
    (tmp_path / "x").touch()
    assert complaint() == f"{tmp_path}/x: no such directory"
    (tmp_path / "x").unlink()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.py").symlink_to("nowhere")
    assert complaint() == f"{tmp_path}/x/a.py: cannot be read: No such file or directory"
    (tmp_path / "x" / "a.py").unlink()
    os.mkfifo(tmp_path / "x" / "a.py")
    assert complaint() == f"{tmp_path}/x/a.py: is no regular file"
    (tmp_path / "x" / "a.py").unlink()
    (tmp_path / "x" / "a\n.py").touch()
    assert complaint() == f"{tmp_path}/x/a\n.py: the name has characters that cannot be shown"


def test_size_and_number_are_bounded(tmp_path: Path):
    (tmp_path / "a.py").write_bytes(b"#" * MAX_FILE_SIZE)
    assert len(read_sources(tmp_path)) == 1
    (tmp_path / "a.py").write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    with pytest.raises(SourcesError, match=r"a\.py: more than 1048576 octets"):
        read_sources(tmp_path)
    (tmp_path / "a.py").unlink()
    for number in range(17):
        (tmp_path / f"{number}.py").write_bytes(b"#" * MAX_FILE_SIZE)
    with pytest.raises(SourcesError, match="more than 16777216 octets in all files together"):
        read_sources(tmp_path)


def test_the_number_of_files_is_bounded(tmp_path: Path):
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.py").touch()
    with pytest.raises(SourcesError, match="1001 files, more than 1000"):
        read_sources(tmp_path)


# The watch


def test_nothing_has_changed_while_nothing_changes(tmp_path: Path):
    write(tmp_path, a="")
    watch = Watch(tmp_path)
    assert not any(watch.has_changed() for _ in range(3))


def test_a_change_is_one_when_it_has_settled_and_once(tmp_path: Path):
    write(tmp_path, a="")
    watch = Watch(tmp_path)
    for text in ("h", "ha", "hal"):
        write(tmp_path, a=text)
        assert not watch.has_changed()
    assert watch.has_changed()
    assert not watch.has_changed()


def replace_by_another_of_the_same_size_and_time(file: Path) -> None:
    facts = file.stat()
    new = file.with_suffix(".new")
    new.write_text("B")
    os.utime(new, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    new.rename(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.unlink(),
        lambda file: file.with_name("b.py").touch(),
        lambda file: file.rename(file.with_name("b.py")),
        lambda file: os.utime(file, (1, 1)),
        lambda file: file.write_text("longer"),
        replace_by_another_of_the_same_size_and_time,
        lambda file: file.parent.rename(file.parent.with_name("moved")),
        lambda file: file.with_name("c.py").symlink_to("nowhere"),
    ],
)
def test_what_a_change_is(change, tmp_path: Path):
    directory = tmp_path / "plugins"
    directory.mkdir()
    write(directory, a="A")
    watch = Watch(directory)
    change(directory / "a.py")
    assert not watch.has_changed()
    assert watch.has_changed()


@pytest.mark.parametrize("name", ["test_a.py", ".a.py.swp", "4913", "a.py~"])
def test_what_is_no_plugin_is_no_change(name: str, tmp_path: Path):
    watch = Watch(tmp_path)
    (tmp_path / name).touch()
    assert not any(watch.has_changed() for _ in range(3))
