"""What octets are by content."""

import gzip

import pytest

from gateway.smtp.true_type import LOOK, true_type


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"%PDF-1.7\n", "application/pdf"),
        (b"junk before\n%PDF-1.4", "application/pdf"),
        (b"PK\3\4rest", "application/zip"),
        (b"PK\5\6" + bytes(18), "application/zip"),
        (b"Rar!\x1a\7\0", "application/x-rar"),
        (b"Rar!\x1a\7\1\0", "application/x-rar"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (gzip.compress(b""), "application/gzip"),
        (b"BZh9", "application/x-bzip2"),
        (b"\xfd7zXZ\0", "application/x-xz"),
        (b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
        (b"MZ" + bytes(62), "application/x-dosexec"),
        (b"MZ is where we live. This is a letter, not a program, whatever it looks like.", None),
        (b"\x7fELF\2", "application/x-executable"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"{\\rtf1", "text/rtf"),
        (b"<!DOCTYPE html>", "text/html"),
        (b"\xef\xbb\xbf\r\n <HTML>", "text/html"),
        (b"<!-- a\nb --><script>", "text/html"),
        (b"<htmlx>", None),
        (bytes(32_769) + b"CD001", "application/x-iso9660-image"),
        (bytes(257) + b"ustar\0", "application/x-tar"),
        (b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0F", "application/x-ms-shortcut"),
        (b"#!/bin/sh\n", "text/x-shellscript"),
        (b"Hello\r\n", None),
        (b"", None),
    ],
)
def test_a_true_type(octets: bytes, kind: str | None):
    assert true_type(octets) == kind
    assert true_type(octets[:LOOK]) == kind
