"""Office documents: macros and encryption, by oletools.

Only the old, OLE kind of document and single-file XML or MIME documents are for this. A document that
is a zip is opened as one, and what it holds of macros is such an OLE file.
"""

import warnings
from dataclasses import dataclass

with warnings.catch_warnings():
    # oletools calls pyparsing by names that newer versions advise against.
    warnings.simplefilter("ignore")
    # Loaded by msoffcrypto and the standard library when they need them, and then it is too late.
    from xml.dom import expatbuilder

    from msoffcrypto.format import doc97, ooxml, ppt97, xls97
    from oletools import crypto, olevba

MAX_KEYWORDS = 20
_MAX_KEYWORD = 60
_LOADED = (doc97, expatbuilder, ooxml, ppt97, xls97)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_XML_LOOK = 65_536
# What olevba takes for a document in one file of text.
_XML_MARKS = (
    b"http://schemas.microsoft.com/office/word/2003/wordml",
    b"http://schemas.microsoft.com/office/2006/xmlPackage",
    b"application/x-mso",
)


@dataclass(frozen=True, slots=True)
class Document:
    """What is in a document that somebody should know of."""

    macros: tuple[str, ...] = ()
    is_encrypted: bool = False


def version() -> str:
    """The library's version, for people."""
    return f"oletools {olevba.__version__}"


def is_document(octets: bytes) -> bool:
    """Whether `examine` is for these octets."""
    return octets.startswith(_OLE) or any(mark in octets[:_XML_LOOK] for mark in _XML_MARKS)


def examine(octets: bytes) -> Document:
    """Macros by their telling keywords. Raises ValueError for a document that is damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _examine(octets)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def _examine(octets: bytes) -> Document:
    parser = olevba.VBA_Parser("document", data=octets, disable_pcode=True)
    try:
        is_encrypted = parser.ole_file is not None and bool(crypto.is_encrypted(parser.ole_file))
        return Document(_keywords(parser) if parser.detect_macros() else (), is_encrypted)
    finally:
        parser.close()


def _keywords(parser: olevba.VBA_Parser) -> tuple[str, ...]:
    """Names of what runs by itself and of what harm is done with; "macros" where there are none."""
    found = parser.analyze_macros() or ()
    words = [str(word) for kind, word, _ in found if kind in {"AutoExec", "Suspicious"}]
    printable = ("".join(c if c.isprintable() else "?" for c in word[:_MAX_KEYWORD]) for word in words)
    return tuple(dict.fromkeys(printable))[:MAX_KEYWORDS] or ("macros",)
