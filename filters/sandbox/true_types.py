"""Media types by content: libmagic, where the vocabulary's own table does not know better."""

import magic

from gateway.smtp.true_type import true_type

_LOOK = 1_048_576
_UNKNOWN = frozenset({"application/octet-stream", "application/x-empty", "application/CDFV2", "text/plain"})
# Containers of which libmagic may know what kind of document they are.
_CONTAINERS = frozenset({"application/zip", "application/x-ole-storage"})

_magic = magic.Magic(mime=True)


def version() -> str:
    """The library's version, for people."""
    number = int(magic.version())  # type: ignore[no-untyped-call]
    return f"libmagic {number // 100}.{number % 100}"


def find_type(octets: bytes) -> str | None:
    """The media type of these octets, or `None` if nobody knows it.

    It is the same that a policy's cheap look finds, or a more special one.
    """
    known = true_type(octets)
    if known is not None and known not in _CONTAINERS:
        return known
    try:
        named = str(_magic.from_buffer(octets[:_LOOK]))
    except magic.MagicException:
        return known
    return known if known is not None and named in _UNKNOWN else _or_none(named)


def _or_none(named: str) -> str | None:
    return None if named in {"application/octet-stream", "application/x-empty"} else named[:127]
