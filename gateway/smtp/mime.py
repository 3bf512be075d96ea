"""The MIME structure of a message, as mail clients will see it: RFC 2045, 2046, 2183.

A read-only view that is cheap: only the first octets of a message are looked at, parts know where
they stand and read and decode themselves when asked. Nothing a message can hold makes it raise:
what is malformed is named in `defects`. What takes work or could hurt, like archives, is not for
here but for a filter with a process of its own.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gateway.smtp.header import Field, decode_value, octets_to_text, split_fields
from gateway.smtp.links import MAX_LINKS, links_in_html, links_in_text
from gateway.smtp.parameters import Parametrized, parse_parametrized
from gateway.smtp.transfer_encoding import decode, is_known, is_plain
from gateway.smtp.true_type import LOOK, true_type

# Octets behind the header section that are looked at. Attachments that reach further are seen up to
# there, and say so.
MAX_OCTETS = 1_048_576
MAX_PARTS = 1000
MAX_DEPTH = 30
_MAX_HEADER = 65_536
_MAX_NAME = 255

_MEDIA_TYPE = re.compile(r"[!#-'*+.0-9a-z^-~|-]{1,127}/[!#-'*+.0-9a-z^-~|-]{1,127}")
_LINE_END = re.compile(rb"\r?\n")
_NESTED = frozenset({"message/rfc822", "message/global"})


class Source(Protocol):
    """Where a part's octets are."""

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The octets from `start` on, in pieces."""


class _Held:
    """Octets that were decoded on the way."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        yield self._octets[start:]


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a message: a leaf, or a container (`is_container`) of those that come behind it.

    `number` is the way to it: the message is "1", its second part "1.2", and a message in that one
    "1.2.1". `content_type` is in lower case and always `type/subtype`; `encoding` is the transfer
    encoding in lower case, "" where none is named. `file_names` are all that mail clients could make
    of the fields, the likeliest first: made harmless, without path separators or characters that
    cannot be seen. `is_truncated` says that the part goes on where nobody looked.
    """

    number: str
    fields: tuple[Field, ...]
    content_type: str
    charset: str | None
    disposition: str | None
    file_names: tuple[str, ...]
    encoding: str
    is_container: bool
    is_truncated: bool
    flaws: tuple[str, ...]
    source: Source
    start: int
    end: int

    @property
    def file_name(self) -> str | None:
        """The likeliest name, or `None`."""
        return self.file_names[0] if self.file_names else None

    def header(self, name: str) -> str | None:
        """The part's first field of that name, unfolded and decoded; `None` if there is none."""
        wanted = name.lower()
        return next((decode_value(field.value) for field in self.fields if field.name == wanted), None)

    @property
    def octets(self) -> bytes:
        """The body, its transfer encoding decoded. Not kept: asking twice is decoding twice."""
        return self._decode()[0]

    @property
    def text(self) -> str:
        """The body as text, in its charset if it can be, else in the likeliest."""
        return octets_to_text(self.octets, self.charset or "utf-8")

    @property
    def size(self) -> int:
        """Number of decoded octets, as far as they were seen."""
        return self._looks.size

    @property
    def true_type(self) -> str | None:
        """The media type by content, whatever it is called; `None` where a first look does not tell."""
        return self._looks.true_type

    @property
    def defects(self) -> tuple[str, ...]:
        """What is malformed in it, as slugs."""
        is_sound = self._looks.is_well_formed or self.is_truncated
        return self.flaws if is_sound else (*self.flaws, "bad-base64")

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the decoded octets, as far as they were seen, in hexadecimal."""
        return hashlib.sha256(self.octets).hexdigest()

    @functools.cached_property
    def urls(self) -> tuple[str, ...]:
        """Links in text and HTML, each once, in order; none in other types."""
        if self.is_container:
            return ()
        if self.content_type == "text/html" or self.true_type == "text/html":
            return links_in_html(self.text)
        return links_in_text(self.text) if self.content_type.startswith("text/") else ()

    @functools.cached_property
    def _looks(self) -> "_Looks":
        octets, is_well_formed = self._decode()
        kind = None if self.is_container else true_type(octets[:LOOK])
        return _Looks(len(octets), kind, is_well_formed)

    def _decode(self) -> tuple[bytes, bool]:
        octets = _read(self.source, self.start, self.end)
        return (octets, True) if self.is_container else decode(self.encoding, octets)


@dataclass(frozen=True, slots=True)
class _Looks:
    """What one decoding says of a body, so that it need not be kept."""

    size: int
    true_type: str | None
    is_well_formed: bool


def _read(source: Source, start: int, end: int) -> bytes:
    pieces, wanted = [], end - start
    if wanted > 0:
        for piece in source.chunks(start):
            pieces.append(piece[:wanted])
            wanted -= len(pieces[-1])
            if wanted <= 0:
                break
    return b"".join(pieces)


def read_parts(source: Source, octets: bytes, is_truncated: bool) -> tuple[Part, ...]:
    """All parts of a message that begins with `octets`, in order of occurrence.

    `source` is where parts read from later. There is always one part, up to `MAX_PARTS`.
    """
    reader = _Reader()
    reader.read(_Extent(source, octets, 0, len(octets), is_truncated), "1")
    return tuple(reader.parts)


def urls_of(parts: tuple[Part, ...]) -> tuple[str, ...]:
    """The links of all parts, each once."""
    return tuple(dict.fromkeys(url for part in parts for url in part.urls))[:MAX_LINKS]


def defects_of(parts: tuple[Part, ...]) -> tuple[str, ...]:
    """The defects of all parts, each once."""
    return tuple(dict.fromkeys(defect for part in parts for defect in part.defects))


@dataclass(frozen=True, slots=True)
class _Extent:
    """From where to where something stands in octets; cut off if what reaches their end goes on."""

    source: Source
    octets: bytes
    start: int
    end: int
    is_cut: bool

    def within(self, start: int, end: int) -> "_Extent":
        return _Extent(self.source, self.octets, start, end, self.is_cut and end == self.end)


class _Reader:
    """Walks through a message, and writes down its parts."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._planned = 1

    def read(self, extent: _Extent, number: str, default_type: str = "text/plain") -> None:
        """One part, its header section first, and then what it contains."""
        # The message's own header section may be long; nobody accepts it without an end.
        limit = extent.end if number == "1" else min(extent.end, extent.start + _MAX_HEADER)
        fields = split_fields(extent.octets[extent.start : limit])
        flaws: list[str] = []
        body = _body(extent, fields, flaws)
        kind = _only(fields, "content-type", flaws)
        disposition = _only(fields, "content-disposition", flaws)
        encoding = next(iter(_only(fields, "content-transfer-encoding", flaws).value.split()), "")
        if not is_known(encoding):
            flaws.append("bad-transfer-encoding")
        content_type = _content_type(kind.value, default_type, flaws)
        inner = self._plan(_contents(body, content_type, kind, encoding, flaws), number, flaws)
        self.parts.append(
            Part(
                number=number,
                fields=fields,
                content_type=content_type,
                charset=(kind.first("charset") or "").lower() or None,
                disposition=disposition.value or None,
                file_names=_file_names(disposition, kind),
                encoding=encoding,
                is_container=bool(inner) or content_type.startswith("multipart/"),
                is_truncated=body.is_cut,
                flaws=tuple(dict.fromkeys(flaws)),
                source=body.source,
                start=body.start,
                end=body.end,
            )
        )
        # RFC 2046 section 5.1.5: what a digest holds are messages, unless they say otherwise.
        default = "message/rfc822" if content_type == "multipart/digest" else "text/plain"
        for count, part in enumerate(inner, 1):
            self.read(part, f"{number}.{count}", default)

    def _plan(self, inner: list[_Extent], number: str, flaws: list[str]) -> list[_Extent]:
        """As many of them as are still looked at."""
        if inner and number.count(".") >= MAX_DEPTH:
            flaws.append("too-deep")
            return []
        room = MAX_PARTS - self._planned
        if len(inner) > room:
            flaws.append("too-many-parts")
        self._planned += len(inner[:room])
        return inner[:room]


