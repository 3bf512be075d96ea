"""What octets are by their first ones, whatever they are called: a small table of well-known formats.

For a cheap look without any library. Names are media types, as libmagic spells them.
"""

import re

# At octet 0, unless another offset stands before it.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"PK\x07\x08PK", "application/zip"),
    (0, b"Rar!\x1a\x07", "application/x-rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
    (7, b"**ACE**", "application/x-ace-compressed"),
    (0, b"\x60\xea", "application/x-arj"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"{\\rtf", "text/rtf"),
    (0, b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F", "application/x-ms-shortcut"),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "application/onenote"),
    (0, b"ITSF", "application/vnd.ms-htmlhelp"),
    (0, b"\x78\x9f\x3e\x22", "application/ms-tnef"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"#!", "text/x-shellscript"),
    (257, b"ustar", "application/x-tar"),
    (32_769, b"CD001", "application/x-iso9660-image"),
)
# How many octets `true_type` looks at, of however many it is given.
LOOK = 32_774
_HTML = re.compile(
    rb"(?s)(?:\xef\xbb\xbf)?\s{0,100}(?:<!--.{0,1000}?-->\s{0,100})?"
    rb"<(?:!doctype\s{1,20}html|html|head|body|script|iframe)\b"
)
_PDF_LOOK = 1024
_DOS_HEADER = 64


def true_type(octets: bytes) -> str | None:
    """The media type of what begins with these octets, or `None` if it is none of the table's."""
    for at, signature, name in _SIGNATURES:
        if octets.startswith(signature, at):
            return name
    # Text may begin with these two letters; a header of 64 octets without a NUL does not.
    if octets.startswith(b"MZ") and b"\0" in octets[:_DOS_HEADER]:
        return "application/x-dosexec"
    if _HTML.match(octets[:4096].lower()):
        return "text/html"
    # Readers look for it in the first kilobyte.
    return "application/pdf" if b"%PDF-" in octets[:_PDF_LOOK] else None
