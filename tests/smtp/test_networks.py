"""Lists of peers."""

from ipaddress import ip_address

import pytest

from gateway.smtp.networks import is_in, parse_networks

PEERS = parse_networks(["192.0.2.1", "198.51.100.0/24", "2001:db8::1", "2001:db8:1::/48"])


@pytest.mark.parametrize("address", ["192.0.2.1", "198.51.100.255", "2001:db8::1", "2001:db8:1:ffff::1"])
def test_who_is_in(address: str):
    assert is_in(ip_address(address), PEERS)


@pytest.mark.parametrize("address", ["192.0.2.2", "198.51.101.0", "2001:db8::2", "::ffff:192.0.2.1", "::1"])
def test_who_is_not(address: str):
    assert not is_in(ip_address(address), PEERS)
    assert not is_in(ip_address(address), ())


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "127.0.0.0/8", "10.0.0.1/32"])
def test_what_is_a_network(text: str):
    (network,) = parse_networks([text])
    assert str(network) == text


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "10", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/255.0.0.0",
     "010.0.0.1", "10.0.0.0/0.255.255.255", "2001:db8::/129", "[::1]", "10.0.0.1 ", "10.0.0.1/8", "::1/64",
     "::ffff:192.0.2.1", "::ffff:0:0/96"],
)  # fmt: skip
def test_what_is_none(text: str):
    with pytest.raises(ValueError, match=r'^"'):
        parse_networks(["10.0.0.1", text])
