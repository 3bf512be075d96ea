"""The header that a load balancer puts in front of a connection: HAProxy's PROXY protocol, versions 1 and 2.

No I/O: octets in, a header out. It comes from whoever may connect, so it is read strictly and is
bounded: at most `MAX_V1` octets in version 1, and `MAX_V2` behind the first 16 in version 2.
"""

import ipaddress
import re
from dataclasses import dataclass

from gateway.smtp.session import IPAddress, plain

# Section 2.1: the longest line that version 1 can need, its CRLF included.
MAX_V1 = 107
# Section 2.2 allows 65535; addresses and every extension that is defined need far less.
MAX_V2 = 4096

_V1_START = b"PROXY "
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = 16
# No header of either version is shorter, so this much can be read without going beyond it.
_SHORTEST = len(b"PROXY UNKNOWN\r\n")
_PORT = r"(0|[1-9][0-9]{0,4})"
_V1_TCP = re.compile(rf"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) {_PORT} {_PORT}\r\n")
_V1_UNKNOWN = re.compile(r"PROXY UNKNOWN(?: [ -~]*)?\r\n")
_MAX_PORT = 65_535

_LOCAL, _PROXY = 0, 1
# Family and transport (section 2.2): octets that its two addresses take.
_ADDRESS_LENGTHS = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_TCP_OVER_IPV4, _TCP_OVER_IPV6 = 0x11, 0x21
_TLV_FIXED = 3


class ProxyError(ValueError):
    """The octets are no PROXY header; the text says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """An address and a port at one end of the connection that is passed on."""

    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Where the connection came from and went to.

    Both are `None` where the sender speaks for itself (LOCAL), does not know (UNKNOWN, UNSPEC), or
    knows no IP address (UNIX, UDP): then the peer of the socket is the client.
    """

    source: Origin | None = None
    destination: Origin | None = None


class ProxyReader:
    """Collects octets until the header is complete. Once it raised ProxyError it is useless."""

    def __init__(self) -> None:
        self._held = b""
        self.rest = b""

    @property
    def wanted(self) -> int:
        """How many octets may be read next and are certain to belong to the header."""
        held = len(self._held)
        if held < _SHORTEST:
            return _SHORTEST - held
        return self._end_of_v2() - held if self._held.startswith(_V2_START) else 1

    def feed(self, octets: bytes) -> ProxyHeader | None:
        """The header, once it is complete; what came behind it is in `rest`. Raises ProxyError."""
        self._held += octets
        if _V1_START.startswith(self._held[: len(_V1_START)]):
            return self._take_v1()
        if _V2_START.startswith(self._held[: len(_V2_START)]):
            return self._take_v2()
        raise ProxyError("begins like neither version of a PROXY header")

    def _take_v1(self) -> ProxyHeader | None:
        end = self._held.find(b"\n", 0, MAX_V1) + 1
        if end:
            self._split(end)
            return _parse_v1(self._held)
        if len(self._held) >= MAX_V1:
            raise ProxyError(f"no line end within {MAX_V1} octets")
        return None

    def _take_v2(self) -> ProxyHeader | None:
        end = self._end_of_v2()
        if len(self._held) < end:
            return None
        self._split(end)
        return _parse_v2(self._held[len(_V2_START) :])

    def _end_of_v2(self) -> int:
        """Octets of the header, as far as that is known already. Raises ProxyError."""
        if len(self._held) > len(_V2_START):
            _check_version(self._held[len(_V2_START)])
        if len(self._held) < _V2_FIXED:
            return _V2_FIXED
        length = int.from_bytes(self._held[_V2_FIXED - 2 : _V2_FIXED])
        if length > MAX_V2:
            raise ProxyError(f"{length} octets announced, more than {MAX_V2}")
        return _V2_FIXED + length

    def _split(self, end: int) -> None:
        self._held, self.rest = self._held[:end], self._held[end:]


def _parse_v1(line: bytes) -> ProxyHeader:
    """Section 2.1. One line end, one space between words, nothing that could be read in two ways."""
    text = line.decode("latin-1")
    if _V1_UNKNOWN.fullmatch(text):
        return ProxyHeader()
    found = _V1_TCP.fullmatch(text)
    if found is None:
        raise ProxyError(f"malformed line {line!r}")
    family, source, destination, source_port, destination_port = found.groups()
    return ProxyHeader(_end(family, source, source_port), _end(family, destination, destination_port))


def _end(family: str, address: str, port: str) -> Origin:
    if int(port) > _MAX_PORT:
        raise ProxyError(f"port {port} is above {_MAX_PORT}")
    try:
        # Neither takes leading zeros in decimal numbers, which some read as octal.
        parsed = ipaddress.IPv4Address(address) if family == "4" else ipaddress.IPv6Address(address)
    except ValueError as error:
        raise ProxyError(str(error)) from None
    return Origin(plain(parsed), int(port))


def _check_version(octet: int) -> None:
    version, command = octet >> 4, octet & 0x0F
    if version != 2:
        raise ProxyError(f"version {version} behind the signature of version 2")
    if command not in {_LOCAL, _PROXY}:
        raise ProxyError(f"command {command} is not defined")


def _parse_v2(octets: bytes) -> ProxyHeader:
    """Section 2.2, from the octet with version and command on."""
    command, family, block = octets[0] & 0x0F, octets[1], octets[4:]
    if command == _LOCAL:
        # Family and addresses are to be ignored, whatever they say.
        return ProxyHeader()
    if family not in _ADDRESS_LENGTHS:
        raise ProxyError(f"family and transport {family:#04x} are not defined")
    length = _ADDRESS_LENGTHS[family]
    if len(block) < length:
        raise ProxyError(f"{len(block)} octets are too few for the addresses")
    _check_extensions(block[length:])
    if family not in {_TCP_OVER_IPV4, _TCP_OVER_IPV6}:
        return ProxyHeader()
    size = (length - 4) // 2
    ports = block[2 * size : length]
    return ProxyHeader(_packed(block[:size], ports[:2]), _packed(block[size : 2 * size], ports[2:]))


def _packed(address: bytes, port: bytes) -> Origin:
    return Origin(plain(ipaddress.ip_address(address)), int.from_bytes(port))


def _check_extensions(octets: bytes) -> None:
    """Type, length, value: none is used, and none may reach beyond the end (section 2.2.1)."""
    at = 0
    while at < len(octets):
        end = at + _TLV_FIXED + int.from_bytes(octets[at + 1 : at + _TLV_FIXED])
        if end > len(octets):
            raise ProxyError("an extension reaches beyond the end of the header")
        at = end
