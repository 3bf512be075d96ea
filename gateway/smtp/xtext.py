"""The encoding of RFC 3461 section 4: printable ASCII, with `+` and two hexadecimal digits for the rest."""

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_ENCODED = re.compile(rb"\+([0-9A-F]{2})")


def encode(text: str) -> str:
    """As xtext; what is not ASCII in its UTF-8."""
    return "".join(
        char
        if "!" <= char <= "~" and char not in "+="
        else "".join(f"+{octet:02X}" for octet in char.encode())
        for char in text
    )


def decode(text: str) -> bytes:
    """The octets that were encoded, which may be any. Raises ValueError for what is no xtext."""
    if not _XTEXT.fullmatch(text):
        raise ValueError(f"{text!r} is not xtext")
    return _ENCODED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("ascii"))
