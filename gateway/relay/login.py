"""The connection on which one client session logs in (RFC 4954), and then sends its mail.

Only there the downstream knows who the client is. So it is nobody else's, it is kept from message to
message, it is not replaced when it is lost, and it ends with the session. What is said in the exchange
passes through and is not kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.relay.capabilities import LoginOffer
from gateway.relay.client import ClientConnection, DownstreamError
from gateway.relay.pool import Pool
from gateway.smtp.authentication import mechanisms
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import Reply
from gateway.terms import Encrypt

T = TypeVar("T")


class Login:
    """One session's own connection. To deliveries it looks like the pool, which has all other ways."""

    def __init__(self, pool: Pool, offer: LoginOffer, connection: ClientConnection) -> None:
        self._pool = pool
        self._way = (offer.endpoints, offer.tls)
        self._connection = connection
        self._is_taken = False
        self._resetting: asyncio.Future[Reply] | None = None

    @property
    def address(self) -> str:
        """The downstream it leads to."""
        return str(self._connection.endpoint)

    async def say(self, line: bytes) -> Reply:
        """One line of the exchange: 334, or the final reply. Raises DownstreamError."""
        return await self._connection.confide(line)

    def abort(self) -> None:
        """Drop the connection in the middle of the exchange, which is thereby none."""
        self._connection.abort("given up in the middle of a login")

    def close(self) -> None:
        """Say goodbye."""
        self._connection.quit()

    # What a delivery calls.

    @property
    def hostname(self) -> str:
        """What we call ourselves there."""
        return self._pool.hostname

    def take_kept(self, endpoints: Sequence[Endpoint], tls: Encrypt) -> ClientConnection | None:
        """The connection, if it leads there and is free."""
        if not self._is_way(endpoints, tls):
            return self._pool.take_kept(endpoints, tls)
        if self._is_taken or self._resetting is not None or not self._connection.is_open:
            return None
        self._is_taken = True
        return self._connection

    async def begin(
        self,
        endpoints: Sequence[Endpoint],
        tls: Encrypt,
        opening: Callable[[ClientConnection], Awaitable[T]],
        *,
        unused: bool = False,
    ) -> T:
        """What `opening` made of the connection. Raises DownstreamError if it is lost."""
        if not self._is_way(endpoints, tls):
            return await self._pool.begin(endpoints, tls, opening, unused=unused)
        return await opening(await self._free())

    async def _free(self) -> ClientConnection:
        """The connection, once it is free of what was before."""
        if self._resetting is not None:
            await self._after_reset(self._resetting)
        if not self._connection.is_open:
            raise DownstreamError(f"{self.address}: the client's login is lost: {self._connection.failure}")
        if self._is_taken:
            raise DownstreamError(f"{self.address}: the client's login is in use for this message already")
        self._is_taken = True
        return self._connection

    def release(self, connection: ClientConnection) -> None:
        """Take a connection back that is between transactions."""
        if connection is self._connection:
            self._is_taken = False
        else:
            self._pool.release(connection)

    def reset(self, connection: ClientConnection) -> None:
        """End the transaction that is open on a connection."""
        if connection is not self._connection:
            self._pool.reset(connection)
            return
        self._is_taken = False
        if connection.is_open:
            self._resetting = connection.send(b"RSET")[0]

    def _is_way(self, endpoints: Sequence[Endpoint], tls: Encrypt) -> bool:
        return (tuple(endpoints), tls) == self._way

    async def _after_reset(self, confirmed: asyncio.Future[Reply]) -> None:
        reply = await self._connection.reply_to(confirmed)
        self._resetting = None
        if not reply.is_positive:
            self._connection.abort("RSET was not confirmed")


async def open_login(pool: Pool, offer: LoginOffer, mechanism: str) -> Login:
    """A fresh connection to log in on by that mechanism. Raises DownstreamError."""
    connection = await pool.open(offer.endpoints, offer.tls)
    if mechanism not in mechanisms(connection.extensions.get("AUTH", "")):
        connection.quit()
        raise DownstreamError(f"{connection.endpoint}: offers no AUTH {mechanism} any more")
    return Login(pool, offer, connection)
