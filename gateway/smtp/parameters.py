"""Header fields with parameters, like Content-Type: RFC 2045 section 5.1, RFC 2183, RFC 2231.

Reading is for judging what a message holds, so it takes what mail clients take: missing quotes,
encoded-words in parameters, octets beyond ASCII, sections out of order. It never fails.
"""

import re
from dataclasses import dataclass

from gateway.smtp.header import decode_words, octets_to_text, unfold

_HEAD = re.compile(r"[^;]*")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*(?:"|$)|[^;]*)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
# RFC 2231 sections 3 and 4: a section's number, and a star for "percent-encoded".
_EXTENDED = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_MAX_PARAMETERS = 200


@dataclass(frozen=True, slots=True)
class _Section:
    number: int
    text: str
    is_encoded: bool


@dataclass(frozen=True, slots=True)
class Parametrized:
    """What stands before the first semicolon, in lower case, and all readings of each parameter.

    A parameter may be written twice, plainly and as RFC 2231 has it. Both are kept, for mail clients
    differ in which they believe; that of RFC 2231 comes first.
    """

    value: str = ""
    parameters: tuple[tuple[str, str], ...] = ()

    def first(self, name: str) -> str | None:
        """The parameter's first reading, or `None`."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> tuple[str, ...]:
        """All readings of the parameter."""
        return tuple(value for key, value in self.parameters if key == name)


def parse_parametrized(value: bytes) -> Parametrized:
    """A field's value, taken apart. Comments are not looked for: no mail client does."""
    text = unfold(value)
    head = _HEAD.match(text)
    assert head is not None  # it matches nothing as well
    plain: list[tuple[str, str]] = []
    sections: dict[str, list[_Section]] = {}
    for count, found in enumerate(_PARAMETER.finditer(text, head.end())):
        if count == _MAX_PARAMETERS:
            break
        name, written = found[1].lower(), _unquote(found[2])
        extended = _EXTENDED.fullmatch(name)
        if extended is None or (extended[2] is None and extended[3] is None):
            plain.append((name, decode_words(written)))
        else:
            section = _Section(int(extended[2] or 0), written, extended[3] is not None)
            sections.setdefault(extended[1], []).append(section)
    joined = [(name, _join(parts)) for name, parts in sections.items()]
    return Parametrized(head[0].strip().lower(), (*joined, *plain))


def _unquote(written: str) -> str:
    if not written.startswith('"'):
        return written.strip()
    ends = len(written) > 1 and written.endswith('"')
    return _QUOTED_PAIR.sub(r"\1", written[1:-1] if ends else written[1:])


def _join(sections: list[_Section]) -> str:
    """The sections in the order of their numbers; the first says the charset of all."""
    sections = sorted(sections, key=lambda section: section.number)
    first = sections[0]
    if not any(section.is_encoded for section in sections):
        return decode_words("".join(section.text for section in sections))
    charset, rest = "utf-8", first.text
    if first.is_encoded and first.text.count("'") >= 2:
        charset, _, rest = first.text.split("'", 2)
    octets = _octets(rest, first.is_encoded)
    octets += b"".join(_octets(section.text, section.is_encoded) for section in sections[1:])
    return octets_to_text(octets, charset)


def _octets(text: str, is_encoded: bool) -> bytes:
    octets = text.encode("utf-8")
    return _PERCENT.sub(lambda found: bytes([int(found[1], 16)]), octets) if is_encoded else octets
