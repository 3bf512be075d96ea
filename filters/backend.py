"""Connections to scanning daemons: bounded, closed on every way out, and shared out over a pool.

Nothing in here knows what is said on a connection. Sockets are used directly instead of asyncio's
streams, because a daemon may answer and close while a message is still being sent to it. A stream
throws what it has received away when a write fails; here the answer can still be read.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from filters.base import FilterError, TooLarge
from gateway.smtp.breaker import Breaker
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import printable

# Small, so that an address that swallows packets leaves time for the next one.
CONNECT_TIMEOUT = 5.0
# Questions that one worker puts to one address at a time. A daemon answers no sooner for having
# more of them in its queue, and from there nobody can take a message back whose sender has gone.
MAX_CONCURRENT = 50
# A question given up on after this long counts against the address, an earlier one does not: the
# client may just have hung up.
PATIENCE = 10.0
# Of the time for a question, so that we know before the gateway's own limit whose silence it was.
_OUR_PART = 0.95
_MAX_QUOTED = 100
_WRITE = 131_072
_READ = 16_384

_log = logging.getLogger(__name__)

T = TypeVar("T")
_AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]


class Connection:
    """One connection to a daemon, for one question."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self.is_cut = False

    async def send(self, pieces: Iterable[bytes]) -> None:
        """Send all pieces. A peer that closes meanwhile is no error yet: `is_cut` is then true.

        What it said before it closed, if anything, is left for `receive`.
        """
        try:
            buffer = bytearray()
            for piece in pieces:
                buffer += piece
                if len(buffer) >= _WRITE:
                    await self._loop.sock_sendall(self._socket, buffer)
                    buffer = bytearray()
            await self._loop.sock_sendall(self._socket, buffer)
        except (BrokenPipeError, ConnectionResetError):
            self.is_cut = True

    def finish(self) -> None:
        """Tell the peer that nothing more will come."""
        # A peer that has gone away already needs no telling.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def receive(self, limit: int) -> bytes:
        """Everything up to the end of the connection, be it orderly or not.

        Whether that is a whole answer only its reader can tell. Raises FilterError if it is empty
        or longer than `limit`.
        """
        while await self._receive_more():
            self._check_length(limit)
        if not self._received:
            raise FilterError(f"closed {'while being sent to' if self.is_cut else 'without an answer'}")
        return bytes(self._received)

    async def receive_until(self, end: bytes, limit: int) -> bytes:
        """What comes next up to and with `end`; what came behind it already is kept for the next call.

        Raises FilterError if the connection ends first, or if there is no end within `limit` octets.
        """
        # What stands behind the end may have come along with it, however long that is.
        while (found := self._received.find(end, 0, limit)) < 0:
            self._check_length(limit)
            if not await self._receive_more():
                raise FilterError(
                    f"answered {quote(self._received)} and closed" if self._received else "closed"
                )
        size = found + len(end)
        octets = bytes(self._received[:size])
        del self._received[:size]
        return octets

    @property
    def has_more(self) -> bool:
        """Whether there is something behind what `receive_until` gave back last."""
        return bool(self._received)

    async def _receive_more(self) -> bool:
        """Wait for octets; false at the end of the connection, be it orderly or not."""
        with contextlib.suppress(ConnectionResetError):
            octets = await self._loop.sock_recv(self._socket, _READ)
            self._received += octets
            return bool(octets)
        return False

    def _check_length(self, limit: int) -> None:
        if len(self._received) > limit:
            raise FilterError(f"sent an answer of more than {limit} octets")

    @contextlib.contextmanager
    def lend(self, timeout: float) -> Iterator[socket.socket]:
        """The socket, blocking, for a library in a thread. Taking it back wakes that thread up."""
        self._socket.settimeout(timeout)
        try:
            yield self._socket
        finally:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


@contextlib.asynccontextmanager
async def connect(endpoint: Endpoint) -> AsyncIterator[Connection]:
    """A connection that is closed when the block is left, however it is left.

    Raises FilterError if there is none within CONNECT_TIMEOUT seconds, OSError if it is refused.
    """
    with await _open(endpoint) as sock:
        yield Connection(sock)


async def _open(endpoint: Endpoint) -> socket.socket:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            if endpoint.path:
                return await _connect_socket(socket.AF_UNIX, endpoint.path)
            return await _open_tcp(endpoint)
    except TimeoutError:
        raise FilterError(f"no connection within {CONNECT_TIMEOUT:g} s") from None


async def _open_tcp(endpoint: Endpoint) -> socket.socket:
    """Connect to the first of the host's addresses that takes us."""
    failure = OSError("the name has no address")
    for family, _, _, _, address in await _addresses(endpoint):
        try:
            sock = await _connect_socket(family, address)
        except OSError as error:
            failure = error
        else:
            # The last piece of a message must not wait for the acknowledgement of the one before.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise failure


async def _addresses(endpoint: Endpoint) -> Sequence[_AddressInfo]:
    """What getaddrinfo(3) knows about the host. Only a name is worth the trip through a thread."""
    host, port = endpoint.host, endpoint.port
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _connect_socket(family: int, address: str | tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


class Pool:
    """Addresses that answer alike, and a memory of those that failed.

    The healthy address with the fewest questions under way is asked first, in the configured order
    among equals: scans differ too much in length for taking turns to share them out fairly. One
    that failed is asked last for a while, and one that keeps failing is left in peace
    (`gateway/smtp/breaker.py`). No address is asked more than MAX_CONCURRENT questions at a time.
    """

    def __init__(self, addresses: str | list[str], clock: Callable[[], float] = time.monotonic) -> None:
        texts = [addresses] if isinstance(addresses, str) else addresses
        if not texts:
            raise ValueError("at least one address is needed")
        self.endpoints = tuple(dict.fromkeys(Endpoint.parse(text) for text in texts))
        self._clock = clock
        self._busy = dict.fromkeys(self.endpoints, 0)
        self._breakers = {endpoint: Breaker() for endpoint in self.endpoints}
        self._slots = {endpoint: asyncio.Semaphore(MAX_CONCURRENT) for endpoint in self.endpoints}

    async def ask(self, question: Callable[[Endpoint], Awaitable[T]], timeout: float = 30.0) -> T:
        """The first answer that can be had; each address is asked at most once.

        `timeout` is the seconds there are for all of it. Each address has its part, so that one that
        hangs leaves the next one time to answer. Asking again elsewhere is safe even after the
        message was sent, for a scan changes nothing. TooLarge is an answer. Raises FilterError with
        what is wrong at every address.
        """
        until = self._clock() + timeout * _OUR_PART
        causes, left = [], self._in_order()
        while left:
            endpoint, now = left.pop(0), self._clock()
            if why := self._obstacle(endpoint, now, until):
                causes.append(f"{endpoint}: {why}")
                continue
            others = sum(self._breakers[other].admits(now) for other in left)
            try:
                return await self._ask(endpoint, question, (until - now) / (others + 1))
            except TooLarge as error:
                raise TooLarge(f"{endpoint}: {error}") from None
            except (FilterError, OSError) as error:
                causes.append(f"{endpoint}: {explain(error)}")
        raise FilterError("; ".join(causes))

    def _obstacle(self, endpoint: Endpoint, now: float, until: float) -> str | None:
        """Why an address is not asked, if it is not."""
        breaker = self._breakers[endpoint]
        if not breaker.admits(now):
            return breaker.explain(now)
        # It would be blamed for the time that another one took.
        return "no time left" if now >= until else None

    async def ask_each(self, question: Callable[[Endpoint], Awaitable[str]]) -> str:
        """All addresses' answers in one text. Raises FilterError with that text if one failed."""
        texts, failed = [], False
        for endpoint in self.endpoints:
            try:
                texts.append(f"{endpoint}: {await question(endpoint)}")
            except (FilterError, OSError) as error:
                failed = True
                texts.append(f"{endpoint}: {explain(error)}")
        if failed:
            raise FilterError("; ".join(texts))
        return "; ".join(texts)

    async def _ask(
        self, endpoint: Endpoint, question: Callable[[Endpoint], Awaitable[T]], seconds: float
    ) -> T:
        """Put the question, and tell the breaker what became of it."""
        breaker, started = self._breakers[endpoint], self._clock()
        probe = breaker.begin()
        self._busy[endpoint] += 1
        try:
            answer = await self._bounded(endpoint, question, seconds)
        except (FilterError, OSError) as error:
            if isinstance(error, TooLarge):
                breaker.succeed()
            else:
                breaker.fail(self._clock() - started, explain(error), self._clock(), probe)
            raise
        except asyncio.CancelledError:
            waited = self._clock() - started
            if waited >= PATIENCE:
                breaker.fail(waited, f"no answer within {waited:.1f} s", self._clock(), probe)
            raise
        else:
            breaker.succeed()
            return answer
        finally:
            breaker.end(probe)
            self._busy[endpoint] -= 1
            if news := breaker.news(self._clock()):
                _log.warning("%s is %s", endpoint, news)

    async def _bounded(
        self, endpoint: Endpoint, question: Callable[[Endpoint], Awaitable[T]], seconds: float
    ) -> T:
        """The answer, asked for once there is a slot. Raises FilterError if both take too long."""
        try:
            async with asyncio.timeout(seconds) as limit, self._slots[endpoint]:
                return await question(endpoint)
        except TimeoutError:
            if not limit.expired():
                raise
            raise FilterError(f"no answer within {seconds:.3g} s") from None

    def _in_order(self) -> list[Endpoint]:
        now = self._clock()
        return sorted(self.endpoints, key=lambda each: (self._breakers[each].rank(now), self._busy[each]))


def explain(error: FilterError | OSError) -> str:
    """What went wrong, in the operating system's words where it was the one to notice."""
    if isinstance(error, socket.gaierror):
        return f"name not found ({error.strerror})"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def quote(answer: bytes | bytearray) -> str:
    """The beginning of an answer that makes no sense, fit for a log."""
    return repr(printable(answer[:_MAX_QUOTED].rstrip(b"\0\r\n").decode("latin-1")))
