"""What is found in a message, limit by limit. The same code as in the sandbox, without the sandbox."""

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.attachments import understand
from filters.sandbox.dissection import Dissection, HeldContent
from filters.sandbox.documents import MAX_KEYWORDS
from filters.sandbox.limits import File, Limits
from filters.sandbox.worker import encoded
from tests.fakes.archives import (
    ENCRYPTED_7Z,
    HELLO,
    SECRET_7Z,
    by_libarchive,
    encrypted_zip,
    mail,
    rar,
    rar5,
    secret_rar5,
    tarred,
    tnef,
    zipped,
)
from tests.fakes.office import AUTO_OPEN, encrypted_word, newer_word, ole, word_with_macros

LIMITS = Limits(max_unpacked=20_000_000, max_ratio=100, max_files=200, max_depth=5, memory=0)


def dissect(octets: bytes, **limits: int) -> Dissection:
    found = Dissection(replace(LIMITS, **limits))
    found.run(HeldContent(octets))
    return found


def attached(name: str, octets: bytes, **limits: int) -> Dissection:
    return dissect(mail((name, octets)), **limits)


def names(found: Dissection) -> list[str]:
    return [file.name for file in found.files]


def by_name(found: Dissection) -> dict[str, File]:
    return {file.name: file for file in found.files}


# Files


def test_what_is_only_to_be_read_is_no_file():
    found = dissect(mail(text="See http://a.example/x and \x00.\r\n"))
    assert (found.files, list(found.urls), list(found.defects)) == ([], ["http://a.example/x"], [])


def test_a_file_says_what_it_is_called_and_what_it_is():
    (file,) = attached("a.txt", b"%PDF-1.4\n").files
    assert (file.name, file.declared_type, file.true_type) == ("a.txt", "text/plain", "application/pdf")
    assert (file.size, file.depth, file.is_archive, file.is_encrypted) == (9, 0, False, False)
    assert file.digest == hashlib.sha256(b"%PDF-1.4\n").hexdigest()


@pytest.mark.parametrize(
    ("header", "octets", "listed"),
    [
        ("Content-Type: text/plain", b"just words", []),
        ("Content-Type: text/html", b"<html>", []),
        ("Content-Type: text/plain", b"MZ" + bytes(100), ["part-1"]),
        ("Content-Type: image/png", b"", ["part-1"]),
        ("Content-Type: text/plain; name=a.txt", b"words", ["a.txt"]),
        ("Content-Disposition: attachment", b"words", ["part-1"]),
        ("Content-Disposition: attachment; filename=../a.exe", b"words", [".._a.exe"]),
    ],
)
def test_which_parts_are_files(header: str, octets: bytes, listed: list[str]):
    assert names(dissect(header.encode() + b"\r\n\r\n" + octets)) == listed


def test_malformed_mime_is_a_defect():
    found = dissect(b"Content-Type: multipart/mixed\r\n\r\nx")
    assert list(found.defects) == ["malformed-mime", "no-boundary"]


def test_a_whole_message_is_looked_at_however_large():
    found = dissect(mail(("large.bin", bytes(3_000_000)), ("a.zip", zipped(HELLO))))
    assert names(found) == ["large.bin", "a.zip", "a.zip/hello.txt"]


# Archives

