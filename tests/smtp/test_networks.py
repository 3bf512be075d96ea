"""Sets of networks."""

import ipaddress
from ipaddress import ip_address

import pytest

from gateway.smtp.networks import Networks

PEERS = Networks.of("192.0.2.1", "198.51.100.0/24", "2001:db8::1", "2001:db8:1::/48")


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "198.51.100.255", "2001:db8::1", "2001:db8:1:ffff::1", "::ffff:192.0.2.1"]
)
def test_who_is_in(address: str):
    assert ip_address(address) in PEERS


@pytest.mark.parametrize("address", ["192.0.2.2", "198.51.101.0", "2001:db8::2", "::ffff:192.0.2.2", "::1"])
def test_who_is_not(address: str):
    assert ip_address(address) not in PEERS
    assert ip_address(address) not in Networks()


@pytest.mark.parametrize("other", ["192.0.2.1", None, 3, ipaddress.ip_network("192.0.2.1")])
def test_only_addresses_are_in_it(other: object):
    assert other not in PEERS


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "127.0.0.0/8", "10.0.0.1/32"])
def test_what_is_a_network(text: str):
    (network,) = Networks.of(text)
    assert str(network) == text


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "10", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/255.0.0.0",
     "010.0.0.1", "10.0.0.0/0.255.255.255", "2001:db8::/129", "[::1]", "10.0.0.1 ", "10.0.0.1/8", "::1/64",
     "::ffff:192.0.2.1", "::ffff:0:0/96"],
)  # fmt: skip
def test_what_is_none(text: str):
    with pytest.raises(ValueError, match=r'^"'):
        Networks(["10.0.0.1", text])


def test_the_smallest_network_is_found():
    networks = Networks.of("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "::/0")
    for address, found in [
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.1.2.4", "10.1.0.0/16"),
        ("10.2.0.0", "10.0.0.0/8"),
    ]:
        assert str(networks.find(ip_address(address))) == found
    assert networks.find(ip_address("11.0.0.0")) is None
    assert str(networks.find(ip_address("2001:db8::1"))) == "::/0"


def test_it_is_a_value():
    networks = Networks.of("10.0.0.0/8", "192.0.2.1", "10.0.0.0/8")
    assert len(networks) == 2
    assert repr(networks) == "Networks.of('10.0.0.0/8', '192.0.2.1')"
    assert networks == Networks(networks.texts()) == Networks.of("192.0.2.1/32", "10.0.0.0/8")
    assert hash(networks) == hash(Networks.of("192.0.2.1", "10.0.0.0/8"))
    assert networks != Networks.of("10.0.0.0/8")
    assert networks != networks.texts()


def test_many_networks_take_no_more_time_than_few():
    """A million questions to 50,000 networks; one after the other, they would take hours."""
    networks = Networks(str(ipaddress.IPv4Address(number << 8)) + "/24" for number in range(50_000))
    inside, outside = ip_address("0.99.7.5"), ip_address("203.0.113.1")
    assert sum(inside in networks and outside not in networks for _ in range(100_000)) == 100_000
