"""Attachments through real workers: confinement hides nothing, every limit holds, liars fail."""

import asyncio
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from filters import attachments
from filters.attachments import AttachmentScanner, understand
from filters.base import FilterError, TooLarge
from filters.evidence import AttachedFile, Attachments
from filters.sandbox.dissection import Dissection, HeldContent
from filters.sandbox.limits import Limits
from filters.testing.transactions import at_end_of_data
from tests.fakes.archives import (
    ENCRYPTED_7Z,
    HELLO,
    SECRET_7Z,
    by_libarchive,
    encrypted_zip,
    mail,
    rar,
    rar5,
    tarred,
    zipped,
)
from tests.fakes.office import encrypted_word, newer_word, word_with_macros
from tests.waiting import eventually, soon

ROOT = Path(__file__).parents[2]
LIMITS = Limits(max_unpacked=134_217_728, max_ratio=200, max_files=500, max_depth=6, memory=0)
EVERYTHING = mail(
    ("a.zip", zipped({"ü/x.txt": b"x", "../y": b"y"})),
    ("encrypted.zip", encrypted_zip(HELLO)),
    ("a.tar.xz", tarred(HELLO, "w:xz")),
    ("a.tar.bz2", tarred(HELLO, "w:bz2")),
    ("a.7z", by_libarchive("7zip", HELLO)),
    ("a.iso", by_libarchive("iso9660", HELLO)),
    ("a.rar", rar(HELLO)),
    ("b.rar", rar5(HELLO)),
    ("e.7z", ENCRYPTED_7Z),
    ("s.7z", SECRET_7Z),
    ("a.doc", word_with_macros()),
    ("a.docm", newer_word({"word/vbaProject.bin": word_with_macros()})),
    ("e.docx", encrypted_word()),
    ("bad.doc", word_with_macros()[:300]),
    ("bad.gz", gzip.compress(b"x")[:-5]),
    ("a.txt", "ü".encode("koi8-r", "replace")),
    text="See http://a.example/.\r\n",
)


@asynccontextmanager
async def scanner(**options: int) -> AsyncIterator[AttachmentScanner]:
    made = AttachmentScanner(**options)
    try:
        yield made
    finally:
        await made.close()


async def find(asked: AttachmentScanner, octets: bytes) -> Attachments:
    return await asked.find(at_end_of_data(octets))


async def test_a_confined_worker_finds_what_anybody_finds():
    """Nothing that a library loads late, or looks up in a file, is missing in there."""
    free = Dissection(LIMITS)
    free.run(HeldContent(EVERYTHING))
    async with scanner() as asked:
        for _ in range(2):
            found = await find(asked, EVERYTHING)
            assert [asdict(file) for file in found.files] == [
                {**asdict(file), "macros": tuple(file.macros)} for file in free.files
            ]
            assert found.defects == tuple(free.defects)
            assert found.urls == ("http://a.example/",)


def test_nothing_is_loaded_once_a_worker_is_confined():
    program = (
        "import base64, sys\n"
        "from filters.sandbox.worker import load_codecs\n"
        "from filters.sandbox.dissection import Dissection, HeldContent\n"
        "from filters.sandbox.limits import Limits\n"
        "load_codecs()\n"
        "loaded = set(sys.modules)\n"
        "Dissection(Limits(10**8, 200, 500, 6, 0)).run(HeldContent(sys.stdin.buffer.read()))\n"
        "print(*sorted(set(sys.modules) - loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=EVERYTHING, cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.split() == []


async def test_the_finding_comes_back_from_a_record():
    async with scanner() as asked:
        found = await find(asked, EVERYTHING)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(found)), Attachments) == found


async def test_the_longest_finding_fits_into_a_record():
    """Names of the longest characters, as many as there may be, and as many links."""
    many = {f"{number}{chr(0x1F600) * 600}": b"" for number in range(1000)}
    links = "\r\n".join(f"http://{chr(0x1F600) * 2000}{number}" for number in range(1000))
    async with scanner(max_files=1000) as asked:
        found = await find(asked, mail(("a.zip", zipped(many)), text=links))
    assert len(found.files) == 1000
    assert set(found.defects) == {"too-many-files", "too-many-urls"}
    assert len(msgspec.json.encode(found)) < 3_000_000


