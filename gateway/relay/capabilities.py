"""What we may promise a client: what every downstream we know of can do as well.

An extension that the downstream turns out not to have, after a message was taken on the strength of
it, ends in a bounce. So nothing is offered that was not seen in the downstreams' own EHLO replies;
those are looked at when a worker starts, now and then, and with every new connection.
"""

import asyncio
import re
from dataclasses import dataclass

import structlog

from gateway.relay.client import DownstreamError
from gateway.relay.pool import Pool
from gateway.relay.router import Destination, Router
from gateway.smtp.authentication import mechanisms
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt

PROBE_INTERVAL = 60.0
# Our own limit for one transaction.
MAX_RECIPIENTS = 1000
_RCPTMAX = re.compile(r"(?:^| )RCPTMAX=([1-9][0-9]{0,5})(?= |$)", re.IGNORECASE)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LoginOffer:
    """Where clients may log in, how that is spoken to, and by which mechanisms (RFC 4954)."""

    endpoints: tuple[Endpoint, ...]
    tls: Encrypt
    mechanisms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """`size` in octets (RFC 1870), 8BITMIME (RFC 6152), DSN (RFC 3461), SMTPUTF8 (RFC 6531).

    `recipients` is how many one transaction may have (RFC 9422), `login` where AUTH leads (RFC 4954).
    """

    size: int
    eight_bit: bool = True
    dsn: bool = False
    smtputf8: bool = False
    recipients: int = MAX_RECIPIENTS
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
        try:
            self._pool.release(await self._pool.open([endpoint], tls))
        except DownstreamError:
            pass  # whoever has mail for it will hear of that
        except Exception:
            # Nothing that one of them does may end the looking.
            _log.exception("a downstream could not be asked what it can do", address=str(endpoint))

    def _common(self) -> Offer:
        known = [self._known(destination) for destination in self._destinations]
        extensions = [each for one in known for each in one]
        if not all(known):
            return Offer(self._own_size, eight_bit=False)
        return Offer(
            min([self._own_size, *filter(None, map(_size, extensions))]),
            eight_bit=all("8BITMIME" in each for each in extensions),
            dsn=all("DSN" in each for each in extensions),
            smtputf8=all("SMTPUTF8" in each for each in extensions),
            recipients=min([MAX_RECIPIENTS, *filter(None, map(_recipients, extensions))]),
            login=self._login(),
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
        """What each of its addresses can do that was ever reached: any of them may get the next mail."""
        found = [self._pool.extensions(endpoint, destination.tls) for endpoint in destination.endpoints]
        return [each for each in found if each is not None]


def _keeps_passwords(destination: Destination) -> bool:
    """Whether nobody on the way there can listen, or pretend to be it."""
    return destination.tls == "verify" or all(endpoint.is_local for endpoint in destination.endpoints)


def _size(extensions: dict[str, str]) -> int:
    """A downstream's limit in octets, 0 if it has none or does not say."""
    value = extensions.get("SIZE", "")
    return int(value) if value.isascii() and value.isdigit() else 0


def _recipients(extensions: dict[str, str]) -> int:
    """A downstream's limit of recipients (RFC 9422 section 3.2), 0 if it has none or does not say."""
    found = _RCPTMAX.search(extensions.get("LIMITS", ""))
    return int(found[1]) if found else 0
