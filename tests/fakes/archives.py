"""Archives of all kinds, and messages that bring them along.

What only its own program writes is written by hand here: RAR, with its members stored. Encrypted 7z
cannot be, so two small ones are kept; their password is "x".
"""

import base64
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

import libarchive

HELLO = {"hello.txt": b"Hello\n"}

ENCRYPTED_7Z = base64.b64decode(
    "N3q8ryccAARFmI7BeQAAAAAAAAAUAAAAAAAAAIHWvcpkR5kChndoOvL2H0sLdb3JAQBkAQQGAAEJEAoBlqadCwAHCwEAAiQG8QcB"
    "ElMPBchrCdtdwcw2Mk4QmR85fyEhARgBAAwKBgAICgHl6KJcAAAFARENAGEALgB0AHgAdAAAABQKAQAQOcuCAX7dARUGAQAggICB"
    "AAAAFwYQAQlpAAcLAQABISEBGAxlAAA="
)
# Not even its names can be read.
SECRET_7Z = base64.b64decode(
    "N3q8ryccAATLa812gAAAAAAAAAAoAAAAAAAAAFNkir/2JdnvJLCAjzw8ibPbewwsCBdXrG1mfVQzKA9kN3mwhjaKlUI4ej5d37ly"
    "5BJyqSYRea7uNypAFUSkjr5oAug1YAXQbC+0t7+8nwRDA/NAYCeQgKgUrK0WfVqTaegcQMsxznzLmUeey3uy3XkYrWEQg+nLd9Ju"
    "hUYZHJtllqzA+RcGEAEJcAAHCwEAASQG8QcBElMPkv3dGDDiCiZLiQARohwkjAxlAAA="
)


def mail(*files: tuple[str, bytes], text: str = "Hello\r\n") -> bytes:
    """A message with these attachments, by file name."""
    parts = [f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}".encode()]
    for name, octets in files:
        header = (
            f'Content-Disposition: attachment; filename="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        )
        parts.append(header.encode() + base64.encodebytes(octets).replace(b"\n", b"\r\n"))
    body = b"".join(b"--b\r\n%s\r\n" % part for part in parts)
    return b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + body + b"--b--\r\n"


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, octets in files.items():
            # No date of today: the same every time.
            archive.writestr(zipfile.ZipInfo(name), octets, method)
    return held.getvalue()


def encrypted_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip whose members say that they are encrypted, in both places where they can say so."""
    octets = bytearray(zipped(files, zipfile.ZIP_STORED))
    for signature, flags_at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := octets.find(signature, at + 1)) >= 0:
            octets[at + flags_at] |= 1
    return bytes(octets)


def tarred(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as archive:
        for name, octets in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(octets)
            archive.addfile(info, io.BytesIO(octets))
    return held.getvalue()


def by_libarchive(kind: str, files: Mapping[str, bytes]) -> bytes:
    """7zip, iso9660, cpio_newc, ar_bsd, xar."""
    pieces: list[bytes] = []

    def write(piece: bytes) -> int:
        pieces.append(bytes(piece))
        return len(piece)

    with libarchive.custom_writer(write, kind) as archive:
        for name, octets in files.items():
            archive.add_file_from_memory(name, len(octets), octets)
    return b"".join(pieces)


def rar(files: Mapping[str, bytes], *, encrypted: bool = False) -> bytes:
    """RAR 2.9 to 4, stored."""

    def block(kind: int, flags: int, fields: bytes) -> bytes:
        rest = struct.pack("<BHH", kind, flags, len(fields) + 7) + fields
        return struct.pack("<H", zlib.crc32(rest) & 0xFFFF) + rest

    octets = b"Rar!\x1a\7\0" + block(0x73, 0, bytes(6))
    for name, member in files.items():
        written = name.encode()
        fields = struct.pack(
            "<IIBIIBBHI", len(member), len(member), 3, zlib.crc32(member), 0, 20, 0x30, len(written), 0o100644
        )
        octets += block(0x74, 0x8000 | (4 if encrypted else 0), fields + written) + member
    return octets + block(0x7B, 0x4000, b"")


def rar5(files: Mapping[str, bytes]) -> bytes:
    """RAR 5, stored. No member and no header may be longer than 127 octets."""

    def block(fields: bytes) -> bytes:
        sized = bytes([len(fields)]) + fields
        return struct.pack("<I", zlib.crc32(sized)) + sized

    octets = b"Rar!\x1a\7\1\0" + block(bytes([1, 0, 0]))
    for name, member in files.items():
        sizes = bytes([2, 2, len(member), 4, len(member), 0]) + struct.pack("<I", zlib.crc32(member))
        octets += block(sizes + bytes([0, 1, len(name)]) + name.encode()) + member
    return octets + block(bytes([5, 0, 0]))


def secret_rar5() -> bytes:
    """RAR 5 with its headers encrypted."""
    fields = bytes([4, 0, 0, 0, 15]) + bytes(16)
    sized = bytes([len(fields)]) + fields
    return b"Rar!\x1a\7\1\0" + struct.pack("<I", zlib.crc32(sized)) + sized + bytes(64)


def tnef(files: Mapping[str, bytes]) -> bytes:
    """winmail.dat, the name of each attachment behind its content, as Outlook has it."""

    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("<BII", 2, kind, len(value)) + value + struct.pack("<H", sum(value) & 0xFFFF)

    octets = struct.pack("<IH", 0x223E9F78, 1) + attribute(0x00089006, struct.pack("<I", 0x10000))
    for name, member in files.items():
        octets += attribute(0x00069002, bytes(14)) + attribute(0x0006800F, member)
        octets += attribute(0x00018010, name.encode() + b"\0")
    return octets
