"""Sets of mailboxes, domains and networks as people write them, in which nothing is looked for one by one.

An entry is a mailbox (`sales@example.com`), all mailboxes of a domain (`@example.com`) or of its subdomains
(`@.example.com`); a domain (`example.com`) or its subdomains (`.example.com`); an address or a network in
CIDR notation; or any other text. Case does not matter. A domain may have either spelling (`idn`).
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Set
from functools import lru_cache

from gateway.smtp.address import Path
from gateway.smtp.idn import to_ascii
from gateway.smtp.networks import Network, Networks, parse_network
from gateway.smtp.session import IPAddress

_NETWORK = re.compile(r"(?=[0-9a-f]*[.:])[0-9a-f.:]+(/[0-9]{1,3})?", re.IGNORECASE)


class EntryError(ValueError):
    """An entry cannot be meant as it is; `entry` is the one, the text says why."""

    def __init__(self, entry: str, problem: str) -> None:
        super().__init__(problem)
        self.entry = entry


class Entries:
    """An immutable set of entries, in lower case, and how they are found.

    `digest` (SHA-256, hexadecimal) tells one list from another; it is another one in another order, too.
    """

    __slots__ = ("_networks", "_spelled", "_written", "digest", "texts")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Raises EntryError for what is nearly a network, such as one with bits set behind its prefix."""
        lowered = [text.lower() for text in texts]
        self.texts = frozenset(lowered)
        self.digest = hashlib.sha256("\n".join(lowered).encode("utf-8", "surrogatepass")).hexdigest()
        spelled = ((_spelled(text), text) for text in self.texts if not text.isascii())
        self._spelled = {name: text for name, text in spelled if name}
        written = {text: _parsed(text) for text in self.texts if _NETWORK.fullmatch(text)}
        self._written = {network: text for text, network in written.items() if network is not None}
        self._networks = Networks(self._written)

    def find_text(self, text: str) -> str | None:
        """The entry that is this text in lower case, its domain in either spelling."""
        return text if text in self.texts else self._spelled.get(text)

    def find_address(self, address: IPAddress) -> str | None:
        """The entry of the smallest network with this address."""
        network = self._networks.find(address)
        return None if network is None else self._written[network]

    def find_mailbox(self, path: Path) -> str | None:
        """The entry for the mailbox, else for its domain, else for the nearest domain above that."""
        domain = _ascii(path.domain)
        if not domain:
            return None
        return self._find_first([f"{path.local_part.lower()}@{domain}", *_widened("@", domain)])

    def find_domain(self, domain: str) -> str | None:
        """The entry for the domain, else for the nearest domain above it."""
        spelled = _ascii(domain)
        return self._find_first(_widened("", spelled)) if spelled else None

    def _find_first(self, texts: Iterable[str]) -> str | None:
        return next(filter(None, map(self.find_text, texts)), None)


class FileSet(Set[str]):
    """The entries of a text file, as an option of a policy. They change when the file does.

    A set of strings in lower case: `"Anna@Example.COM" in senders` does not mind the case, and
    `tx.session.client_address in clients` holds where a line is that address, or a network it is in.
    `matches` finds mailboxes and domains. In tests, `FileSet.of("anna@example.com", "@example.org")`.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    @classmethod
    def of(cls, *texts: str) -> "FileSet":
        """A set without a file. Raises EntryError."""
        return cls(Entries(texts))

    @property
    def entries(self) -> Entries:
        """What is in it now. All of it is replaced at once, so whoever holds this sees one state of it."""
        return self._entries

    def replace(self, entries: Entries) -> None:
        """Have these entries from now on. Only who reads the file does that."""
        self._entries = entries

    def __contains__(self, item: object) -> bool:
        if isinstance(item, str):
            return item.lower() in self._entries.texts
        if isinstance(item, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return self._entries.find_address(item) is not None
        return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries.texts)

    def __len__(self) -> int:
        return len(self._entries.texts)

    def __repr__(self) -> str:
        shown = sorted(self)[:3]
        rest = ", ..." if len(self) > len(shown) else ""
        return f"FileSet.of({', '.join(map(repr, shown))}{rest})"

    @classmethod
    def _from_iterable(cls, texts: Iterable[str]) -> frozenset[str]:  # type: ignore[override]
        """What `&`, `|` and `-` make: a set that no longer changes."""
        return frozenset(texts)


def matches(what: Path | str | IPAddress, entries: FileSet | frozenset[str]) -> str | None:
    """The entry that covers a mailbox, a domain or an address, the nearest one; or `None`.

    It takes a step for each label of the domain, however many entries there are. The null reverse-path
    and `<postmaster>` without a domain are in no set.
    """
    found = entries.entries if isinstance(entries, FileSet) else _entries(entries)
    match what:
        case str():
            return found.find_domain(what)
        case Path():
            return found.find_mailbox(what)
        case _:
            return found.find_address(what)


@lru_cache(maxsize=256)
def _entries(texts: frozenset[str]) -> Entries:
    """A set's entries are worked out once: it does not change, and remembers its own hash."""
    return Entries(texts)


def _widened(before: str, domain: str) -> Iterator[str]:
    """The entries that would cover a domain, the nearest first."""
    yield before + domain
    place = domain.find(".", 1)
    while place > 0:
        yield before + domain[place:]
        place = domain.find(".", place + 1)


def _ascii(domain: str) -> str:
    """The domain as it is compared; empty for what is no domain."""
    try:
        return to_ascii(domain)
    except ValueError:
        return ""


def _spelled(text: str) -> str:
    """The entry with its domain in ASCII; empty where that has no such spelling."""
    local_part, at, domain = text.rpartition("@")
    in_ascii = _ascii(domain)
    return f"{local_part}{at}{in_ascii}" if in_ascii else ""


def _parsed(text: str) -> Network | None:
    try:
        return parse_network(text)
    except ValueError as error:
        if "/" in text:
            raise EntryError(text, str(error)) from None
        return None