ARCHIVES: dict[str, bytes] = {
    "a.zip": zipped(HELLO),
    "stored.zip": zipped(HELLO, zipfile.ZIP_STORED),
    "lzma.zip": zipped(HELLO, zipfile.ZIP_LZMA),
    "bzip2.zip": zipped(HELLO, zipfile.ZIP_BZIP2),
    "a.tar": tarred(HELLO),
    "a.7z": by_libarchive("7zip", HELLO),
    "a.iso": by_libarchive("iso9660", HELLO),
    "a.cpio": by_libarchive("cpio_newc", HELLO),
    "a.ar": by_libarchive("ar_bsd", HELLO),
    "a.xar": by_libarchive("xar", HELLO),
    "a.rar": rar(HELLO),
    "five.rar": rar5(HELLO),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_opened(name: str):
    outer, inner = attached(name, ARCHIVES[name]).files
    assert (outer.name, outer.is_archive, outer.depth) == (name, True, 0)
    assert (inner.name, inner.size, inner.depth) == (f"{name}/hello.txt", 6, 1)
    assert (inner.true_type, inner.declared_type) == ("text/plain", None)
    assert inner.digest == "66a045b452102c59d840ec097d59d9467e13a3f34f6494e539ffd32c1bb35f18"


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_one_by_whatever_name(name: str):
    assert len(attached("invoice.pdf", ARCHIVES[name]).files) == 2


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_damaged_archive_is_a_defect(name: str):
    """Cut off anywhere, or with an octet turned over, nothing is raised, and what is left out is said."""
    octets = ARCHIVES[name]
    for cut in range(0, len(octets), max(len(octets) // 40, 1)):
        attached(name, octets[:cut])
        attached(name, octets[:cut] + bytes([octets[cut] ^ 0xFF]) + octets[cut + 1 :])
    half = attached(name, octets[: len(octets) // 2]) if name != "a.iso" else attached(name, octets[:40_000])
    assert half.defects.keys() & {"archive-damaged", "archive-empty"} or len(half.files) == 2


@pytest.mark.parametrize(
    ("name", "octets", "inner"),
    [
        ("a.txt.gz", gzip.compress(b"Hello\n"), "a.txt"),
        ("a.txt.bz2", bz2.compress(b"Hello\n"), "a.txt"),
        ("a.txt.xz", lzma.compress(b"Hello\n"), "a.txt"),
        ("a", gzip.compress(b"Hello\n"), "a"),
        ("two.gz", gzip.compress(b"Hel") + gzip.compress(b"lo\n"), "two"),
        ("behind.gz", gzip.compress(b"Hello\n") + b"behind it", "behind"),
    ],
)
def test_what_is_compressed_is_opened(name: str, octets: bytes, inner: str):
    found = attached(name, octets)
    assert names(found) == [name, f"{name}/{inner}"]
    assert found.files[1].size == 6
    assert not found.defects


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_a_compressed_tar_is_an_archive_in_an_archive(name: str):
    modes = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
    found = attached(name, tarred(HELLO, modes[name.rpartition(".")[2]]))
    assert names(found) == [name, f"{name}/a.tar", f"{name}/a.tar/hello.txt"]


@pytest.mark.parametrize(
    "octets", [gzip.compress(b"Hello\n")[:-9], bz2.compress(b"x")[:-5], lzma.compress(b"x")[:-9]]
)
def test_what_is_compressed_and_cut_off_is_a_defect(octets: bytes):
    assert "archive-damaged" in attached("a", octets).defects


def test_what_cannot_be_opened_is_said():
    found = attached("a.ace", bytes(7) + b"**ACE**" + bytes(100))
    assert (found.files[0].is_archive, list(found.defects)) == (True, ["archive-unsupported"])
    unheard_of = bytearray(zipped(HELLO))
    unheard_of[unheard_of.find(b"PK\1\2") + 10] = 97
    assert "archive-unsupported" in attached("a.zip", bytes(unheard_of)).defects


@pytest.mark.parametrize(
    "before",
    [
        tarred(HELLO),
        rar(HELLO),
        rar5(HELLO),
        gzip.compress(b"x"),
        b"Return-Path: <a@b.example>\r\nReceived: from x\r\n by y; Thu, 1 Jan 1970\r\nSubject: z\r\n\r\n",
    ],
    ids=["tar", "rar", "rar5", "gzip", "message"],
)
def test_a_zip_behind_another_archive_is_opened_as_well(before: bytes):
    """`invoice.zip` is a zip to whoever opens it by its name, whatever its first octets say."""
    found = attached("invoice.zip", before + zipped({"evil.exe": b"MZ" + bytes(100)}))
    assert by_name(found)["invoice.zip/evil.exe"].true_type == "application/x-dosexec"


def test_what_looks_like_the_end_of_a_zip_is_no_defect():
    assert not attached("a.gz", gzip.compress(b"Hello\n") + b"PK\5\6" + bytes(18)).defects


def test_a_member_may_lie_about_its_size():
    octets = encrypted_zip(HELLO)
    at = octets.find(b"PK\1\2")
    member, end = octets[at : octets.find(b"PK\5\6")], octets[octets.find(b"PK\5\6") :]
    told = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    member = member[:24] + b"\xff" * 4 + member[28:30] + struct.pack("<H", len(told)) + member[32:] + told
    end = end[:12] + struct.pack("<I", len(member)) + end[16:]
    found = attached("a.zip", octets[:at] + member + end)
    assert by_name(found)["a.zip/hello.txt"].size == 2**63 - 1
    assert understand(encoded(found), LIMITS).files


def test_a_name_of_no_characters_is_a_file():
    """0xF4908080 would be U+110000."""
    octets = bytearray(tarred({"AAAA": b"x"}))
    octets[:4] = b"\xf4\x90\x80\x80"
    octets[148:156] = b"%06o\0 " % (sum(octets[:148]) + 8 * 0x20 + sum(octets[156:512]))
    assert names(attached("a.tar", bytes(octets))) == ["a.tar", "a.tar/_"]


def test_an_archive_behind_a_program_is_opened():
    found = attached("setup.exe", b"MZ" + bytes(500) + zipped(HELLO))
    assert names(found) == ["setup.exe", "setup.exe/hello.txt"]
    assert found.files[0].true_type == "application/x-dosexec"


def test_what_outlook_wraps_is_unwrapped():
    found = attached("winmail.dat", tnef({"a.zip": zipped(HELLO), "grüße.txt": b"x"}))
    assert names(found) == [
        "winmail.dat",
        "winmail.dat/a.zip",
        "winmail.dat/a.zip/hello.txt",
        "winmail.dat/grüße.txt",
    ]
    assert (found.files[0].true_type, found.files[0].is_archive) == ("application/ms-tnef", False)
    assert not found.defects
    assert not attached("winmail.dat", tnef({})).defects
    assert list(attached("winmail.dat", tnef(HELLO)[:-3]).defects) == ["archive-damaged"]


@pytest.mark.parametrize(
    ("octets", "inner"),
    [
        (encrypted_zip(HELLO), ["a/hello.txt"]),
        (rar(HELLO, encrypted=True), ["a/hello.txt"]),
        (ENCRYPTED_7Z, ["a/a.txt"]),
        (SECRET_7Z, []),
        (secret_rar5(), []),
    ],
)
def test_an_encrypted_archive_is_a_finding(octets: bytes, inner: list[str]):
    found = attached("a", octets)
    assert names(found) == ["a", *inner]
    assert all(file.is_encrypted for file in found.files)
    assert list(found.defects) == ["archive-encrypted"]
    assert [file.digest for file in found.files[1:]] == [None] * len(inner)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("../../etc/cron.d/x", "_/_/etc/cron.d/x"),
        ("/etc/passwd", "etc/passwd"),
        ("..\\..\\x.exe", "_/_/x.exe"),
        ("C:\\x.exe", "C:/x.exe"),
    ],
)
def test_a_name_that_leads_out_is_a_defect(written: str, seen: str):
    for pack in (zipped, tarred):
        found = attached("a", pack({written: b"x"}))
        assert names(found) == ["a", f"a/{seen}"]
        assert list(found.defects) == ["name-traversal"]


def test_a_name_that_reads_backwards_is_a_defect():
    found = attached("a", zipped({"invoice\u202efdp.exe": b"x"}))
    assert names(found) == ["a", "a/invoice_fdp.exe"]
    assert list(found.defects) == ["name-disguised"]


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("a/./b//c.txt", "a/b/c.txt"),
        ("grüße.txt", "grüße.txt"),
        ("a\nb\x1b[1m", "a_b_[1m"),
        ("x" * 600 + ".exe", None),
        ("...", "..."),
        ("", "_"),
    ],
)
def test_names_are_fit_to_be_shown(written: str, seen: str | None):
    found = attached("a", zipped({written: b"x"}))
    name = found.files[1].name
    assert name.isprintable()
    assert len(name) <= 300
    assert name == f"a/{seen}" if seen else name.endswith(".exe")
    assert not found.defects


def test_a_name_in_no_charset_is_a_name():
    octets = zipped({"aaaa": b"x"}, zipfile.ZIP_STORED).replace(b"aaaa", b"\x81\xff\xfe\xfd")
    assert len(attached("a", octets).files) == 2
    assert len(attached("a", tarred({"aaaa": b"x"}).replace(b"aaaa", b"\x81\xff\xfe\xfd", 1)).files) >= 1


def test_a_message_in_an_archive_is_a_message():
    inner = b"From: a@b.example\r\nTo: c@d.example\r\n" + mail(("b.zip", zipped(HELLO)))
    found = attached("a.zip", zipped({"m.eml": inner}))
    assert names(found) == [
        "a.zip",
        "a.zip/m.eml",
        "a.zip/m.eml/b.zip",
        "a.zip/m.eml/b.zip/hello.txt",
    ]
    assert [file.depth for file in found.files] == [0, 1, 2, 3]


# Limits


def _nested(depth: int, files: Mapping[str, bytes] = HELLO) -> bytes:
    octets = zipped(files)
    for _ in range(depth):
        octets = zipped({"a.zip": octets})
    return octets


def test_max_depth():
    assert len(attached("a.zip", _nested(4)).files) == 6
    deeper = attached("a.zip", _nested(5))
    assert list(deeper.defects) == ["too-deep"]
    assert deeper.files[-1].is_archive
    assert len(attached("a.zip", _nested(3), max_depth=0).files) == 1


def test_max_depth_ends_what_never_ends():
    """A zip that holds itself cannot be told from one that is nested very deep."""
    found = attached("a.zip", _nested(100))
    assert len(found.files) == 6
    assert list(found.defects) == ["too-deep"]


def test_max_files():
    many = zipped({str(number): b"" for number in range(300)})
    found = attached("a.zip", many)
    assert len(found.files) == 200
    assert list(found.defects) == ["too-many-files"]
    assert len(attached("a.zip", many, max_files=301).files) == 301
    assert len(dissect(mail(*[("a", b"x")] * 300)).files) == 200


def test_max_files_counts_what_a_document_is_made_of():
    document = newer_word({f"word/{number}.xml": b"<x/>" for number in range(300)})
    assert "too-many-files" in attached("a.docx", document).defects


def test_a_hundred_thousand_entries():
    found = attached("a.zip", zipped({str(number): b"" for number in range(100_000)}))
    assert (len(found.files), list(found.defects)) == (200, ["too-many-files"])


def test_many_archives_in_many_archives():
    """The way of 42.zip: sixteen of sixteen of sixteen of zeros."""
    octets = zipped({"0": bytes(1_000_000)})
    for _ in range(4):
        octets = zipped({str(number): octets for number in range(16)})
    found = attached("42.zip", octets)
    assert found.defects.keys() & {"compression-ratio", "too-large-unpacked", "too-many-files"}
    assert len(found.files) <= 200


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, lambda octets: zipped({"0": octets})]
)
def test_max_ratio(compress):
    assert not attached("a", compress(bytes(1_000_000))).defects
    found = attached("a", compress(bytes(10_000_000)))
    assert list(found.defects) == ["compression-ratio"]
    assert (found.files[1].digest, len(found.files)) == (None, 2)
    assert not attached("a", compress(bytes(10_000_000)), max_ratio=1_000_000).defects