async def test_nothing_attached():
    async with scanner() as asked:
        assert await find(asked, b"Subject: x\r\n\r\nHello\r\n") == Attachments()


async def test_it_says_of_which_versions_it_is_and_how_it_is_confined():
    async with scanner() as asked:
        said = await asked.probe()
    assert said.startswith("libmagic 5.")
    assert said.endswith("; confined by seccomp")


async def test_the_content_is_all_that_the_finding_depends_on():
    async with scanner() as asked:
        tx = at_end_of_data(EVERYTHING, b"Received: from a\r\n")
        assert asked.subject(tx) == tx.message.digest


# Limits


async def test_max_size():
    async with scanner(max_size=1000) as asked:
        await find(asked, b"\r\n" + b"x" * 998)
        with pytest.raises(TooLarge, match="1001 octets are more than max_size = 1000"):
            await find(asked, b"\r\n" + b"x" * 999)


@pytest.mark.parametrize(
    ("options", "octets", "defect"),
    [
        ({"max_unpacked": 5}, zipped(HELLO), "too-large-unpacked"),
        ({"max_ratio": 100}, zipped({"0": bytes(5_000_000)}), "compression-ratio"),
        ({"max_files": 1}, zipped(HELLO), "too-many-files"),
        ({"max_depth": 0}, zipped(HELLO), "too-deep"),
    ],
)
async def test_a_limit_is_a_finding(options: dict[str, int], octets: bytes, defect: str):
    async with scanner(**options) as asked:
        found = await find(asked, mail(("a.zip", octets)))
        assert found.defects == (defect,)
        assert found.files[0].name == "a.zip"


async def test_too_much_memory_is_a_finding_and_costs_the_worker():
    """zipfile unpacks what is compressed like that in one go."""
    bomb = zipped({"0": bytes(90_000_000)}, zipfile.ZIP_LZMA)
    tight = {"memory": 185_000_000, "max_unpacked": 10_000_000, "max_size": 1_000_000, "max_ratio": 1_000_000}
    async with scanner(**tight) as asked:
        found = await find(asked, mail(("a.zip", bomb), ("b.zip", zipped(HELLO))))
        assert found.defects == ("too-much-memory",)
        assert found.files[0].name == "a.zip"
        found = await find(asked, mail(("b.zip", zipped(HELLO))))
        assert (len(found.files), found.defects) == (2, ())


async def test_too_much_time_is_a_finding_and_costs_the_worker():
    packed = lzma.compress(bytes(30_000_000))
    slow = mail(*[(f"{number}.xz", packed) for number in range(250)])
    huge = 1_000_000_000_000
    async with scanner(max_unpacked=huge, memory=2 * huge, max_ratio=1_000_000) as asked:
        await find(asked, mail())
        asked.timeout = 5.0
        found = await find(asked, slow)
        assert found.defects == ("time-out",)
        assert 0 < len(found.files) < 500
        asked.timeout = 30.0
        assert (await find(asked, mail(("b.zip", zipped(HELLO))))).defects == ()


# What is no finding


async def test_a_worker_that_stands_still_is_an_error_and_the_next_one_answers():
    async with scanner(workers=1) as asked:
        await asked.probe()
        asked.timeout = 1.0
        os.kill(asked.process_ids[0], signal.SIGSTOP)
        with pytest.raises(FilterError, match="no answer within"):
            await find(asked, EVERYTHING)
        asked.timeout = 30.0
        assert (await find(asked, EVERYTHING)).files


async def test_a_worker_that_is_killed_is_an_error_and_the_next_one_answers():
    async with scanner(workers=1) as asked:
        await asked.probe()
        (killed,) = asked.process_ids
        os.kill(killed, signal.SIGSTOP)
        asking = asyncio.create_task(find(asked, EVERYTHING))
        await eventually(lambda: not asked.process_ids)
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(FilterError, match="SIGKILL"):
            await asking
        assert (await find(asked, EVERYTHING)).files


_FILE = asdict(AttachedFile("a"))


