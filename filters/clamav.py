"""ClamAV: the whole message through clamd, by its INSTREAM command (clamd(8)).

A message is clean only if clamd says exactly so, and nothing else, after it was sent all of it.
Scanning is our own: pyclamd takes a daemon that dies for one that found nothing. It is used where a
missing answer does no harm, to ask clamd how it is.
"""

import asyncio
import functools
import re
from collections.abc import Iterator

import pyclamd

from filters.backend import Connection, Pool, connect, quote
from filters.base import Cost, Filter, FilterError, TooLarge
from filters.evidence import VirusReport
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import printable
from gateway.smtp.transaction import Transaction

_CLEAN = b"stream: OK\0"
_FOUND = re.compile(rb"stream: ([^\0]+) FOUND\0")
_OVER_LIMIT = b"INSTREAM size limit exceeded"
_MAX_ANSWER = 4096
_MAX_SIGNATURE = 200
# pyclamd waits up to five times as long as it is told to.
_PROBE_TIMEOUT = 2.0


class ClamAV(Filter):
    """Asks clamd for a virus.

    `address` is where clamd listens, or a list of such places. A message of more than `max_size`
    octets is not sent to it; the default is clamd's own for StreamMaxLength and MaxFileSize. Keep
    it at or below MaxFileSize: what is larger clamd takes, does not look at, and calls clean.
    """

    name = "clamav"
    finds = VirusReport
    cost = Cost.SCAN

    def __init__(self, *, address: str | list[str], max_size: int = 104_857_600) -> None:
        if max_size <= 0:
            raise ValueError("max_size must be greater than 0")
        self._pool = Pool(address)
        self._max_size = max_size

    async def find(self, tx: Transaction) -> VirusReport:
        """Scan the message as it will be relayed."""
        size = len(tx.trace) + tx.message.size
        if size > self._max_size:
            raise TooLarge(f"{size} octets are more than max_size = {self._max_size}")
        return await self._pool.ask(functools.partial(_scan, tx), self.timeout)

    def subject(self, tx: Transaction) -> str:
        """The content alone: a Received field of ours on top of it makes no virus and hides none."""
        return tx.message.digest

    async def probe(self) -> str:
        """The version of ClamAV and of its signatures, at every address."""
        return await self._pool.ask_each(_ask_version)


async def _scan(tx: Transaction, endpoint: Endpoint) -> VirusReport:
    async with connect(endpoint) as connection:
        await connection.send(_instream(tx))
        return _understand(await connection.receive(_MAX_ANSWER), connection)


def _instream(tx: Transaction) -> Iterator[bytes]:
    """The command and the message in chunks, each behind its length; an empty one ends it."""
    yield b"zINSTREAM\0"
    if tx.trace:
        yield len(tx.trace).to_bytes(4, "big")
        yield tx.trace
    for chunk in tx.message.content.chunks():
        # An empty chunk would end the stream in the middle of the message.
        if chunk:
            yield len(chunk).to_bytes(4, "big")
            yield chunk
    yield bytes(4)


def _understand(answer: bytes, connection: Connection) -> VirusReport:
    if answer.startswith(_OVER_LIMIT):
        raise TooLarge("the message is longer than clamd's StreamMaxLength")
    if connection.is_cut:
        raise FilterError(f"answered {quote(answer)} and closed before it was sent the whole message")
    if answer == _CLEAN:
        return VirusReport()
    if found := _FOUND.fullmatch(answer):
        return VirusReport(printable(found[1].decode("latin-1"))[:_MAX_SIGNATURE])
    raise FilterError(f"answered {quote(answer)}")


class _Clamd(pyclamd.ClamdNetworkSocket):  # type: ignore[misc]  # pyclamd has no types
    """pyclamd's commands over a socket of ours.

    Its own constructor connects, knows no IPv6, and leaves the socket open when that fails.
    """

    def __init__(self, sock: object) -> None:
        self.clamd_socket = sock

    def _init_socket(self) -> None:
        """Called before every command; the connection is there already."""


async def _ask_version(endpoint: Endpoint) -> str:
    async with connect(endpoint) as connection:
        with connection.lend(_PROBE_TIMEOUT) as sock:
            version = await asyncio.to_thread(_Clamd(sock).version)
    # Silence is an empty string to pyclamd, and octets it cannot decode stay octets.
    if not isinstance(version, str) or not version.startswith("ClamAV "):
        raise FilterError(f"answered {version!r:.100} to VERSION")
    return printable(version)