def test_what_follows_a_bomb_is_looked_at():
    found = dissect(mail(("a.zip", zipped({"0": bytes(10_000_000), "1": b"x"})), ("b.zip", zipped(HELLO))))
    assert names(found) == ["a.zip", "a.zip/0", "b.zip", "b.zip/hello.txt"]


def test_a_gigabyte_of_zeros():
    held = io.BytesIO()
    with (
        zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("0", "w") as member,
    ):
        for _ in range(1000):
            member.write(bytes(1_000_000))
    found = attached("a.zip", held.getvalue())
    assert list(found.defects) == ["too-large-unpacked"]
    assert (found.files[1].size, found.files[1].digest) == (1_000_000_000, None)


def test_max_unpacked():
    packed = tarred({str(number): bytes(range(256)) * 400 for number in range(30)})
    found = attached("a.tar", packed, max_unpacked=2_000_000)
    assert list(found.defects) == ["too-large-unpacked"]
    assert 15 < len(found.files) < 25
    assert not attached("a.tar", packed).defects


def test_max_unpacked_is_for_all_archives_together():
    packed = tarred({"a": bytes(range(256)) * 3000})
    files = (("a.tar", packed), ("b.tar", packed), ("c.tar", packed), ("d.txt", b"x"))
    found = dissect(mail(*files), max_unpacked=2_000_000)
    assert list(found.defects) == ["too-large-unpacked"]
    assert "d.txt" not in names(found)


