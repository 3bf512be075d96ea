"""What every dialogue of one listener shares: plain values and the things that do the work."""

from dataclasses import dataclass, field

from gateway.hearing.service import Service
from gateway.proxy.certificate import Certificate
from gateway.proxy.descriptors import Descriptors
from gateway.relay.capabilities import Capabilities, Offer
from gateway.relay.pool import Pool
from gateway.relay.router import Router
from gateway.smtp.content import BareNewline
from gateway.smtp.networks import Networks


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyService(Service):
    """A listener that clients connect to, and the downstreams behind it.

    Without `capabilities` nothing is known of the downstreams, and they are taken for plain ones.
    Peers in `proxy_protocol` must begin with a PROXY header, those in `xclient` may say for whom they
    speak.
    """

    router: Router
    pool: Pool
    capabilities: Capabilities | None = None
    bare_newline: BareNewline = BareNewline.REJECT
    certificate: Certificate | None = None
    tls_implicit: bool = False
    lmtp: bool = False
    descriptors: Descriptors = field(default_factory=Descriptors)
    proxy_protocol: Networks = field(default_factory=Networks)
    xclient: Networks = field(default_factory=Networks)

    def offer(self) -> Offer:
        """What clients may be promised at the moment."""
        return Offer(self.max_message_size) if self.capabilities is None else self.capabilities.offer()