def _answer(**changed: object) -> bytes:
    return json.dumps({"files": [], "urls": [], "defects": [], **changed}).encode()


def test_an_answer_that_makes_sense():
    said = _answer(files=[{**_FILE, "digest": "0" * 64, "macros": ["x"]}], urls=["u"], defects=["a-b"])
    assert understand(said, LIMITS) == Attachments(
        (AttachedFile("a", digest="0" * 64, macros=("x",)),), ("u",), ("a-b",)
    )


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b"1" * 10_000,
        _answer(files={}),
        _answer(files=[1]),
        _answer(files=[{}]),
        _answer(files=[_FILE] * 501),
        _answer(files=[{**_FILE, "more": 1}]),
        _answer(files=[{**_FILE, "name": None}]),
        _answer(files=[{**_FILE, "name": "a\nb"}]),
        _answer(files=[{**_FILE, "name": "\ud800"}]),
        _answer(files=[{**_FILE, "name": "a" * 5000}]),
        _answer(files=[{**_FILE, "size": -1}]),
        _answer(files=[{**_FILE, "size": True}]),
        _answer(files=[{**_FILE, "size": 1.5}]),
        _answer(files=[{**_FILE, "size": 2**70}]),
        _answer(files=[{**_FILE, "depth": "0"}]),
        _answer(files=[{**_FILE, "digest": "x"}]),
        _answer(files=[{**_FILE, "is_archive": 1}]),
        _answer(files=[{**_FILE, "macros": "AutoOpen"}]),
        _answer(urls=[None]),
        _answer(urls=["u"] * 1001),
        _answer(defects=["Too Deep"]),
        _answer(defects=["a\n"]),
    ],
)
def test_an_answer_that_makes_none_is_an_error(said: bytes):
    with pytest.raises(FilterError, match="answered nonsense"):
        understand(said, LIMITS)


_PARENT = """
import asyncio
from filters.attachments import AttachmentScanner
from filters.testing.transactions import at_end_of_data

async def main():
    scanner = AttachmentScanner()
    await scanner.find(at_end_of_data())
    print(*scanner.process_ids, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def _exists(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_die_with_their_parent():
    with subprocess.Popen([sys.executable, "-c", _PARENT], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert _exists(worker)
        # It could not notice anything by itself.
        os.kill(worker, signal.SIGSTOP)
        parent.kill()
        soon(lambda: not _exists(worker))


# Options


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_size": 0}, "max_size must be at least 1"),
        ({"max_unpacked": 0}, "max_unpacked must be at least 1"),
        ({"max_ratio": 0}, "max_ratio must be at least 1"),
        ({"max_files": 0}, "max_files must be from 1 to 1000"),
        ({"max_files": 1001}, "max_files must be from 1 to 1000"),
        ({"max_depth": -1}, "max_depth must be from 0 to 20"),
        ({"max_depth": 21}, "max_depth must be from 0 to 20"),
        ({"memory": 200_000_000}, "memory must be at least 167772160, max_unpacked and 6 times max_size"),
        ({"max_unpacked": 700_000_000}, "memory must be at least"),
        ({"max_size": 100_000_000}, "memory must be at least"),
        ({"workers": 0}, "workers must be from 1 to 64"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, int], error: str):
    with pytest.raises(ValueError, match=error):
        AttachmentScanner(**options)


def test_a_library_that_is_missing_is_said_at_set_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attachments, "WORKER", "tests.fakes.worker_without_libraries")
    with pytest.raises(ValueError, match=r"needs pip install 'sluicegate\[attachments\]'.*libarchive"):
        AttachmentScanner()


def test_a_worker_that_cannot_be_confined_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(attachments, "WORKER", "tests.fakes.unconfined_worker")
    AttachmentScanner()
    assert "without the protection there should be: libmagic 5" in caplog.text
    assert caplog.text.strip().endswith("no confinement: system calls of vax are not known")


def test_a_worker_that_does_not_come_up_is_said_at_set_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attachments, "WORKER", "tests.fakes.unheard_of")
    with pytest.raises(ValueError, match=r"no worker comes up: .*No module named"):
        AttachmentScanner()