def _body(extent: _Extent, fields: tuple[Field, ...], flaws: list[str]) -> _Extent:
    """What stands behind the header section and the empty line."""
    at = extent.start + (fields[-1].end if fields else 0)
    if empty_line := _LINE_END.match(extent.octets, at, extent.end):
        at = empty_line.end()
    elif at < extent.end:
        flaws.append("no-empty-line")
    return extent.within(at, extent.end)


def _contents(
    body: _Extent, content_type: str, kind: Parametrized, encoding: str, flaws: list[str]
) -> list[_Extent]:
    """Where the parts stand that this one contains."""
    if content_type in _NESTED:
        return [body if is_plain(encoding) else _decoded_message(body, encoding, flaws)]
    if not content_type.startswith("multipart/"):
        return []
    if not is_plain(encoding):
        # RFC 2045 section 6.4 forbids it, and nobody decodes it.
        flaws.append("encoded-multipart")
    boundary = (kind.first("boundary") or "").rstrip()
    if not boundary:
        flaws.append("no-boundary")
        return []
    return _split(body, boundary.encode("utf-8"), flaws)


def _decoded_message(body: _Extent, encoding: str, flaws: list[str]) -> _Extent:
    """RFC 2046 section 5.2.1 forbids it; clients that show such a message decode it."""
    flaws.append("encoded-message")
    octets, _ = decode(encoding, body.octets[body.start : body.end])
    return _Extent(_Held(octets), octets, 0, len(octets), body.is_cut)


