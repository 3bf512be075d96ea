"""Lists of addresses and networks, in CIDR notation (RFC 4632, RFC 4291 section 2.3)."""

import ipaddress
from collections.abc import Iterable, Sequence

from gateway.smtp.session import IPAddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORMS = '"192.0.2.1", "192.0.2.0/24", "2001:db8::1" or "2001:db8::/32"'


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises ValueError, naming the allowed forms, for the first that is none."""
    return tuple(_parse(text) for text in texts)


def is_in(address: IPAddress, networks: Sequence[Network]) -> bool:
    """Whether one of the networks has this address."""
    return any(address in network for network in networks)


def _parse(text: str) -> Network:
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
