"""The message as received: size, digest and a read-only view of its header section."""

import itertools
import re
from collections.abc import Iterator
from typing import Protocol

from gateway.smtp.header import MAX_FIELDS, Field, border, decode_value, split_fields
from gateway.smtp.mime import MAX_OCTETS, Part, defects_of, read_parts, urls_of

# Far beyond any real header section; what is longer is refused, for nobody could judge its end.
MAX_HEADER_SECTION = 1_048_576
_FIRST_LOOK = 65_536
# RFC 5321 section 6.3: a message that so many hosts have handed on goes in circles. Nobody needs to
# wait that long where it is ourselves who see it again and again.
MAX_HOPS = 100
MAX_OWN_HOPS = 10


class Content(Protocol):
    """The octets between DATA and the final dot, dot-stuffing removed, wherever they are kept."""

    @property
    def size(self) -> int:
        """Number of octets."""

    @property
    def digest(self) -> str:
        """SHA-256 of the octets, in hexadecimal."""

    def head(self, limit: int) -> bytes:
        """The first `limit` octets, or all if there are fewer."""

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The octets from `start` on, in pieces of bounded size."""


class Message:
    """What policies and filters see of a message. Asking for anything never raises.

    It remembers which header fields it was asked for by name: with them a record can tell what the
    message looked like to those who judged it.
    """

    __slots__ = ("_asked", "_fields", "_parts", "content")

    def __init__(self, content: Content) -> None:
        self.content = content
        self._fields: tuple[Field, ...] | None = None
        self._asked: dict[str, None] = {}
        self._parts: tuple[Part, ...] | None = None

    @property
    def size(self) -> int:
        """Number of octets, as received."""
        return self.content.size

    @property
    def digest(self) -> str:
        """SHA-256 of the octets as received, in hexadecimal."""
        return self.content.digest

    @property
    def border(self) -> bytes:
        """What stands between this message and the header fields that we put on top of it."""
        return border(self.content.head(_FIRST_LOOK))

    @property
    def is_all_header(self) -> bool:
        """True for a header section that does not end where anybody would still look at it."""
        fields = self.fields
        return len(fields) >= MAX_FIELDS or (bool(fields) and fields[-1].end >= MAX_HEADER_SECTION)

    def is_looping(self, hostname: str) -> bool:
        """True if its trace fields say that it goes in circles, `hostname` being ours."""
        hops = [field.value for field in self.fields if field.name == "received"]
        ours = re.compile(rb"(?:^|\s)by\s+" + re.escape(hostname.encode("ascii")) + rb"[\s;]", re.IGNORECASE)
        return len(hops) >= MAX_HOPS or sum(bool(ours.search(hop)) for hop in hops) >= MAX_OWN_HOPS

    @property
    def fields(self) -> tuple[Field, ...]:
        """All header fields, in order."""
        if self._fields is None:
            self._fields = split_fields(self._header_section())
        return self._fields

    @property
    def asked(self) -> tuple[str, ...]:
        """The names asked for so far, in lower case, also of fields that are not there."""
        return tuple(self._asked)

    def header(self, name: str) -> str | None:
        """The first field of that name, unfolded and decoded; `None` if there is none."""
        value = self.raw_header(name)
        return None if value is None else decode_value(value)

    def headers(self, name: str) -> tuple[str, ...]:
        """All fields of that name, unfolded and decoded."""
        self._asked[name.lower()] = None
        return self.decoded(name, None)

    def raw_header(self, name: str) -> bytes | None:
        """The octets behind the colon of the first field of that name, folds kept."""
        self._asked[name.lower()] = None
        return next(self._values(name), None)

    def decoded(self, name: str, limit: int | None = 1) -> tuple[str, ...]:
        """The first `limit` of them, for those who only take notes: that they asked is not remembered."""
        return tuple(map(decode_value, itertools.islice(self._values(name), limit)))

    def _values(self, name: str) -> Iterator[bytes]:
        wanted = name.lower()
        return (field.value for field in self.fields if field.name == wanted)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The MIME parts, containers and leaves in order of occurrence; the first is the message itself.

        Read when first asked for, from the first `MAX_OCTETS` octets behind the header section.
        """
        if self._parts is None:
            self._parts = self.parts_within(MAX_OCTETS)
        return self._parts

    def parts_within(self, limit: int) -> tuple[Part, ...]:
        """The MIME parts in the first `limit` octets behind the header section, read anew."""
        octets = self.content.head((self.fields[-1].end if self.fields else 0) + limit)
        return read_parts(self.content, octets, is_truncated=len(octets) < self.size)

    @property
    def urls(self) -> tuple[str, ...]:
        """Links in the text and HTML parts, each once, in order; a thousand at most."""
        return urls_of(self.parts)

    @property
    def mime_defects(self) -> tuple[str, ...]:
        """What is malformed in the MIME structure, as slugs, each once."""
        return defects_of(self.parts)

    def _header_section(self) -> bytes:
        head = self.content.head(_FIRST_LOOK)
        if len(head) == _FIRST_LOOK and b"\r\n\r\n" not in head:
            return self.content.head(MAX_HEADER_SECTION)
        return head
