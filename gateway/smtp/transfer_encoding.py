"""Content-Transfer-Encoding: RFC 2045 section 6, read as leniently as mail clients read it.

Whoever hides something writes it so that a scanner stumbles and a mail client does not. So nothing
here fails: octets that do not belong are passed over, and it is said that there were some.
"""

import binascii
import string

# Identity encodings; what is none of all these is read as if it were one.
_PLAIN = frozenset({"", "7bit", "8bit", "binary"})
_BASE64 = f"{string.ascii_letters}{string.digits}+/=".encode()
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _BASE64)
_SPACE = b" \t\r\n"
# Base64 that goes on behind its padding is joined, but not for ever.
_MAX_PIECES = 1000


def is_known(encoding: str) -> bool:
    """Whether `decode` knows what to do with it."""
    return encoding in _PLAIN or encoding in {"base64", "quoted-printable"}


def is_plain(encoding: str) -> bool:
    """Whether the octets stand for themselves."""
    return encoding not in {"base64", "quoted-printable"}


def decode(encoding: str, octets: bytes) -> tuple[bytes, bool]:
    """The decoded octets, and whether they were well-formed."""
    if encoding == "base64":
        return _from_base64(octets)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(octets), True
    return octets, True


def _from_base64(octets: bytes) -> tuple[bytes, bool]:
    clean = octets.translate(None, _NOT_BASE64)
    has_junk = len(clean) < len(octets.translate(None, _SPACE))
    pieces = [piece for piece in clean.split(b"=", _MAX_PIECES)[:_MAX_PIECES] if piece]
    is_whole = not has_junk and len(clean) % 4 == 0 and len(pieces) <= 1
    return b"".join(map(_decode_piece, pieces)), is_whole


def _decode_piece(piece: bytes) -> bytes:
    # A single letter at the end holds six bits, which make no octet.
    if len(piece) % 4 == 1:
        piece = piece[:-1]
    return binascii.a2b_base64(piece + b"==")
