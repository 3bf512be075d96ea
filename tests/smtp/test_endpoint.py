"""Addresses to listen on and to connect to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.endpoint import Endpoint, parse_listener


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:25", Endpoint("127.0.0.1", 25)),
        ("0.0.0.0:0", Endpoint("0.0.0.0", 0)),
        ("mx.example.org:65535", Endpoint("mx.example.org", 65_535)),
        ("[::1]:25", Endpoint("::1", 25)),
        ("[2001:db8::1]:10025", Endpoint("2001:db8::1", 10_025)),
        ("unix:/run/clamav/clamd.ctl", Endpoint(path="/run/clamav/clamd.ctl")),
        ("unix:/a:b", Endpoint(path="/a:b")),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, endpoint: Endpoint):
    assert Endpoint.parse(text) == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":25",
        "25",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:smtp",
        "127.0.0.1:-1",
        "127.0.0.1:65536",
        "127.0.0.1:2 5",
        "127.0.0.1:²",
        "127.0.0.1:٢٥",
        "::1:25",
        "[::1]",
        "[]:25",
        "[::1:25",
        "unix:",
        "unix:relative/path",
        "127.0.0.1 :25",
        " 127.0.0.1:25",
        "127.0.0.1\n:25",
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(text: str):
    with pytest.raises(ValueError, match=r'allowed: "host:port", "\[v6-address\]:port" or "unix:/path"'):
        Endpoint.parse(text)
    with pytest.raises(ValueError, match=r'allowed: .*"unix:/path" or "systemd:NAME"$'):
        parse_listener(text)


@given(st.text())
def test_what_is_read_can_be_written(text: str):
    try:
        endpoint = Endpoint.parse(text)
    except ValueError:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint
