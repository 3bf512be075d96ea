"""Connections kept between messages, and a memory of addresses that fail."""

import asyncio
import functools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from gateway.relay.client import ClientConnection, DownstreamError, connect
from gateway.smtp.breaker import Breaker
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
# For the reply to RSET, for which nobody waits.
RESET_TIMEOUT = 20.0

_log = structlog.get_logger()

T = TypeVar("T")
# Where a connection leads, and how it was asked to be encrypted.
_Way = tuple[Endpoint, Encrypt]


class Connections(Protocol):
    """Where a delivery gets its connections from, and gives them back to."""

    @property
    def hostname(self) -> str:
        """What we call ourselves there."""

    def take_kept(self, endpoints: Sequence[Endpoint], tls: Encrypt) -> ClientConnection | None:
        """A connection that is there already, if there is one that looks alive."""

    async def begin(
        self,
        endpoints: Sequence[Endpoint],
        tls: Encrypt,
        opening: Callable[[ClientConnection], Awaitable[T]],
        *,
        unused: bool = False,
    ) -> T:
        """What `opening` made of a connection, `unused` by others if need be. Raises DownstreamError."""

    def release(self, connection: ClientConnection) -> None:
        """Take back a connection that is between transactions."""

    def reset(self, connection: ClientConnection) -> None:
        """Take back a connection on which a transaction is open, and end that."""


class Pool:
    """Connections by the way they lead. What is taken or opened is given back by `release` or `reset`."""

    def __init__(self, hostname: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.hostname = hostname
        self._clock = clock
        self._kept: dict[_Way, list[tuple[ClientConnection, asyncio.TimerHandle]]] = {}
        self._waiting: defaultdict[_Way, list[asyncio.Future[ClientConnection]]] = defaultdict(list)
        self._late: set[asyncio.Task[ClientConnection]] = set()
        self._resetting: set[ClientConnection] = set()
        self._breakers: defaultdict[Endpoint, Breaker] = defaultdict(Breaker)
        # What was said last at the end of each way: some offer other things once they are encrypted.
        self._extensions: dict[_Way, dict[str, str]] = {}
        self._greetings = 0

    @property
    def greetings(self) -> int:
        """How often an endpoint said something new about what it can do."""
        return self._greetings

    def extensions(self, endpoint: Endpoint, tls: Encrypt) -> dict[str, str] | None:
        """What an endpoint said last that it can do; `None` if it was never reached."""
        return self._extensions.get((endpoint, tls))

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
        """A connection that nobody used before, to the first endpoint that takes one.

        Raises DownstreamError for all.
        """
        return await self.begin(endpoints, tls, _as_it_is, unused=True)

    async def begin(
        self,
        endpoints: Sequence[Endpoint],
        tls: Encrypt,
        opening: Callable[[ClientConnection], Awaitable[T]],
        *,
        unused: bool = False,
    ) -> T:
        """What `opening` made of another connection to the first endpoint with which it could.

        That may be one that somebody else has just done with, unless it has to be `unused`. An
        endpoint that keeps failing is left in peace (`gateway/smtp/breaker.py`). Raises
        DownstreamError with what is wrong with each.
        """
        connecting = self._fresh if unused else self._next
        failures = []
        for endpoint in self._healthy_first(endpoints):
            breaker, now = self._breakers[endpoint], self._clock()
            if not breaker.admits(now):
                failures.append(DownstreamError(f"{endpoint}: {breaker.explain(now)}"))
                continue
            try:
                return await self._begin(endpoint, connecting(endpoint, tls), opening)
            except DownstreamError as error:
                failures.append(error)
        raise _in_one(failures)

    async def _begin(
        self,
        endpoint: Endpoint,
        connecting: Awaitable[ClientConnection],
        opening: Callable[[ClientConnection], Awaitable[T]],
    ) -> T:
        """Try one endpoint, and tell its breaker what came of it."""
        breaker, started = self._breakers[endpoint], self._clock()
        probe = breaker.begin()
        try:
            opened = await opening(await connecting)
        except DownstreamError as error:
            cause = str(error).removeprefix(f"{endpoint}: ")
            breaker.fail(self._clock() - started, cause, self._clock(), probe)
            raise
        else:
            breaker.succeed()
            return opened
        finally:
            breaker.end(probe)
            if news := breaker.news(self._clock()):
                _log.warning("a downstream's state has changed", address=str(endpoint), state=news)

    async def _fresh(self, endpoint: Endpoint, tls: Encrypt) -> ClientConnection:
        connection = await connect(endpoint, self.hostname, tls)
        self.note(endpoint, tls, connection.extensions)
        return connection

    async def _next(self, endpoint: Endpoint, tls: Encrypt) -> ClientConnection:
        """A fresh connection, or one that another session has done with before that is there.

        A downstream with few places greets the next client when one before has gone: who waits for a
        greeting must not wait for a connection to be given up that could be used.
        """
        way = (endpoint, tls)
        handed: asyncio.Future[ClientConnection] = asyncio.get_running_loop().create_future()
        fresh = asyncio.create_task(self._fresh(endpoint, tls))
        taken: asyncio.Future[ClientConnection] | None = None
        self._waiting[way].append(handed)
        try:
            await asyncio.wait((fresh, handed), return_when=asyncio.FIRST_COMPLETED)
            taken = handed if handed.done() else fresh
            return await taken
        except asyncio.CancelledError:
            fresh.cancel()
            raise
        finally:
            self._waiting[way].remove(handed)
            if taken is not fresh:
                self._late.add(fresh)
                fresh.add_done_callback(self._keep_late)
            if taken is not handed and handed.done():
                self.release(handed.result())

    def _keep_late(self, fresh: "asyncio.Task[ClientConnection]") -> None:
        """A connection that somebody could not wait for serves somebody else."""
        self._late.discard(fresh)
        if not fresh.cancelled() and fresh.exception() is None:
            self.release(fresh.result())

    def release(self, connection: ClientConnection) -> None:
        """Keep a connection that is between transactions for the next message, or for who waits for one."""
        if connection.is_open:
            self._breakers[connection.endpoint].succeed()
        kept = self._kept.setdefault((connection.endpoint, connection.tls), [])
        is_worn = connection.refusals >= MAX_REFUSALS or connection.resets >= MAX_RESETS
        if not connection.is_open or is_worn or len(kept) >= MAX_KEPT:
            connection.quit()
            return
        waiting = self._waiting[connection.endpoint, connection.tls]
        longest = next((handed for handed in waiting if not handed.done()), None)
        if longest is not None:
            longest.set_result(connection)
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
        for fresh in self._late:
            fresh.cancel()
        for connection in self._resetting:
            connection.quit()
        for kept in self._kept.values():
            for connection, timer in kept:
                timer.cancel()
                connection.quit()
        self._kept.clear()

    def _healthy_first(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        now = self._clock()
        return sorted(endpoints, key=lambda endpoint: self._breakers[endpoint].rank(now))

    def note(self, endpoint: Endpoint, tls: Encrypt, extensions: dict[str, str]) -> None:
        """Remember what an endpoint said that it can do."""
        if self._extensions.get((endpoint, tls)) != extensions:
            self._extensions[endpoint, tls] = extensions
            self._greetings += 1

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


def _in_one(failures: Sequence[DownstreamError]) -> DownstreamError:
    """All of them; of their kind, where that is the same for all."""
    kinds = {type(failure) for failure in failures}
    kind = kinds.pop() if len(kinds) == 1 else DownstreamError
    return kind("; ".join(map(str, failures)))


async def _as_it_is(connection: ClientConnection) -> ClientConnection:
    return connection
