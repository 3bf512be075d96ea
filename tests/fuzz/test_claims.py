"""Invariant: what is said about a client is well formed and bounded, or an error and nothing else."""

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.smtp.claim import claimed, is_host_name, parse_xclient, parse_xforward
from gateway.smtp.command import CommandError
from gateway.smtp.proxy_protocol import MAX_V1, MAX_V2, ProxyError, ProxyHeader, ProxyReader
from policies.testing import session
from tests.smtp.test_proxy_protocol import HEADERS, NONE, SIGNATURE

known = st.sampled_from([*(octets for octets, _ in HEADERS.values()), *NONE.values()])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A header, or nearly one, with a few octets changed, dropped or put in."""
    octets = bytearray(draw(known))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(octets)


octets = st.one_of(
    damaged(), st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: SIGNATURE + tail)
)


def outcome(octets: bytes, sizes: list[int]) -> tuple[ProxyHeader | None, int] | str:
    """The header and how many octets it took; or the error."""
    reader, at = ProxyReader(), 0
    while at < len(octets):
        size = (sizes.pop() if sizes else 1) or reader.wanted
        try:
            header = reader.feed(octets[at : at + size])
        except ProxyError as error:
            return str(error)
        at += size
        if header is not None:
            return header, min(at, len(octets)) - len(reader.rest)
    return None, len(octets)


@given(octets, st.lists(st.integers(0, 40)))
def test_a_header_or_an_error_and_the_same_in_any_pieces(octets: bytes, sizes: list[int]):
    whole = outcome(octets, [len(octets)])
    found = outcome(octets, sizes)
    assert isinstance(found, str) == isinstance(whole, str)
    if isinstance(found, tuple):
        assert found == whole
        assert found[1] <= max(MAX_V1, 16 + MAX_V2)


words = st.sampled_from(
    [
        *(
            b"NAME",
            b"ADDR",
            b"PORT",
            b"PROTO",
            b"HELO",
            b"LOGIN",
            b"SOURCE",
            b"IDENT",
            b"DESTADDR",
            b"=",
            b"=",
        ),
        *(b"+", b" ", b"+0D+0A", b"+00", b"[UNAVAILABLE]", b"IPV6:", b"::1", b"192.0.2.1", b"25", b"ESMTP"),
    ]
)
arguments = st.lists(st.one_of(words, words, st.binary(max_size=2)), max_size=15).map(b"".join)


@given(arguments, st.sampled_from([parse_xclient, parse_xforward]))
@example(b"NAME=c.example ADDR=192.0.2.1 HELO=c.example", parse_xforward)
def test_nothing_that_ends_a_line_gets_into_a_session(argument: bytes, parse):
    peer = session(helo_name=None)
    try:
        client = claimed(peer, peer, parse(argument))
    except CommandError:
        return
    assert 0 <= client.client_port <= 65_535
    assert client.client_name is None or is_host_name(client.client_name)
    for text in filter(None, (client.client_name, client.helo_name, client.authenticated)):
        assert len(text) <= 255
        assert len(text.splitlines()) == 1
        assert not set(text) & {"\0", "\r", "\n", "\x7f"}
