"""Characters beyond ASCII, and one domain, whether its labels are written in UTF-8 or in ASCII.

RFC 5890 calls the two spellings of a label U-label and A-label (`xn--` and what stands behind it).
Nothing is mapped here: a label that the standard library's codec would turn into another one (width,
ligatures, other dots, decomposed letters) is no label. So two names are the same only if they are
the same name, and what is passed on is always what was received.
"""

import functools
import unicodedata

MAX_LABEL = 63
# RFC 5321 section 4.5.3.1.2, for either spelling.
MAX_DOMAIN = 255
# RFC 3629 section 4 without ASCII: no overlong forms, no surrogates. Without control characters
# (U+0080 to U+009F) and line ends (U+2028, U+2029), too, which somebody's parser could act on.
UTF8 = (
    rb"(?:\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]"
    rb"|(?!\xe2\x80[\xa8\xa9])[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})"
)


def is_disguised(text: str) -> bool:
    """Whether a character in there is ASCII by another name, such as a full-width commercial at.

    Whoever normalises compatibility characters (NFKC) would read something else than we did.
    """
    return not text.isascii() and any(map(_is_disguised, text))


def to_ascii(domain: str) -> str:
    """The domain in lower case, its U-labels as A-labels. Raises ValueError for what is no domain."""
    if domain.isascii():
        return domain.lower()
    spelled = ".".join(map(_label_to_ascii, domain.split(".")))
    if len(spelled) > MAX_DOMAIN:
        raise ValueError("domain too long")
    return spelled


def _is_disguised(character: str) -> bool:
    return not character.isascii() and any(map(str.isascii, unicodedata.normalize("NFKC", character)))


@functools.lru_cache(maxsize=1024)
def _label_to_ascii(label: str) -> str:
    if label.isascii():
        return label.lower()
    # First of all: what the codec does takes the square of the length (CVE-2022-45061).
    if len(label) > MAX_LABEL:
        raise ValueError("a label of the domain is too long")
    spelled = label.encode("idna")
    # Letters that differ in more than case are mapped as well: the Kelvin sign to a k.
    is_same = spelled.decode("idna") == label.lower() and label.lower().upper() == label.upper()
    if not is_same or unicodedata.normalize("NFKC", label) != label:
        raise ValueError("a label of the domain has no spelling in ASCII")
    return spelled.decode("ascii").lower()
