"""A name server for one block list, over UDP on 127.0.0.1."""

import ipaddress
import socket
import threading
from collections.abc import Iterable
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from .daemons import LOOPBACK

# RFC 5782 section 5: 127.0.0.2 is listed in every list that works, 127.0.0.1 in none.
_TEST_POINT = "127.0.0.2"


class Nameserver:
    """Serves the zone until left; `queries` holds the names it was asked for."""

    def __init__(self, zone: str, listed: Iterable[str]) -> None:
        self.zone = zone
        self.queries: list[str] = []
        self._listed = {self._name(address) for address in [_TEST_POINT, *listed]}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve, name="nameserver")

    @property
    def address(self) -> str:
        """As `[filters.dnsbl] nameservers` takes it."""
        return f"{LOOPBACK}:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._socket.bind((LOOPBACK, 0))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())  # no query is empty: the sign to end
        self._thread.join()
        self._socket.close()

    def _name(self, address: str) -> str:
        reverse = ipaddress.ip_address(address).reverse_pointer
        return f"{reverse.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{self.zone}."

    def _serve(self) -> None:
        while True:
            octets, peer = self._socket.recvfrom(4096)
            if not octets:
                return
            try:
                query = dns.message.from_wire(octets)
            except dns.exception.DNSException:
                continue
            self._socket.sendto(self._answer(query).to_wire(), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        question = query.question[0]
        name = question.name.to_text().lower()
        self.queries.append(name)
        answers = {"A": "127.0.0.2", "TXT": '"listed for the demonstration"'}
        kind = dns.rdatatype.to_text(question.rdtype)
        if name not in self._listed:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif kind in answers:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, answers[kind]))
        return response
