"""Sets of addresses and networks, in CIDR notation (RFC 4632, RFC 4291 section 2.3)."""

import ipaddress
from collections.abc import Iterable, Iterator

from gateway.smtp.session import IPAddress, plain

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORMS = '"192.0.2.1", "192.0.2.0/24", "2001:db8::1" or "2001:db8::/32"'
_BITS = {4: 32, 6: 128}


class Networks:
    """An immutable set of networks; `address in networks`, where a mapped address is its IPv4 address.

    Looking takes one step for each length of prefix that is in it, however many networks there are.
    """

    __slots__ = ("_found", "_networks")

    def __init__(self, networks: Iterable[str | Network] = ()) -> None:
        """Raises ValueError, naming the allowed forms, for the first text that is no network."""
        parsed = (parse_network(each) if isinstance(each, str) else each for each in networks)
        self._networks = tuple(dict.fromkeys(parsed))
        # By version and length of the prefix, from the longest: what is left of the address to its network.
        self._found: dict[int, dict[int, dict[int, Network]]] = {4: {}, 6: {}}
        for network in sorted(self._networks, key=lambda each: -each.prefixlen):
            shift = _BITS[network.version] - network.prefixlen
            prefixes = self._found[network.version].setdefault(shift, {})
            prefixes[int(network.network_address) >> shift] = network

    @classmethod
    def of(cls, *texts: str) -> "Networks":
        """The networks written so: `Networks.of("10.0.0.0/8", "2001:db8::1")`."""
        return cls(texts)

    def find(self, address: IPAddress) -> Network | None:
        """The smallest of the networks that has this address, or `None`."""
        address = plain(address)
        number = int(address)
        for shift, prefixes in self._found[address.version].items():
            network = prefixes.get(number >> shift)
            if network is not None:
                return network
        return None

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return False
        return self.find(address) is not None

    def __iter__(self) -> Iterator[Network]:
        return iter(self._networks)

    def __len__(self) -> int:
        return len(self._networks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and set(self._networks) == set(other._networks)

    def __hash__(self) -> int:
        return hash(frozenset(self._networks))

    def __repr__(self) -> str:
        return f"Networks.of({', '.join(repr(text) for text in self.texts())})"

    def texts(self) -> tuple[str, ...]:
        """The networks as they are written, single addresses without a prefix."""
        return tuple(
            str(each.network_address if each.prefixlen == _BITS[each.version] else each) for each in self
        )


def parse_network(text: str) -> Network:
    """A network, or an address as one. Raises ValueError, naming the allowed forms."""
    address, slash, prefix = text.partition("/")
    try:
        # A mask in dotted form could be either of two kinds, so only the length of the prefix is taken.
        if slash and not prefix.isdecimal():
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is neither address nor network; allowed: {FORMS}') from None
    if network.network_address != ipaddress.ip_address(address):
        # Either could be meant, and one of them trusts more peers than the other.
        raise ValueError(f'"{text}" has bits set behind its prefix; the network is "{network}"')
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f'"{text}" matches nobody: such clients are known by their IPv4 address')
    return network