@pytest.mark.parametrize(("length", "kept"), [(1000, 200), (20, 900)])
def test_there_is_an_end_to_links(length: int, kept: int):
    links = [f"http://a.example/{number}".ljust(length, "x") for number in range(2000)]
    found = dissect(mail(text="\r\n".join(links)))
    assert list(found.urls) == links[:kept]
    assert list(found.defects) == ["too-many-urls"]


# Documents


def test_macros_of_an_older_document():
    (file,) = attached("a.doc", word_with_macros()).files
    assert (file.true_type, file.macros, file.is_archive) == (
        "application/msword",
        {"AutoOpen": None, "Shell": None},
        False,
    )


def test_macros_of_a_newer_document_are_said_of_it_and_of_the_file_they_are_in():
    found = attached("a.docx", newer_word({"word/vbaProject.bin": word_with_macros()}))
    assert names(found) == ["a.docx", "a.docx/word/vbaProject.bin"]
    assert [list(file.macros) for file in found.files] == [["AutoOpen", "Shell"]] * 2
    assert not found.files[0].is_archive


def test_there_is_an_end_to_what_is_said_of_macros():
    """Names of event handlers are the author's, so there can be as many as there are files."""
    events = ("Painted", "GotFocus", "Click", "Change", "Resize", "Layout", "MouseMove", "TitleChange")
    sources = {
        f"word/{number}.bin": "".join(f"Sub A{number}_{event}()\r\nEnd Sub\r\n" for event in events)
        for number in range(150)
    }
    members = {
        name: word_with_macros(f'Attribute VB_Name = "Module1"\r\n{source}')
        for name, source in sources.items()
    }
    found = attached("a.docm", newer_word(members))
    assert len(found.files[0].macros) == MAX_KEYWORDS
    assert len(understand(encoded(found), LIMITS).files) == 151