def _split(body: _Extent, boundary: bytes, flaws: list[str]) -> list[_Extent]:
    """The parts between delimiter lines (RFC 2046 section 5.1.1)."""
    # It begins with letters that are searched for, and nothing is looked at twice.
    delimiter = re.compile(rb"\n--%s(--)?[ \t]*(?=\r?\n|\Z)" % re.escape(boundary))
    parts: list[_Extent] = []
    start, is_closed = None, False
    for found in delimiter.finditer(body.octets, max(body.start - 1, 0), body.end):
        if start is not None:
            parts.append(body.within(start, _without_return(body, start, found.start())))
        line_end = _LINE_END.match(body.octets, found.end(), body.end)
        start = line_end.end() if line_end else body.end
        is_closed = found[1] is not None
        if is_closed or len(parts) > MAX_PARTS:
            break
    if not is_closed and start is not None:
        parts.append(body.within(start, body.end))
    if not is_closed and not body.is_cut:
        flaws.append("no-delimiter" if start is None else "no-close-delimiter")
    return parts


def _without_return(body: _Extent, start: int, end: int) -> int:
    """The line end before a delimiter belongs to the delimiter."""
    return end - 1 if end > start and body.octets[end - 1] == 0x0D else max(end, start)


def _only(fields: tuple[Field, ...], name: str, flaws: list[str]) -> Parametrized:
    """The first field of that name; which of several counts, nobody agrees on."""
    values = [field.value for field in fields if field.name == name]
    if len(values) > 1:
        flaws.append("repeated-field")
    return parse_parametrized(values[0]) if values else Parametrized()


def _content_type(written: str, default: str, flaws: list[str]) -> str:
    """RFC 2045 section 5.2: without a usable one it is plain text."""
    if not written:
        return default
    if not _MEDIA_TYPE.fullmatch(written):
        flaws.append("bad-content-type")
        return "text/plain"
    return written


def _file_names(disposition: Parametrized, kind: Parametrized) -> tuple[str, ...]:
    names = (harmless_name(name) for name in (*disposition.all("filename"), *kind.all("name")))
    return tuple(dict.fromkeys(name for name in names if name))


def harmless_name(name: str) -> str:
    """A file name that is one name, can be seen whole, and ends as Windows would have it end.

    Of a long one the middle is left out: what it ends with says what opens it.
    """
    seen = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in name)
    seen = seen.strip().rstrip(". ")
    half = _MAX_NAME // 2
    return seen if len(seen) <= _MAX_NAME else f"{seen[:half]}\u2026{seen[-half:]}"
