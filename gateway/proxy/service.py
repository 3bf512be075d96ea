"""What every dialogue of one listener shares: plain values and the things that do the work."""

import asyncio
from dataclasses import dataclass, field

from gateway.pipeline import Pipeline
from gateway.profiles import Profiles
from gateway.proxy.certificate import Certificate
from gateway.proxy.descriptors import Descriptors
from gateway.quarantine.store import Quarantine
from gateway.recorder import Recorder
from gateway.relay.capabilities import Capabilities, Offer
from gateway.relay.pool import Pool
from gateway.relay.router import Router
from gateway.smtp.content import BareNewline
from gateway.smtp.networks import Networks
from gateway.spool import Store
from gateway.terms import Speak


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """`deadline` is seconds from the final dot to our reply, `max_message_size` octets.

    Without `capabilities` nothing is known of the downstreams, and they are taken for plain ones.
    Peers in `proxy_protocol` must begin with a PROXY header, those in `xclient` may say for whom they
    speak.
    """

    hostname: str
    listener: str
    profiles: Profiles
    router: Router
    pool: Pool
    recorder: Recorder
    store: Store
    quarantine: Quarantine
    speak: Speak = "rcpt"
    deadline: float = 60.0
    max_message_size: int = 52_428_800
    capabilities: Capabilities | None = None
    bare_newline: BareNewline = BareNewline.REJECT
    certificate: Certificate | None = None
    tls_implicit: bool = False
    lmtp: bool = False
    descriptors: Descriptors = field(default_factory=Descriptors)
    proxy_protocol: Networks = field(default_factory=Networks)
    xclient: Networks = field(default_factory=Networks)

    @property
    def pipeline(self) -> Pipeline:
        """The general settings' filters and policies, for what is judged before a recipient is named."""
        return self.profiles.general.pipeline

    def offer(self) -> Offer:
        """What clients may be promised at the moment."""
        return Offer(self.max_message_size) if self.capabilities is None else self.capabilities.offer()

    def next_deadline(self) -> float:
        """When what begins now has to be over, in the event loop's time."""
        return asyncio.get_running_loop().time() + self.deadline
