"""The relay table as evidence: whether a recipient's domain is one we relay for."""

from collections.abc import Sequence

from filters.base import Cost, Filter
from filters.evidence import Route
from gateway.smtp.domains import match_domain
from gateway.smtp.transaction import Stage, Transaction


class Routes(Filter):
    """Finds the first of `domains` (in configured order) that matches the recipient in question."""

    name = "relay"
    finds = Route
    stage = Stage.RCPT
    cost = Cost.FREE

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = tuple(domains)

    async def find(self, tx: Transaction) -> Route:
        """The matching entry, or none; any will do where an MTA asks, which relays by rules of its own."""
        if tx.session.mta is not None:
            return Route("*")
        recipient = tx.envelope.recipient
        return Route(None if recipient is None else match_domain(self._domains, recipient.domain))
