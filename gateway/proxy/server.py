"""Accepting connections on a socket that somebody else bound, and letting them go again."""

import asyncio
import socket
import ssl

from gateway.proxy.admission import Admission
from gateway.proxy.certificate import HANDSHAKE_TIMEOUT
from gateway.proxy.connection import Arrival, ClientConnection
from gateway.proxy.front_door import FrontDoor
from gateway.proxy.service import ProxyService
from gateway.proxy.stream import prototype

BACKLOG = 512
# How long a client may be silent in a crowd, and how often that is looked at.
CROWDED_TIMEOUT = 10.0
CROWD_INTERVAL = 1.0
# A client that has gone without a word is asked after so many seconds of silence, and so often, so many
# seconds apart; what it does not take for so many milliseconds ends the connection.
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 60,
    socket.TCP_KEEPINTVL: 20,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 120_000,
}


class Server:
    """One listener of one worker."""

    def __init__(self, service: ProxyService, admission: Admission) -> None:
        self._service = service
        self._admission = admission
        self._connections: set[ClientConnection] = set()
        self._waiting: set[FrontDoor] = set()
        self._server: asyncio.Server | None = None
        self._is_draining = False
        self._crowd_timer: asyncio.TimerHandle | None = None

    async def start(self, bound: socket.socket, backlog: int = BACKLOG) -> None:
        """Listen and accept from now on. Raises OSError."""
        self._kind: type[ClientConnection] = type(
            "ClientConnection", (ClientConnection,), prototype(self._service.hostname)
        )
        _ask_after_the_silent(bound)
        self._look_at_the_crowd()
        self._server = await asyncio.get_running_loop().create_server(
            self._front_door if self._service.proxy_protocol else self._connection,
            sock=bound,
            backlog=backlog,
            ssl=self._implicit_tls(),
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT if self._implicit_tls() else None,
        )

    def _front_door(self) -> FrontDoor:
        return FrontDoor(self._service, self._admission, self._waiting, self._connection)

    def _connection(self, arrival: Arrival | None = None) -> ClientConnection:
        connection = self._kind(self._service, self._admission, self._connections, arrival)
        if self._is_draining:
            # Accepted in the very turn in which the socket was closed.
            connection.drain()
        return connection

    def _look_at_the_crowd(self) -> None:
        """Where nearly all places are taken, those who say nothing make room."""
        if self._admission.is_crowded:
            for connection in self._connections:
                connection.hurry(CROWDED_TIMEOUT)
        loop = asyncio.get_running_loop()
        self._crowd_timer = loop.call_later(CROWD_INTERVAL, self._look_at_the_crowd)

    def _implicit_tls(self) -> ssl.SSLContext | None:
        """TLS that begins with the connection; behind a front door it begins later."""
        service = self._service
        if service.certificate is None or not service.tls_implicit or service.proxy_protocol:
            return None
        return service.certificate.context

    async def drain(self, grace: float) -> None:
        """Accept no more; let those in the middle of something finish within `grace` seconds."""
        self._is_draining = True
        if self._crowd_timer is not None:
            self._crowd_timer.cancel()
        if self._server is not None:
            self._server.close()
        for door in tuple(self._waiting):
            door.close()
        for connection in self._connections:
            connection.drain()
        if await self._all_gone(grace):
            return
        for connection in self._connections:
            connection.cut()
        await self._all_gone(self._service.deadline)

    async def _all_gone(self, within: float) -> bool:
        """Wait for the connections that are open now."""
        ends = [connection.ended for connection in self._connections]
        if ends:
            await asyncio.wait(ends, timeout=within)
        return not self._connections


def _ask_after_the_silent(bound: socket.socket) -> None:
    """Accepted connections inherit this."""
    if bound.family != socket.AF_UNIX:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            bound.setsockopt(socket.IPPROTO_TCP, option, value)
