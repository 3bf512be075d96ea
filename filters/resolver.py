"""Address look-ups for filters: bounded in time, cached, identical ones asked once.

An answer and a failure never look alike: no address is an empty tuple, no answer an exception.
dnspython does the protocol; none of its types leaves this file.
"""

import asyncio
import ipaddress
import time
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from filters.base import FilterError
from gateway.smtp.endpoint import Endpoint

# What fits through every path unfragmented (DNS flag day 2020).
_PAYLOAD = 1232
# An answer takes some 5 KiB of memory, and is not given back before another needs its place.
_CACHE_SIZE = 10_000
# The longest an answer is kept, whatever its TTL says.
MAX_TTL = 3600.0
# How long a server that did not answer is asked last.
SET_BACK = 30.0
_RESOLV_CONF = "/etc/resolv.conf"


class Resolver:
    """Looks up names at `nameservers` ("host:port"), or at the system's if there are none.

    `timeout` bounds one look-up, in seconds; each server gets half of it, so that a lost packet or
    a dead server costs no answer. Raises ValueError for a server that is not given by its address.
    """

    def __init__(self, nameservers: list[str], timeout: float) -> None:
        if timeout <= 0:
            raise ValueError("query_timeout must be greater than 0")
        self._servers = [_server(text) for text in nameservers] or _system_servers()
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.use_edns(0, 0, _PAYLOAD)
        self._resolver.timeout = timeout / 2
        self._resolver.lifetime = timeout
        self._resolver.cache = _Cache(_CACHE_SIZE)
        self._under_way: dict[str, asyncio.Task[tuple[str, ...] | FilterError]] = {}

    async def addresses(self, name: str) -> tuple[str, ...]:
        """The IPv4 addresses of an absolute name; empty if it has none or does not exist.

        Raises FilterError if no server gave an answer that says so.
        """
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(self._look_up(name))
            self._under_way[name] = task
            task.add_done_callback(lambda _: self._under_way.pop(name))
        # One who gives up must not take the answer from the others who wait for it.
        outcome = await asyncio.shield(task)
        if isinstance(outcome, FilterError):
            raise FilterError(str(outcome))
        return outcome

    async def close(self) -> None:
        """Give up what nobody waits for any more."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self, name: str) -> tuple[str, ...] | FilterError:
        """A failure is returned: perhaps nobody is left whom it could be raised to."""
        healthy_first: list[_Server] = sorted(self._servers, key=lambda server: server.is_sick())
        self._resolver.nameservers = healthy_first
        try:
            answer = await self._resolver.resolve(name, "A", search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except dns.exception.Timeout:
            servers = ", ".join(map(str, self._servers))
            return FilterError(f"no answer within {self._resolver.lifetime:g} s from {servers}")
        except dns.resolver.NoNameservers as error:
            return FilterError(_refusals(error))
        except Exception as error:  # hostile answers find more to raise than is documented
            return FilterError(f"{type(error).__name__}: {error}")
        return tuple(sorted(record.address for record in answer))


class _Server(dns.nameserver.Do53Nameserver):
    """A name server that remembers when it last did not answer."""

    _sick_until = 0.0

    def __str__(self) -> str:
        return str(Endpoint(self.address, self.port))

    def is_sick(self) -> bool:
        """Whether it should be asked last."""
        return self._sick_until > time.monotonic()

    async def async_query(self, *arguments: Any, **options: Any) -> dns.message.Message:
        """One query. An answer of any kind, SERVFAIL included, is a sign of health."""
        try:
            response = await super().async_query(*arguments, **options)
        except dns.message.Truncated:
            raise
        except Exception:
            self._sick_until = time.monotonic() + SET_BACK
            raise
        self._sick_until = 0.0
        return response


class _Cache(dns.resolver.LRUCache):
    """Keeps an answer as long as it says, up to MAX_TTL; one that does not say is not kept.

    dnspython would keep a negative answer without SOA, which RFC 2308 section 5 says not to keep,
    for 68 years.
    """

    def put(self, key: Any, value: dns.resolver.Answer) -> None:
        """Called with every answer that came from a server."""
        if value.rrset is None and not _has_soa(value):
            return
        value.expiration = min(value.expiration, time.time() + MAX_TTL)
        super().put(key, value)


def _has_soa(answer: dns.resolver.Answer) -> bool:
    return any(rrset.rdtype == dns.rdatatype.SOA for rrset in answer.response.authority)


def _server(text: str) -> _Server:
    endpoint = Endpoint.parse(text)
    try:
        ipaddress.ip_address(endpoint.host)
    except ValueError:
        raise ValueError(f"{text!r} does not name a server by its address") from None
    return _Server(endpoint.host, endpoint.port)


def _system_servers() -> list[_Server]:
    system = dns.resolver.Resolver(configure=False)
    try:
        system.read_resolv_conf(_RESOLV_CONF)
    except (dns.resolver.NoResolverConfiguration, OSError):
        raise ValueError(f"{_RESOLV_CONF} names no server, so nameservers must") from None
    return [_Server(str(address)) for address in system.nameservers]


def _refusals(error: dns.resolver.NoNameservers) -> str:
    """What every server said: "SERVFAIL from 127.0.0.1:53"."""
    return ", ".join(f"{cause} from {server}" for server, _, _, cause, _ in error.kwargs["errors"])
