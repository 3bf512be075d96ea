"""One client connection as filters and policies see it."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

IPAddress = IPv4Address | IPv6Address


def plain(address: IPAddress) -> IPAddress:
    """The address as lists and logs know it: a dual-stack socket shows a.b.c.d as ::ffff:a.b.c.d."""
    return getattr(address, "ipv4_mapped", None) or address


@dataclass(frozen=True, slots=True)
class TLS:
    """What was negotiated: protocol version and cipher by OpenSSL's names."""

    version: str
    cipher: str


@dataclass(frozen=True, slots=True)
class MTA:
    """The MTA that asks about its client's mail: its host name, and its name for the port that took it."""

    name: str
    daemon: str


@dataclass(frozen=True, slots=True)
class Session:
    """A snapshot of one client connection.

    `client_address` is the peer's address, `client_name` its forward-confirmed name if anybody
    looked it up, `helo_name` what it claims to be called (`None` before HELO or EHLO), `esmtp`
    whether it said EHLO, `lmtp` whether it said LHLO, `authenticated` the login name, `listener` the
    configured address, `mta` who asks where the client did not connect to us.
    """

    client_address: IPAddress
    client_port: int
    listener: str
    client_name: str | None = None
    helo_name: str | None = None
    esmtp: bool = False
    lmtp: bool = False
    tls: TLS | None = None
    authenticated: str | None = None
    mta: MTA | None = None
