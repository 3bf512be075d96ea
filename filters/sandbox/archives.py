"""Archives, one after the other entry: zipfile, the standard library's decompressors, libarchive, TNEF.

Nothing here counts: whoever takes an entry's octets stops when it has had enough. What is damaged or
of no known kind raises BadArchiveError, whatever a library made of it.
"""

import bz2
import ctypes
import io
import itertools
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from libarchive import ffi
from libarchive.entry import ArchiveEntry
from libarchive.read import ArchiveRead

from gateway.smtp.header import octets_to_text

_PIECE = 65_536
_END_OF_ZIP = b"PK\x05\x06"
# The same with all its fields; the last is the length of the comment behind it.
_WHOLE_END = re.compile(rb"PK\x05\x06(?=.{16}(..))", re.DOTALL)
# Of the end of a zip: its record and the longest comment.
_ZIP_LOOK = 65_557
# What libarchive may read. Not mtree, which names files of this machine, and no filters, some of
# which run programs.
_FORMATS = ("rar", "rar5", "7zip", "tar", "cab", "lha", "iso9660", "cpio", "ar", "xar")
_BY_LIBARCHIVE = {
    "application/x-rar",
    "application/x-7z-compressed",
    "application/x-tar",
    "application/vnd.ms-cab-compressed",
    "application/x-lzh-compressed",
    "application/x-lha",
    "application/x-iso9660-image",
    "application/x-cpio",
    "application/x-archive",
    "application/vnd.debian.binary-package",
    "application/x-xar",
}
_COMPRESSED = {"application/gzip", "application/x-bzip2", "application/x-xz"}
# Known for what they are, and not to be opened by anything here.
_CLOSED = {
    "application/x-ace-compressed",
    "application/x-arj",
    "application/zstd",
    "application/x-lz4",
    "application/x-lzip",
    "application/x-compress",
    "application/x-lzma",
}
# What Outlook wraps attachments in (MS-OXTNEF); nobody packed anything, so it is not called an archive.
_TNEF = "application/ms-tnef"
_TNEF_HEADER = 6
_TNEF_ATTRIBUTE = struct.Struct("<BII")
_TNEF_NEXT, _TNEF_TITLE, _TNEF_DATA = 0x00069002, 0x00018010, 0x0006800F
ARCHIVES = frozenset({"application/zip", *_BY_LIBARCHIVE, *_COMPRESSED, *_CLOSED})

_is_encrypted = ffi.ffi("entry_is_encrypted", [ffi.c_archive_entry_p], ctypes.c_int)


class BadArchiveError(Exception):
    """It cannot be read, or not any further; the text is the defect."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `size` is what the archive says; `read` yields its octets, or raises BadArchiveError."""

    name: str
    size: int
    is_encrypted: bool
    read: Callable[[], Iterator[bytes]]


def version() -> str:
    """The library's version, for people."""
    number = ffi.version_number()
    return f"libarchive {number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def is_archive(kind: str | None, octets: bytes) -> bool:
    """Whether `entries` is for these octets, of that media type.

    The end of a zip makes one of whatever stands before it: programs that unpack themselves, images.
    """
    return kind in ARCHIVES or kind == _TNEF or _END_OF_ZIP in octets[-_ZIP_LOOK:]


def entries(kind: str | None, name: str, octets: bytes) -> Iterator[Entry]:
    """The members, one by one: read each before asking for the next. Raises BadArchiveError."""
    if kind in _BY_LIBARCHIVE:
        members = _listed(octets)
    elif kind in _COMPRESSED:
        members = _compressed(str(kind), name, octets)
    elif kind == _TNEF:
        members = _wrapped(octets)
    elif kind in _CLOSED:
        raise BadArchiveError("archive-unsupported")
    else:
        return _zipped(octets)
    return itertools.chain(members, _zipped_behind(octets))


def _zipped_behind(octets: bytes) -> Iterator[Entry]:
    """The members of a zip at the end: whoever opens the file by its name may open that one, and not this."""
    if _ends_a_zip(octets):
        try:
            archive = _opened_zip(octets)
        except BadArchiveError:
            # Some octets look like the end of one.
            return
        yield from _zip_members(archive)


def _ends_a_zip(octets: bytes) -> bool:
    """Whether a zip ends where these octets end, and not a member's zip before that."""
    tail = octets[-_ZIP_LOOK:]
    ends = (found.end(1) + int.from_bytes(found[1], "little") for found in _WHOLE_END.finditer(tail))
    return len(tail) in ends


@contextmanager
def _damage_named() -> Iterator[None]:
    """Whatever a library raises of what a stranger made."""
    try:
        yield
    except (BadArchiveError, MemoryError):
        raise
    except NotImplementedError:
        raise BadArchiveError("archive-unsupported") from None
    except Exception as error:
        if "ncrypt" in str(error):
            raise BadArchiveError("archive-encrypted") from error
        raise BadArchiveError("archive-damaged") from error


def _zipped(octets: bytes) -> Iterator[Entry]:
    yield from _zip_members(_opened_zip(octets))


