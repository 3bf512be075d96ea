"""What we may promise a client: what every downstream we know of can do as well.

An extension that the downstream turns out not to have, after a message was taken on the strength of
it, ends in a bounce. So nothing is offered that was not seen in the downstreams' own EHLO replies;
those are looked at when a worker starts, now and then, and with every new connection.
"""

import asyncio
import contextlib
from dataclasses import dataclass

from gateway.relay.client import DownstreamError
from gateway.relay.pool import Pool
from gateway.relay.router import Destination, Router
from gateway.smtp.authentication import mechanisms
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt

PROBE_INTERVAL = 60.0


@dataclass(frozen=True, slots=True)
class LoginOffer:
    """Where clients may log in, how that is spoken to, and by which mechanisms (RFC 4954)."""

    endpoints: tuple[Endpoint, ...]
    tls: Encrypt
    mechanisms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """`size` in octets (RFC 1870), 8BITMIME (RFC 6152), DSN (RFC 3461), AUTH (RFC 4954)."""

    size: int
    eight_bit: bool = True
    dsn: bool = False
    login: LoginOffer | None = None


class Capabilities:
    """The downstreams' extensions, as far as they are known. `own_size` is our own limit in octets."""

    def __init__(self, pool: Pool, router: Router, own_size: int) -> None:
        self._pool = pool
        self._destinations = router.destinations
        self._own_size = own_size
        self._seen = -1
        self._offer = Offer(own_size, eight_bit=False)

    def offer(self) -> Offer:
        """What all destinations can do. A destination of which nothing is known can do nothing."""
        if self._seen != self._pool.greetings:
            self._seen = self._pool.greetings
            self._offer = self._common()
        return self._offer

    async def probe(self) -> None:
        """Greet every downstream; one that does not answer keeps what is known of it."""
        # Many entries lead to one address; it is greeted once.
        ways = {(endpoint, each.tls) for each in self._destinations for endpoint in each.endpoints}
        await asyncio.gather(*(self._probe(endpoint, tls) for endpoint, tls in ways))

    async def keep_probing(self) -> None:
        """Do so for ever."""
        while True:
            await asyncio.sleep(PROBE_INTERVAL)
            await self.probe()

    async def _probe(self, endpoint: Endpoint, tls: Encrypt) -> None:
        with contextlib.suppress(DownstreamError):
            self._pool.release(await self._pool.open([endpoint], tls))

    def _common(self) -> Offer:
        known = [self._known(destination) for destination in self._destinations]
        extensions = [each for one in known for each in one]
        if not all(known):
            return Offer(self._own_size, eight_bit=False)
        return Offer(
            min([self._own_size, *filter(None, map(_size, extensions))]),
            all("8BITMIME" in each for each in extensions),
            all("DSN" in each for each in extensions),
            self._login(),
        )

    def _login(self) -> LoginOffer | None:
        """The one place where clients can log in. Of several, nobody could say which one is meant."""
        offers = {
            LoginOffer(destination.endpoints, destination.tls, mechanisms)
            for destination in self._destinations
            if _keeps_passwords(destination) and (mechanisms := self._mechanisms(destination))
        }
        return offers.pop() if len(offers) == 1 else None

    def _mechanisms(self, destination: Destination) -> tuple[str, ...]:
        """Those that all addresses of a destination have, as far as they are known."""
        first, *others = [mechanisms(each.get("AUTH", "")) for each in self._known(destination)]
        return tuple(each for each in first if all(each in other for other in others))

    def _known(self, destination: Destination) -> list[dict[str, str]]:
        seen: dict[Endpoint, dict[str, str]] = self._pool.extensions
        return [seen[endpoint] for endpoint in destination.endpoints if endpoint in seen]


def _keeps_passwords(destination: Destination) -> bool:
    """Whether nobody on the way there can listen, or pretend to be it."""
    return destination.tls == "verify" or all(endpoint.is_local for endpoint in destination.endpoints)


def _size(extensions: dict[str, str]) -> int:
    """A downstream's limit in octets, 0 if it has none or does not say."""
    value = extensions.get("SIZE", "")
    return int(value) if value.isascii() and value.isdigit() else 0
