"""Lists of mailboxes, and which entry of one covers a recipient.

An entry is a mailbox (`sales@example.com`), all mailboxes of a domain (`@example.com`), or those of all
its subdomains (`@.example.com`). Case does not matter, not even in local parts: two people whose
addresses differ in nothing else do not exist.
"""

from collections.abc import Iterable, Sequence

from gateway.smtp.address import Path, PathError, parse_address
from gateway.smtp.domains import ANY, check_domains, match_domain


def check_mailboxes(entries: Iterable[str]) -> None:
    """Raise ValueError for an entry that could never match anything."""
    for entry in entries:
        local_part, at, domain = entry.rpartition("@")
        try:
            if not at or domain == ANY:
                raise ValueError
            check_domains([domain])
            if local_part:
                parse_address(entry)
        except (ValueError, PathError):
            raise ValueError(
                f'{entry!r} is no mailbox; allowed: "user@example.com", "@example.com" for a domain, '
                '"@.example.com" for its subdomains'
            ) from None


def match_mailbox(entries: Sequence[str], path: Path) -> str | None:
    """The first entry that covers the mailbox, or `None`; `<postmaster>` without a domain is in no list."""
    return next((entry for entry in entries if path.domain and _covers(entry, path)), None)


def _covers(entry: str, path: Path) -> bool:
    local_part, _, domain = entry.rpartition("@")
    if local_part and local_part.lower() != path.local_part.lower():
        return False
    return match_domain([domain], path.domain) is not None