def _opened_zip(octets: bytes) -> zipfile.ZipFile:
    with _damage_named():
        return zipfile.ZipFile(io.BytesIO(octets))


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Entry]:
    for info in archive.infolist():
        if not info.filename.endswith("/"):
            is_encrypted = bool(info.flag_bits & 0x1)
            yield Entry(info.filename, info.file_size, is_encrypted, _zip_reader(archive, info))


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        with _damage_named(), archive.open(info) as member:
            while piece := member.read(_PIECE):
                yield piece

    return read


def _compressed(kind: str, name: str, octets: bytes) -> Iterator[Entry]:
    """The one thing in it, named as it is where somebody decompresses it."""
    stem, _, suffix = name.rpartition("/")[2].rpartition(".")
    inner = f"{stem}.tar" if suffix.lower() in {"tgz", "tbz", "tbz2", "txz"} else stem or suffix
    yield Entry(inner or "data", 0, False, lambda: _decompressed(kind, octets))


def _decompressed(kind: str, octets: bytes) -> Iterator[bytes]:
    """All streams that follow each other; what comes behind them is nobody's."""
    start = {"application/gzip": _gzip, "application/x-bzip2": _bzip2, "application/x-xz": _xz}[kind]
    rest, is_first = octets, True
    while rest:
        stream = start()
        try:
            with _damage_named():
                yield from stream.pieces(rest)
        except BadArchiveError:
            if is_first:
                raise
            return
        rest, is_first = stream.rest, False


class _Stream:
    """One compressed stream, taken out in pieces of bounded size."""

    def __init__(self, decompressor: "bz2.BZ2Decompressor | lzma.LZMADecompressor | _Gzip") -> None:
        self._decompressor = decompressor

    def pieces(self, octets: bytes) -> Iterator[bytes]:
        given = octets
        while not self._decompressor.eof:
            piece = self._decompressor.decompress(given, _PIECE)
            given = b""
            if not piece and self._decompressor.needs_input:
                raise BadArchiveError("archive-damaged")
            yield piece

    @property
    def rest(self) -> bytes:
        return self._decompressor.unused_data


class _Gzip:
    """zlib's decompressor with the interface that the others have."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def decompress(self, octets: bytes, limit: int) -> bytes:
        return self._decompressor.decompress(octets or self._decompressor.unconsumed_tail, limit)

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def needs_input(self) -> bool:
        return not self._decompressor.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decompressor.unused_data


def _gzip() -> _Stream:
    return _Stream(_Gzip())


def _bzip2() -> _Stream:
    return _Stream(bz2.BZ2Decompressor())


def _xz() -> _Stream:
    return _Stream(lzma.LZMADecompressor(lzma.FORMAT_XZ))


def _listed(octets: bytes) -> Iterator[Entry]:
    with _opened(octets) as archive:
        members = iter(archive)
        while True:
            with _damage_named():
                member = next(members, None)
            if member is None:
                return
            if not member.isdir:
                yield Entry(
                    _name_of(member),
                    member.size or 0,
                    bool(_is_encrypted(member._entry_p)),
                    _member_reader(member.get_blocks),
                )


@contextmanager
def _opened(octets: bytes) -> Iterator[ArchiveRead]:
    pointer = ffi.read_new()
    try:
        with _damage_named():
            for name in _FORMATS:
                ffi.get_read_format_function(name)(pointer)
            ffi.read_open_memory(pointer, ctypes.c_char_p(octets), len(octets))
        yield ArchiveRead(pointer)
    finally:
        ffi.read_free(pointer)


def _name_of(member: ArchiveEntry) -> str:
    try:
        written = member.pathname
    except ValueError:
        # It has characters that are none.
        return ""
    return written.decode("utf-8", "replace") if isinstance(written, bytes) else str(written or "")


def _member_reader(blocks: Callable[[int], Iterator[bytes]]) -> Callable[[], Iterator[bytes]]:
    """Of whatever is no directory: a file need not say that it is one."""

    def read() -> Iterator[bytes]:
        with _damage_named():
            yield from blocks(_PIECE)

    return read


def _wrapped(octets: bytes) -> Iterator[Entry]:
    """TNEF: the attachments' attributes follow each other, one of them before the first of each."""
    held: dict[int, bytes] = {}
    at, is_whole = _TNEF_HEADER, True
    while is_whole and at + _TNEF_ATTRIBUTE.size <= len(octets):
        _, kind, size = _TNEF_ATTRIBUTE.unpack_from(octets, at)
        at += _TNEF_ATTRIBUTE.size
        is_whole = at + size <= len(octets)
        if kind == _TNEF_NEXT:
            yield from _wrapped_entry(held)
            held = {}
        held[kind] = octets[at : at + size]
        # A checksum follows.
        at += size + 2
    yield from _wrapped_entry(held)
    if not is_whole:
        raise BadArchiveError("archive-damaged")


def _wrapped_entry(held: dict[int, bytes]) -> Iterator[Entry]:
    if _TNEF_DATA in held:
        name = octets_to_text(held.get(_TNEF_TITLE, b"").rstrip(b"\0"))
        yield Entry(name, len(held[_TNEF_DATA]), False, lambda: iter([held[_TNEF_DATA]]))
