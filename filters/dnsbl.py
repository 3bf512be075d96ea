"""DNS block and allow lists: what they say about the client's address (RFC 5782).

A list that does not answer, or answers with anything but an address of 127.0.0.0/8, has said
nothing: neither that the client is listed nor that it is not.
"""

import asyncio
import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from filters.base import Cost, Filter, FilterError
from filters.evidence import Listings
from filters.resolver import Resolver
from gateway.smtp.session import IPAddress
from gateway.smtp.transaction import Stage, Transaction

ZoneTable = dict[str, float | dict[str, float]]

_ANSWERS = ipaddress.IPv4Network("127.0.0.0/8")
# What lists answer to those they do not serve: open resolvers, heavy users, typing errors.
_ERRORS = ipaddress.IPv4Network("127.255.255.0/24")
# RFC 5782 section 5: the first must be listed, the second must not.
_TEST_POINT = ipaddress.IPv4Address("127.0.0.2")
_COUNTER_TEST_POINT = ipaddress.IPv4Address("127.0.0.1")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
# 32 nibbles of an IPv6 address with their dots go in front, and a name has 253 octets.
_MAX_ZONE = 253 - 64


@dataclass(frozen=True, slots=True, eq=False)
class _Zone:
    """One list: what an address it answers with weighs, and what any other weighs."""

    name: str
    weight: float
    codes: Mapping[str, float] = field(default_factory=dict)

    def weigh(self, codes: tuple[str, ...]) -> float:
        """The sum of the weights of the codes that have one of their own, plus once the zone's."""
        own = sum(self.codes[code] for code in codes if code in self.codes)
        return own + (self.weight if any(code not in self.codes for code in codes) else 0.0)


class DNSBL(Filter):
    """Asks block and allow lists about the client.

    `zones` maps each zone to its weight, negative for an allow list, or to a table: `codes` gives
    addresses the zone answers with weights of their own, `weight` (default 0 beside codes) is that
    of all others. `nameservers` ("host:port") default to the system's. `query_timeout` bounds one
    look-up, in seconds; all zones are asked at the same time.
    """

    name = "dnsbl"
    finds = Listings
    stage = Stage.CONNECT
    cost = Cost.LOOKUP

    def __init__(
        self,
        *,
        zones: dict[str, float | ZoneTable],
        nameservers: list[str] = [],  # noqa: B006 - never changed; the configuration shows it as default
        query_timeout: float = 2.0,
    ) -> None:
        self._zones = [_parse_zone(name, setting) for name, setting in zones.items()]
        if not self._zones:
            raise ValueError("zones must name at least one list")
        self._resolver = Resolver(nameservers, query_timeout)

    async def find(self, tx: Transaction) -> Listings:
        """Where the client is listed.

        What some lists say is reported even if others failed. But if nothing with a weight is known
        against or for the client and a list failed, it may have been that list that knows; this
        raises FilterError, naming the lists that failed.
        """
        listed, failed = await self._ask_all(tx.session.client_address)
        weights = {zone.name: zone.weigh(codes) for zone, codes in listed.items()}
        if failed and not any(weights.values()):
            raise FilterError(_join(failed))
        return Listings(sum(weights.values()), {zone.name: codes for zone, codes in listed.items()})

    async def probe(self) -> str:
        """Whether every list lists what it must and nothing else."""
        listed, failed = await self._ask_all(_TEST_POINT)
        wrongly_listed, failed_too = await self._ask_all(_COUNTER_TEST_POINT)
        failed = failed_too | failed
        for zone in self._zones:
            if zone in wrongly_listed:
                failed[zone.name] = f"lists everything, even {_COUNTER_TEST_POINT}"
            elif zone not in listed and zone.name not in failed:
                failed[zone.name] = f"is dead: does not list its own test point {_TEST_POINT}"
        if failed:
            raise FilterError(_join(failed))
        return "all lists answer: " + ", ".join(zone.name for zone in self._zones)

    async def close(self) -> None:
        """Give up look-ups that nobody waits for."""
        await self._resolver.close()

    async def _ask_all(self, client: IPAddress) -> tuple[dict[_Zone, tuple[str, ...]], dict[str, str]]:
        """The codes of the zones that list the client, and the causes of those that failed."""
        prefix = reversed_address(client)
        answers = await asyncio.gather(
            *(self._ask(f"{prefix}.{zone.name}.") for zone in self._zones), return_exceptions=True
        )
        listed, failed = {}, {}
        for zone, answer in zip(self._zones, answers, strict=True):
            if isinstance(answer, FilterError):
                failed[zone.name] = str(answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer:
                listed[zone] = answer
        return listed, failed

    async def _ask(self, name: str) -> tuple[str, ...]:
        """The codes a list answers with; empty if it does not list the client."""
        addresses = [ipaddress.IPv4Address(text) for text in await self._resolver.addresses(name)]
        if errors := [address for address in addresses if address in _ERRORS]:
            raise FilterError(f"refuses to serve us ({errors[0]})")
        codes = tuple(str(address) for address in addresses if address in _ANSWERS)
        if addresses and not codes:
            raise FilterError(f"answers with {addresses[0]}, which is no code")
        return codes


def reversed_address(address: IPAddress) -> str:
    """The labels that stand before the zone: octets or nibbles, the last first (RFC 5782 section 2)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return ".".join(reversed(address.exploded.replace(":", "")))
        address = address.ipv4_mapped
    return ".".join(reversed(str(address).split(".")))


def _parse_zone(name: str, setting: float | ZoneTable) -> _Zone:
    """Raises ValueError with what is wrong and what is allowed."""
    if len(name) > _MAX_ZONE or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a zone")
    if not isinstance(setting, dict):
        return _Zone(name, _weight(name, setting))
    codes = setting.get("codes", {})
    if not setting or not setting.keys() <= {"weight", "codes"} or not isinstance(codes, dict):
        raise ValueError(
            f'zone {name!r}: a table is {{weight = 4, codes = {{"127.0.0.2" = 3}}}} or one of both'
        )
    own = {_code(name, code): _weight(name, weight) for code, weight in codes.items()}
    return _Zone(name, _weight(name, setting.get("weight", 0.0)), own)


def _code(zone: str, text: str) -> str:
    try:
        code = ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"zone {zone!r}: {text!r} is not an IPv4 address") from None
    if code not in _ANSWERS or code in _ERRORS:
        raise ValueError(f"zone {zone!r}: {text} is no listing; allowed: {_ANSWERS} but for {_ERRORS}")
    return str(code)


def _weight(zone: str, weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ValueError(f"zone {zone!r}: {weight!r} is not a weight; allowed: a number, negative to allow")
    return float(weight)


def _join(failed: Mapping[str, str]) -> str:
    return "; ".join(f"{zone}: {cause}" for zone, cause in failed.items())
