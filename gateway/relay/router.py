"""Which downstream takes mail for a recipient: the first `[[relay]]` entry that names its domain."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.smtp.address import Path
from gateway.smtp.domains import match_domain
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt, Identify


@dataclass(frozen=True, slots=True)
class Destination:
    """One `[[relay]]` entry: its domains, its addresses in order, and how it is spoken to."""

    domains: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    identify: Identify = "auto"
    tls: Encrypt = "may"

    @property
    def answers_for_each(self) -> bool:
        """Whether it answers the end of data once for each recipient (RFC 2033 section 4.2)."""
        return self.endpoints[0].lmtp


class Router:
    """The relay table, in configured order."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self.destinations = tuple(destinations)

    def find(self, recipient: Path) -> Destination | None:
        """The destination for a recipient, or `None` where we do not relay."""
        for destination in self.destinations:
            if match_domain(destination.domains, recipient.domain) is not None:
                return destination
        return None
