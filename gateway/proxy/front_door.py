"""The way in for peers that say with a PROXY header whom they bring.

Nothing is said and no TLS begins before the header is complete. It is read to its last octet and not
further, so what follows is untouched for whoever takes over: the handshake, or the conversation.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from gateway.casefile import CaseFile
from gateway.proxy.admission import Admission
from gateway.proxy.connection import Arrival, ClientConnection, peer_of
from gateway.proxy.service import ProxyService
from gateway.recorder import Event
from gateway.smtp.proxy_protocol import ProxyError, ProxyReader
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage

# Section 2 of the specification: more than three seconds, so that a lost segment can be sent again.
HEADER_TIMEOUT = 4.0


class FrontDoor(asyncio.BufferedProtocol):
    """One connection until it is known whose it is. `waiting` are all of which that is not known yet."""

    def __init__(
        self,
        service: ProxyService,
        admission: Admission,
        waiting: "set[FrontDoor]",
        connect: Callable[[Arrival | None], ClientConnection],
    ) -> None:
        self._service = service
        self._admission = admission
        self._waiting = waiting
        self._connect = connect
        self._reader = ProxyReader()
        self._buffer = bytearray()
        self._has_begun = False
        self._timer: asyncio.TimerHandle | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are not derived from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._peer = peer_of(transport)
        if self._peer.address not in self._service.proxy_protocol:
            self._let_in_without()
        elif (limit := self._admission.admit(self._peer.address)) is not None:
            self._let_in(Arrival(self._peer, limit))
        else:
            self._waiting.add(self)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(HEADER_TIMEOUT, self._drop, f"none within {HEADER_TIMEOUT:g} s")

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - never more than is the header's
        self._buffer = bytearray(self._reader.wanted)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._has_begun = True
        try:
            header = self._reader.feed(bytes(self._buffer[:nbytes]))
        except ProxyError as error:
            self._drop(str(error))
            return
        if header is not None:
            self._stop_waiting()
            self._let_in(Arrival(header.source or self._peer))

    def eof_received(self) -> None:
        # A balancer that only looks whether anybody is here says nothing, and is no event.
        if self._has_begun:
            self._drop("closed in the middle of it")

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - gone is gone
        self._stop_waiting()

    # What the server calls.

    def close(self) -> None:
        """Do not wait any longer."""
        self._stop_waiting()
        self._transport.close()

    # Inside

    def _let_in_without(self) -> None:
        """A peer that is its own client."""
        if self._service.tls_implicit:
            # uvloop begins to read before anything can keep it from that, and takes from the handshake.
            self._drop("TLS from the first octet is only for who sends one, and this peer need not")
        else:
            self._let_in(None)

    def _let_in(self, arrival: Arrival | None) -> None:
        connection = self._connect(arrival)
        # What is being read now must not be the next octets as well, and uvloop reads on unless it is told.
        self._transport.pause_reading()
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        if not self._service.tls_implicit:
            # Else the handshake goes on reading.
            self._transport.resume_reading()

    def _drop(self, why: str) -> None:
        session = Session(self._peer.address, self._peer.port, self._service.listener)
        event = Event(session=session, case=CaseFile(), spoken=Stage.CONNECT.value)
        self._service.recorder.aborted(event, "proxy-header-missing", f"PROXY header: {why}")
        self.close()

    def _stop_waiting(self) -> None:
        """Count it out; the client is counted in by the connection."""
        if self in self._waiting:
            self._waiting.discard(self)
            self._admission.release(self._peer.address)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