def test_macros_that_do_no_harm_are_macros():
    source = AUTO_OPEN.replace("AutoOpen", "Greet").replace('Shell "calc.exe", 1', "x = 1")
    assert list(attached("a.doc", word_with_macros(source)).files[0].macros) == ["macros"]


def test_macro_sheets_are_macros():
    found = attached("a.xlsm", newer_word({"xl/macrosheets/sheet1.xml": b'<?xml version="1.0"?><x/>'}))
    assert "XLM macro" in found.files[0].macros


def test_a_document_without_macros_is_one_file():
    found = attached("a.docx", newer_word({"word/media/image1.png": b"\x89PNG\r\n\x1a\n"}))
    assert names(found) == ["a.docx"]
    assert found.files[0].true_type is not None
    assert found.files[0].true_type.endswith(".document")
    assert not found.files[0].macros
    assert not found.defects


def test_what_a_document_hides_is_listed():
    hidden = {"word/x.xml": b"MZ" + bytes(100), "b.zip": zipped(HELLO), "c.js": b"alert(1)"}
    found = attached("a.zip", newer_word(hidden))
    assert names(found) == ["a.zip", "a.zip/word/x.xml", "a.zip/b.zip", "a.zip/b.zip/hello.txt", "a.zip/c.js"]


def test_an_encrypted_document_is_a_finding():
    found = attached("a.docx", encrypted_word())
    assert found.files[0].is_encrypted
    assert list(found.defects) == ["document-encrypted"]


@pytest.mark.parametrize(
    "octets", [ole({})[:100], ole({}) + b"x", word_with_macros()[:3000], b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"]
)
def test_a_damaged_document_raises_nothing(octets: bytes):
    assert len(attached("a.doc", octets).files) == 1


def test_a_document_that_cannot_be_read_is_a_defect():
    assert list(attached("a.doc", word_with_macros()[:300]).defects) == ["document-damaged"]


_SEEDS = [
    *ARCHIVES.values(),
    tnef(HELLO),
    word_with_macros(),
    encrypted_word(),
    gzip.compress(b"x"),
    SECRET_7Z,
]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([seed for seed in _SEEDS if len(seed) < 20_000]), st.data())
def test_any_octets_end_in_a_finding(seed: bytes, data: st.DataObject):
    octets = bytearray(seed)
    for _ in range(data.draw(st.integers(0, 8))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    for file in attached("a", bytes(octets), max_unpacked=5_000_000).files:
        assert file.name.isprintable()
