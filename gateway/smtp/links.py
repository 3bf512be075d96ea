"""Links in the text of a message, for looking them up: found by their looks, never followed."""

import html
import re
from collections.abc import Iterable, Iterator

MAX_LINKS = 1000
_MAX_LINK = 2048
# What stands behind a scheme; it begins with what can be searched for fast.
_BEHIND = re.compile(rf"://[^\s<>\"'`{{}}|\\^\x00-\x20\x7f]{{1,{_MAX_LINK}}}")
_SCHEMES = ("https", "http", "ftp")
_ATTRIBUTE = re.compile(
    r"\b(?:href|src|action|formaction|background|data|poster)\s{0,20}=\s{0,20}"
    r"""(?:"([^"]{0,4096})|'([^']{0,4096})|([^\s"'>]{1,4096}))""",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"(?:https?|ftp)://.", re.IGNORECASE)
# Of digits that name a character: more than Python makes a number of, and than any character has.
_LONG_REFERENCE = re.compile(r"&#([0-9]{20,})")
_MAX_DIGITS = 10
# Browsers take these out of the middle of a link.
_IGNORED = re.compile(r"[\t\r\n]")
_TRAILING = ".,;:!?)]>*"


def links_in_text(text: str) -> tuple[str, ...]:
    """The http, https and ftp links written out in the text, each once, in order."""
    return _unique(_written_out(text))


def links_in_html(text: str) -> tuple[str, ...]:
    """The same, and those in attributes of HTML, wherever they stand."""
    return _unique((*_attributes(text), *links_in_text(_unescaped(text))))


def _written_out(text: str) -> Iterator[str]:
    for found in _BEHIND.finditer(text):
        at = found.start()
        before = text[max(at - 5, 0) : at].lower()
        scheme = next((scheme for scheme in _SCHEMES if before.endswith(scheme)), None)
        behind = found[0].rstrip(_TRAILING)
        if scheme is not None and len(behind) > len("://"):
            yield f"{text[at - len(scheme) : at]}{behind}"


def _attributes(text: str) -> Iterator[str]:
    for found in _ATTRIBUTE.finditer(text):
        written = _unescaped(found[1] or found[2] or found[3] or "")
        link = _IGNORED.sub("", written).strip().replace("\\", "/")
        if link.startswith("//"):
            link = f"http:{link}"
        if _SCHEME.match(link):
            yield link[:_MAX_LINK]


def _unescaped(text: str) -> str:
    """The text with its character references replaced; leading zeros do not count, as in browsers."""
    return html.unescape(_LONG_REFERENCE.sub(lambda found: f"&#{_shortened(found[1])}", text))


def _shortened(digits: str) -> str:
    return digits.lstrip("0")[:_MAX_DIGITS] or "0"


def _unique(links: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for link in links:
        found.setdefault(link)
        if len(found) == MAX_LINKS:
            break
    return tuple(found)
