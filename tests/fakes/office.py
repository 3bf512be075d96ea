"""Office documents, as small as programs that look into them still take them for one.

An OLE file (MS-CFB) with streams in its root; VBA source (MS-OVBA 2.4.1) that nobody compressed much.
"""

import io
import struct
import zipfile
from collections.abc import Mapping

_SECTOR = 512
_SMALL = 4096
_FREE, _END, _FAT = 0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFD

AUTO_OPEN = 'Attribute VB_Name = "Module1"\r\nSub AutoOpen()\r\n  Shell "calc.exe", 1\r\nEnd Sub\r\n'


def ole(streams: Mapping[str, bytes]) -> bytes:
    """A compound file. Streams get as long as they must be to do without the mini stream."""
    streams = {name: octets.ljust(_SMALL, b"\0") for name, octets in streams.items()}
    directory = _sectors(128 * (1 + len(streams)))
    chains = [directory, *(max(_sectors(len(octets)), 1) for octets in streams.values())]
    table = [_FAT]
    starts = []
    for length in chains:
        starts.append(len(table))
        table += [*range(len(table) + 1, len(table) + length), _END]
    assert len(table) <= _SECTOR // 4, "one sector of the allocation table is all there is"
    entries = [_entry("Root Entry", 5, _END, 0, child=1 if streams else _FREE)]
    for number, (name, octets) in enumerate(streams.items(), 1):
        right = number + 1 if number < len(streams) else _FREE
        entries.append(_entry(name, 2, starts[number], len(octets), right=right))
    fat = struct.pack(f"<{_SECTOR // 4}I", *table, *[_FREE] * (_SECTOR // 4 - len(table)))
    contents = [b"".join(entries), *streams.values()]
    return b"".join([_header(starts[0]), fat, *map(_padded, contents)])


def _header(directory: int) -> bytes:
    signature = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    fields = struct.pack(
        "<16xHHHHH6xIIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, directory, 0, _SMALL, _END, 0, _END, 0, 0
    )
    return signature + fields + struct.pack("<108I", *[_FREE] * 108)


def _entry(name: str, kind: int, start: int, size: int, right: int = _FREE, child: int = _FREE) -> bytes:
    written = name.encode("utf-16-le") + b"\0\0"
    return struct.pack(
        "<64sHBB III 16xI8x8x IQ", written, len(written), kind, 1, _FREE, right, child, 0, start, size
    )


def _sectors(size: int) -> int:
    return -(-size // _SECTOR)


def _padded(octets: bytes) -> bytes:
    return octets.ljust(max(_sectors(len(octets)), 1) * _SECTOR, b"\0")


def compressed_source(source: str) -> bytes:
    """VBA source in chunks of literals, with a remark at its end that makes it long enough."""
    octets = source.encode("cp1252").ljust(_SMALL, b"'")
    return b"\1" + b"".join(_chunk(octets[at : at + 3200]) for at in range(0, len(octets), 3200))


def _chunk(octets: bytes) -> bytes:
    tokens = b"".join(b"\0" + octets[at : at + 8] for at in range(0, len(octets), 8))
    return struct.pack("<H", (len(tokens) - 1) | 0xB000) + tokens


def word_with_macros(source: str = AUTO_OPEN) -> bytes:
    """What Word 97 to 2003 would call a document."""
    return ole({"WordDocument": b"\xec\xa5" + bytes(_SMALL), "Module1": compressed_source(source)})


def encrypted_word() -> bytes:
    """A newer document behind a password: MS-OFFCRYPTO 2.3."""
    return ole({"EncryptionInfo": b"\4\0\4\0\x40\0\0\0<encryption/>", "EncryptedPackage": bytes(600)})


def newer_word(members: Mapping[str, bytes]) -> bytes:
    """A document that is a zip, with these members more."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", '<?xml version="1.0"?><Types/>')
        archive.writestr("_rels/.rels", '<?xml version="1.0"?><Relationships/>')
        archive.writestr("word/document.xml", '<?xml version="1.0"?><document/>')
        for name, octets in members.items():
            archive.writestr(name, octets)
    return held.getvalue()
