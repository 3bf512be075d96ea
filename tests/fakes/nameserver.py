"""A name server that does what a test orders, for each name: UDP and TCP on one port of 127.0.0.1.

Like the other fakes it runs in threads of its own; use it as `with FakeNameserver(...) as fake` or
`async with`.
"""

import collections
import enum
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from filters.testing.server import Fake

_PATIENCE = 10.0


class Mischief(enum.Enum):
    """What a name can be answered with instead of its addresses."""

    NO_DATA = "the name exists and has no address"
    BARE_NXDOMAIN = "no such name, and no SOA that says for how long"
    SERVFAIL = "SERVFAIL"
    REFUSED = "REFUSED"
    SILENT = "no answer"
    GARBAGE = "octets that are no message"
    EMPTY = "a message of no octets"
    FORGED = "a listing under another identifier, as one who guesses would send it"
    OFF_TOPIC = "a listing in answer to another question"
    TRUNCATED = "an answer that does not fit, and nobody to ask over TCP"


Records = Mapping[str, Sequence[str] | Mischief]


class FakeNameserver(Fake):
    """Serves `records`: a name without its final dot to IPv4 addresses or to mischief.

    Names that are not there get `otherwise`, by default NXDOMAIN with an SOA. `queries` counts
    what was asked by name; `over_tcp` how often TCP was used. Both may be read while it runs, and
    `records` replaced.
    """

    def __init__(self, records: Records, *, otherwise: Mischief | None = None, ttl: int = 300) -> None:
        self.records = records
        self.otherwise = otherwise
        self.ttl = ttl
        self.queries: collections.Counter[str] = collections.Counter()
        self.over_tcp = 0

    @property
    def total(self) -> int:
        """How many queries there were."""
        return self.queries.total()

    def start(self) -> Self:
        """Listen."""
        self._udp, self._tcp = _bind_both()
        self._tcp.listen()
        self.address = "{}:{}".format(*self._udp.getsockname())
        self._threads = [
            threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and wait for the threads."""
        self._tcp.shutdown(socket.SHUT_RDWR)
        with socket.socket(type=socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._udp.getsockname())
        for thread in self._threads:
            thread.join(_PATIENCE)
            assert not thread.is_alive(), "the fake name server did not stop"
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            query, peer = self._udp.recvfrom(4096)
            if not query:
                return
            answer = self._answer(query, tcp=False)
            if answer is not None:
                self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as stream:
                self.over_tcp += 1
                length = int.from_bytes(stream.read(2), "big")
                answer = self._answer(stream.read(length), tcp=True)
                if answer is not None:
                    sock.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        self.queries[name] += 1
        found = self.records.get(name, self.otherwise)
        if isinstance(found, Mischief):
            return self._misbehave(found, query, tcp)
        response = self._response(query, found or ())
        if found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if not found:
            soa = "ns.test. admin.test. 1 3600 600 86400"
            response.authority.append(
                dns.rrset.from_text("test.", self.ttl, "IN", "SOA", f"{soa} {self.ttl}")
            )
        return response.to_wire()

    def _response(self, query: dns.message.Message, addresses: Sequence[str]) -> dns.message.Message:
        response = dns.message.make_response(query)
        if addresses:
            name = query.question[0].name
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "A", *addresses))
        return response

    def _misbehave(self, mischief: Mischief, query: dns.message.Message, tcp: bool) -> bytes | None:
        if mischief is Mischief.SILENT or (mischief is Mischief.TRUNCATED and tcp):
            return None
        if mischief in (Mischief.GARBAGE, Mischief.EMPTY):
            return bytes(range(100)) if mischief is Mischief.GARBAGE else b""
        listing = mischief in (Mischief.FORGED, Mischief.OFF_TOPIC)
        response = self._response(query, ["127.0.0.2"] if listing else [])
        match mischief:
            case Mischief.SERVFAIL | Mischief.REFUSED:
                response.set_rcode(dns.rcode.from_text(mischief.name))
            case Mischief.BARE_NXDOMAIN:
                response.set_rcode(dns.rcode.NXDOMAIN)
            case Mischief.TRUNCATED:
                response.flags |= dns.flags.TC
            case Mischief.FORGED:
                response.id ^= 1
            case Mischief.OFF_TOPIC:
                name = dns.name.from_text("elsewhere.test")
                response.question[0].name = name
                response.answer[0].name = name
        return response.to_wire()


def _bind_both() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port; one that is free for one may be taken for the other."""
    while True:
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        udp.bind(("127.0.0.1", 0))
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp
