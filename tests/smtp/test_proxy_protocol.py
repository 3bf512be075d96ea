"""PROXY headers of versions 1 and 2: who is announced, and what is no header."""

from ipaddress import ip_address

import pytest

from gateway.smtp.proxy_protocol import MAX_V1, MAX_V2, Origin, ProxyError, ProxyHeader, ProxyReader

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
INET = b"\xcb\x00\x71\x09" + b"\xc0\x00\x02\x01" + b"\x04\xd2" + b"\x00\x19"
INET6 = ip_address("2001:db8::9").packed + ip_address("2001:db8::1").packed + b"\xff\xff\x00\x00"
MAPPED = ip_address("::ffff:203.0.113.9").packed + ip_address("::ffff:192.0.2.1").packed + b"\x04\xd2\x00\x19"
NOBODY = ProxyHeader()
V4 = ProxyHeader(Origin(ip_address("203.0.113.9"), 1234), Origin(ip_address("192.0.2.1"), 25))
V6 = ProxyHeader(Origin(ip_address("2001:db8::9"), 65535), Origin(ip_address("2001:db8::1"), 0))


def v2(block: bytes = b"", *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    announced = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + announced.to_bytes(2) + block


def extension(kind: int, value: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(value) if length is None else length).to_bytes(2) + value


HEADERS = {
    "v1 IPv4": (b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25\r\n", V4),
    "v1 IPv6": (b"PROXY TCP6 2001:db8::9 2001:DB8::1 65535 0\r\n", V6),
    "v1 mapped": (b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 1234 25\r\n", V4),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", NOBODY),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", NOBODY),
    "v1 as long as may be": (b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 16) + b"\r\n", NOBODY),
    "v2 IPv4": (v2(INET), V4),
    "v2 IPv6": (v2(INET6, family=0x21), V6),
    "v2 mapped": (v2(MAPPED, family=0x21), V4),
    "v2 with extensions": (v2(INET + extension(4, b"") + extension(0x20, b"\1\0\0\0\0")), V4),
    "v2 as long as may be": (v2(INET + extension(4, bytes(MAX_V2 - 15))), V4),
    "v2 LOCAL": (v2(command=0x20, family=0), NOBODY),
    "v2 LOCAL with anything": (v2(b"\xff" * 7, command=0x20, family=0xFF), NOBODY),
    "v2 unspecified": (v2(family=0), NOBODY),
    "v2 over UDP": (v2(INET, family=0x12), NOBODY),
    "v2 Unix socket": (v2(bytes(216), family=0x31), NOBODY),
}
NONE = {
    "SMTP": b"EHLO c.example\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "nothing like it": b"\n",
    "lower case": b"proxy TCP4 203.0.113.9 192.0.2.1 1234 25\r\n",
    "two spaces": b"PROXY  TCP4 203.0.113.9 192.0.2.1 1234 25\r\n",
    "space at the end": b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25 \r\n",
    "bare LF": b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25\n",
    "CR CR LF": b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25\r\r\n",
    "bare LF of UNKNOWN": b"PROXY UNKNOWN\n",
    "control character": b"PROXY UNKNOWN \x00\r\n",
    "no family": b"PROXY 203.0.113.9 192.0.2.1 1234 25\r\n",
    "UDP4": b"PROXY UDP4 203.0.113.9 192.0.2.1 1234 25\r\n",
    "no port": b"PROXY TCP4 203.0.113.9 192.0.2.1 1234\r\n",
    "no such address": b"PROXY TCP4 999.1.1.1 192.0.2.1 1234 25\r\n",
    "leading zero": b"PROXY TCP4 010.0.0.1 192.0.2.1 1234 25\r\n",
    "leading zero of the destination": b"PROXY TCP4 203.0.113.9 192.0.2.01 1234 25\r\n",
    "three numbers": b"PROXY TCP4 203.0.113 192.0.2.1 1234 25\r\n",
    "IPv6 as IPv4": b"PROXY TCP4 2001:db8::9 2001:db8::1 1234 25\r\n",
    "IPv4 as IPv6": b"PROXY TCP6 203.0.113.9 192.0.2.1 1234 25\r\n",
    "zone": b"PROXY TCP6 fe80::1%eth0 fe80::2 1234 25\r\n",
    "brackets": b"PROXY TCP6 [2001:db8::9] [2001:db8::1] 1234 25\r\n",
    "port too large": b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 25\r\n",
    "port with a leading zero": b"PROXY TCP4 203.0.113.9 192.0.2.1 0123 25\r\n",
    "negative port": b"PROXY TCP4 203.0.113.9 192.0.2.1 -1 25\r\n",
    "too long": b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 15) + b"\r\n",
    "endless": b"PROXY " + b"x" * 5000,
    "half a signature": SIGNATURE[:11] + b"\r",
    "version 3": v2(INET, command=0x31),
    "version 1": v2(INET, command=0x11),
    "command 2": v2(INET, command=0x22),
    "family 4": v2(INET, family=0x41),
    "transport 3": v2(INET, family=0x13),
    "too many octets announced": v2(INET, length=65_535),
    "one octet too many announced": v2(INET, length=MAX_V2 + 1),
    "too few for the addresses": v2(INET[:-1]),
    "too few for IPv6": v2(INET, family=0x21),
    "too few for a Unix socket": v2(bytes(215), family=0x31),
    "extension beyond the end": v2(INET + extension(4, b"abc", length=4)),
    "extension without a length": v2(INET + b"\x04\x00"),
    "second extension beyond the end": v2(INET + extension(4, b"abc") + extension(4, b"", length=1)),
    "extension of nobody beyond the end": v2(extension(4, b"", length=1), family=0),
}


def read(*pieces: bytes) -> tuple[ProxyHeader | None, bytes]:
    """The header, and what is left of the pieces."""
    reader = ProxyReader()
    for number, piece in enumerate(pieces, 1):
        header = reader.feed(piece)
        if header is not None:
            return header, reader.rest + b"".join(pieces[number:])
    return None, b""


def exactly(octets: bytes) -> tuple[ProxyHeader | None, bytes]:
    """Never offering more than the reader wants."""
    reader, header = ProxyReader(), None
    while octets and header is None:
        piece, octets = octets[: reader.wanted], octets[reader.wanted :]
        header = reader.feed(piece)
        assert reader.rest == b""
    return header, octets


@pytest.mark.parametrize(("octets", "header"), HEADERS.values(), ids=HEADERS)
def test_a_header_is_read_in_pieces_of_any_size(octets: bytes, header: ProxyHeader):
    behind = b"EHLO c.example\r\n"
    assert read(octets + behind) == (header, behind)
    assert read(*(bytes([octet]) for octet in octets + behind)) == (header, behind)
    assert exactly(octets + behind) == (header, behind)
    for at in range(1, len(octets)):
        assert read(octets[:at]) == (None, b"")


@pytest.mark.parametrize("octets", NONE.values(), ids=NONE)
def test_what_is_none_is_an_error(octets: bytes):
    with pytest.raises(ProxyError):
        read(octets)
    with pytest.raises(ProxyError):
        read(*(bytes([octet]) for octet in octets))
    with pytest.raises(ProxyError):
        exactly(octets)


def test_what_cannot_become_one_is_known_at_once():
    for octets in (
        b"E",
        b"PROXZ",
        SIGNATURE[:4] + b"\1",
        SIGNATURE + b"\x31",
        SIGNATURE + b"\x21\x11\xff\xff",
    ):
        with pytest.raises(ProxyError):
            read(octets)
