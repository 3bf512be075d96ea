"""Accepting connections on a socket that somebody else bound, and letting them go again."""

import asyncio
import functools
import socket
import ssl
from typing import Any

from gateway.proxy.admission import Admission
from gateway.proxy.certificate import HANDSHAKE_TIMEOUT
from gateway.proxy.connection import ClientConnection
from gateway.proxy.service import Service
from gateway.proxy.stream import prototype

BACKLOG = 512


class Server:
    """One listener of one worker."""

    def __init__(self, service: Service, admission: Admission) -> None:
        self._service = service
        self._admission = admission
        self._connections: set[ClientConnection] = set()
        self._server: asyncio.Server | None = None
        self._is_draining = False

    async def start(self, bound: socket.socket) -> None:
        """Listen and accept from now on. Raises OSError."""
        attributes = prototype(self._service.hostname)
        self._server = await asyncio.get_running_loop().create_server(
            functools.partial(self._connection, attributes),
            sock=bound,
            backlog=BACKLOG,
            ssl=self._implicit_tls(),
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT if self._implicit_tls() else None,
        )

    def _connection(self, attributes: dict[str, Any]) -> ClientConnection:
        connection = ClientConnection(self._service, self._admission, attributes, self._connections)
        if self._is_draining:
            # Accepted in the very turn in which the socket was closed.
            connection.drain()
        return connection

    def _implicit_tls(self) -> ssl.SSLContext | None:
        certificate = self._service.certificate
        return certificate.context if certificate is not None and self._service.tls_implicit else None

    async def drain(self, grace: float) -> None:
        """Accept no more; let those in the middle of something finish within `grace` seconds."""
        self._is_draining = True
        if self._server is not None:
            self._server.close()
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
