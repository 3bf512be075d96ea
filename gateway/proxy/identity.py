"""Who mail is judged by, where a trusted peer says that it speaks for somebody else.

XCLIENT makes a peer another client until it says so again, XFORWARD brings one for a single mail
transaction. Whom to believe is the listener's setting, and is decided once, by who connected.
"""

from gateway.hearing.early import EarlyStages
from gateway.proxy.service import ProxyService
from gateway.smtp.claim import XCLIENT, XFORWARD, Claim, claimed
from gateway.smtp.session import Session


def is_believed(service: ProxyService, peer: Session) -> bool:
    """Whether this peer may say who the client is."""
    return peer.client_address in service.xclient


def identity_keywords(service: ProxyService, peer: Session) -> tuple[str, ...]:
    """What a peer that is believed is offered for that, in the reply to EHLO."""
    return (XCLIENT, XFORWARD) if is_believed(service, peer) else ()


class Visitor:
    """The client that XFORWARD names, judged as if it had connected itself."""

    def __init__(self, service: ProxyService, peer: Session) -> None:
        # Where it is not said where the client is, it is where the peer is. Nothing else is the same.
        self._peer = self.session = Session(peer.client_address, peer.client_port, peer.listener)
        self.early = EarlyStages(service)
        self.is_judged = False

    def learn(self, claim: Claim) -> None:
        """Take in one more XFORWARD command."""
        self.session = claimed(self.session, self._peer, claim)

    async def judge(self) -> None:
        """Start judging its connect and HELO stages; it has said all there is."""
        if self.is_judged:
            return
        self.is_judged = True
        self.early.judge_client(self.session)
        if self.session.helo_name is not None:
            await self.early.judge_greeting(self.session)
