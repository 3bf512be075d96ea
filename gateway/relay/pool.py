"""Connections kept between messages, and a memory of addresses that are down."""

import asyncio
import functools
from collections.abc import Sequence

from gateway.relay.client import ClientConnection, DownstreamError, connect
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import Reply
from gateway.terms import Encrypt

# Shorter than any MTA's own patience with an idle client.
MAX_IDLE = 20.0
MAX_KEPT = 32
# Postfix slows a client down after ten refused commands and drops it after twenty.
MAX_REFUSALS = 8
# It does the same to one that sends many commands besides mail, from a hundred on.
MAX_RESETS = 80
# How long an address that could not be reached is asked last.
SET_BACK = 10.0
# For the reply to RSET, for which nobody waits.
RESET_TIMEOUT = 20.0


# Where a connection leads, and how it was asked to be encrypted.
_Way = tuple[Endpoint, Encrypt]


class Pool:
    """Connections by the way they lead. What is taken or opened is given back by `release` or `reset`."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._kept: dict[_Way, list[tuple[ClientConnection, asyncio.TimerHandle]]] = {}
        self._resetting: set[ClientConnection] = set()
        self._down_until: dict[Endpoint, float] = {}
        # What each endpoint said last that it can do.
        self.extensions: dict[Endpoint, dict[str, str]] = {}
        self._greetings = 0

    @property
    def greetings(self) -> int:
        """How often an endpoint said something new about what it can do."""
        return self._greetings

    def take_kept(self, endpoints: Sequence[Endpoint], tls: Encrypt) -> ClientConnection | None:
        """A connection kept from an earlier message, if there is one that looks alive."""
        for endpoint in endpoints:
            kept = self._kept.get((endpoint, tls), [])
            while kept:
                connection, timer = kept.pop()
                timer.cancel()
                if connection.is_open:
                    return connection
        return None

    async def open(self, endpoints: Sequence[Endpoint], tls: Encrypt) -> ClientConnection:
        """A fresh connection to the first endpoint that takes one. Raises DownstreamError for all."""
        causes = []
        for endpoint in self._healthy_first(endpoints):
            try:
                connection = await connect(endpoint, self._hostname, tls)
            except DownstreamError as error:
                self._down_until[endpoint] = asyncio.get_running_loop().time() + SET_BACK
                causes.append(str(error))
            else:
                self._down_until.pop(endpoint, None)
                if self.extensions.get(endpoint) != connection.extensions:
                    self.extensions[endpoint] = connection.extensions
                    self._greetings += 1
                return connection
        raise DownstreamError("; ".join(causes))

    def release(self, connection: ClientConnection) -> None:
        """Keep a connection that is between transactions for the next message."""
        kept = self._kept.setdefault((connection.endpoint, connection.tls), [])
        is_worn = connection.refusals >= MAX_REFUSALS or connection.resets >= MAX_RESETS
        if not connection.is_open or is_worn or len(kept) >= MAX_KEPT:
            connection.quit()
            return
        timer = asyncio.get_running_loop().call_later(MAX_IDLE, self._expire, connection)
        kept.append((connection, timer))

    def reset(self, connection: ClientConnection) -> None:
        """End the transaction that is open on a connection, and keep it once that is confirmed.

        Before, the next message could meet the remains of this one.
        """
        if not connection.is_open:
            return
        self._resetting.add(connection)
        connection.resets += 1
        timer = asyncio.get_running_loop().call_later(RESET_TIMEOUT, connection.abort, "no reply to RSET")
        confirmed = connection.send(b"RSET")[0]
        confirmed.add_done_callback(functools.partial(self._after_reset, connection, timer))

    def close(self) -> None:
        """Say goodbye on every connection that is not in use."""
        for connection in self._resetting:
            connection.quit()
        for kept in self._kept.values():
            for connection, timer in kept:
                timer.cancel()
                connection.quit()
        self._kept.clear()

    def _healthy_first(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        now = asyncio.get_running_loop().time()
        return sorted(endpoints, key=lambda endpoint: self._down_until.get(endpoint, 0.0) > now)

    def _after_reset(
        self, connection: ClientConnection, timer: asyncio.TimerHandle, confirmed: "asyncio.Future[Reply]"
    ) -> None:
        timer.cancel()
        self._resetting.discard(connection)
        if confirmed.exception() is None and confirmed.result().is_positive:
            self.release(connection)
        else:
            connection.abort("RSET was not confirmed")

    def _expire(self, connection: ClientConnection) -> None:
        way = (connection.endpoint, connection.tls)
        self._kept[way] = [entry for entry in self._kept[way] if entry[0] is not connection]
        connection.quit()
