"""Which domains we relay for, and which entry of such a list covers a recipient's domain.

An entry is a domain (`example.com`), all subdomains of one (`.example.com`, not the domain itself),
an address literal (`[192.0.2.1]`), or `*` for every domain. On either side a name may be written
in UTF-8 or in ASCII (`idn`). Only the domain is ever looked at: what a local part such as
`user%elsewhere` means is the downstream's business.
"""

import re
from collections.abc import Iterable, Sequence

from gateway.smtp.idn import to_ascii

ANY = "*"
_ENTRY = re.compile(r"\*|\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[!-Z^-~]+\]", re.IGNORECASE)


def check_domains(domains: Iterable[str]) -> None:
    """Raise ValueError for an entry that could never match anything."""
    for entry in domains:
        if not _ENTRY.fullmatch(_spelled(entry)):
            raise ValueError(
                f'{entry!r} is not a domain; allowed: "example.com", ".example.com" for its subdomains,'
                ' "[192.0.2.1]" or "*" for any'
            )


def match_domain(domains: Sequence[str], domain: str) -> str | None:
    """The first entry that covers the domain, or `None`.

    The empty domain is that of `<postmaster>`, which a server that relays for anybody must accept
    (RFC 5321 section 4.5.1): it goes where the first domain with a name goes. An address literal
    is covered by the same literal only, for `*` speaks of domains and not of whatever host the
    sender knows a way to.
    """
    if not domain:
        return next((entry for entry in domains if entry != ANY), domains[0] if domains else None)
    spelled = _spelled(domain)
    return next((entry for entry in domains if spelled and _covers(_spelled(entry), spelled)), None)


def _spelled(domain: str) -> str:
    """As it is compared; empty for what is no domain in any spelling."""
    try:
        return to_ascii(domain)
    except ValueError:
        return ""


def _covers(entry: str, domain: str) -> bool:
    if entry == ANY:
        return not domain.startswith("[")
    if entry.startswith("."):
        return domain.endswith(entry) and len(domain) > len(entry)
    return domain == entry
