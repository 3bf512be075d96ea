"""ICAP (RFC 3507): virus scanners that speak it, such as c-icap with virus_scan, by RESPMOD or REQMOD.

A message is clean only if the server says 204, "no modification", after it was sent all of it. Servers
say that about content they did not look at as well, so they are made to show it. They are sent a preview
that is never the whole message: a 204 to that is no scan. And they are not told the length beforehand,
so that one that finds a message too large is in the middle of it and has to give it back.

The parser is our own. ICAP looks like HTTP and is not: h11 knows no ICAP/1.0, no Preview with a 100 in the
middle of a body, and no Encapsulated. Only heads are read; what comes behind them decides nothing.
"""

import asyncio
import functools
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from filters.backend import Connection, Pool, connect, quote
from filters.base import Cost, Filter, FilterError, TooLarge
from filters.evidence import VirusReport
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import printable
from gateway.smtp.transaction import Transaction

_MAX_HEAD = 16_384
_MAX_TEXT = 100
_MAX_SIGNATURE = 200
_MAX_PREVIEW = 1024
# How long an answer to OPTIONS is good for, in seconds: if it does not say, and if it says too much.
_TTL = 600.0
_MAX_TTL = 3600.0

_SERVICE = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{1,255}")
_STATUS = re.compile(rb"ICAP/1\.0 ([1-5][0-9][0-9])(?: ([ -~]*))?")
_FIELD = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}):([\t -~\x80-\xff]*)")
_HTTP_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9] [ -~]*)\r\n")
_THREAT = re.compile(r"Threat=([^;]*)", re.IGNORECASE)
# What these fields say in answers about clean content, where they are there at all.
_NOTHING = {"", "-", "0", "no", "none", "false", "clean", "no threats"}

# The resource that the message pretends to be. Its length is left out on purpose, see above.
_REQUESTED = b"GET http://mail.invalid/message.eml HTTP/1.1\r\nHost: mail.invalid\r\n\r\n"
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\n\r\n"
_POSTED = _REQUESTED.replace(b"GET", b"POST").replace(
    b"\r\n\r\n", b"\r\nContent-Type: message/rfc822\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class _Head:
    """An ICAP response but for its body: `fields` by lower-case name, folded lines kept apart."""

    status: int
    reason: str
    fields: dict[str, list[str]]

    def words(self, name: str) -> list[str]:
        """The field's values, which are separated by commas, in lower case."""
        return [word.strip().lower() for word in ",".join(self.fields.get(name, [])).split(",")]

    def first(self, name: str) -> str:
        """The first line of the field; empty without one."""
        return self.fields.get(name, [""])[0]

    def number(self, name: str) -> int | None:
        """The field as a number, if it is one."""
        text = self.first(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a server answered to OPTIONS, until when that is good, and whether the connection is as well."""

    preview: int | None
    until: float
    stays: bool


class ICAP(Filter):
    """Asks a virus scanner that speaks ICAP.

    `address` is where it listens, or a list of such places. `service` is the path on the server, behind
    `icap://host:port/`, with its arguments if it takes some. `method` is the modification that it offers,
    for answers ("RESPMOD") or for requests ("REQMOD"). A message of more than `max_size` octets is not
    sent to it; keep that at or below the server's own limit.

    The service has to look at everything. The virus_scan of c-icap looks at the types of files it is told to,
    and at nothing above MaxObjectSize; as `virus_scan?allow204=on&force=on&sizelimit=off&mode=simple` it
    looks at all of them. What it would not look at becomes `Skipped` or `Unavailable`, and is never clean.
    """

    name = "icap"
    finds = VirusReport
    cost = Cost.SCAN

    def __init__(
        self,
        *,
        address: str | list[str],
        service: str,
        method: Literal["RESPMOD", "REQMOD"] = "RESPMOD",
        max_size: int = 104_857_600,
    ) -> None:
        if max_size <= 0:
            raise ValueError("max_size must be greater than 0")
        if not _SERVICE.fullmatch(service) or service.startswith("/"):
            raise ValueError(f"{service!r} is not a service; allowed: what stands behind icap://host:port/")
        self._pool = Pool(address)
        self._service = service
        self._method: str = method
        self._max_size = max_size
        self._offers: dict[Endpoint, _Offer] = {}

    async def find(self, tx: Transaction) -> VirusReport:
        """Scan the message as it will be relayed."""
        size = len(tx.trace) + tx.message.size
        if size > self._max_size:
            raise TooLarge(f"{size} octets are more than max_size = {self._max_size}")
        return await self._pool.ask(functools.partial(self._scan, tx), self.timeout)

    def subject(self, tx: Transaction) -> str:
        """The content alone: a Received field of ours on top of it makes no virus and hides none."""
        return tx.message.digest

    async def probe(self) -> str:
        """What each server says of itself, and the tag of its state (RFC 3507 section 4.7)."""
        return await self._pool.ask_each(self._describe)

    async def _describe(self, endpoint: Endpoint) -> str:
        async with connect(endpoint) as connection:
            head = await self._options(connection, endpoint)
        most = head.number("max-connections")
        text = f"{head.first('service') or 'a service without a name'}, ISTag {head.first('istag')}"
        return _cut(text if most is None else f"{text}, at most {most} connections")

    async def _scan(self, tx: Transaction, endpoint: Endpoint) -> VirusReport:
        try:
            return await self._scan_as_offered(tx, endpoint)
        except (FilterError, OSError):
            # It may come back as another one.
            self._offers.pop(endpoint, None)
            raise

    async def _scan_as_offered(self, tx: Transaction, endpoint: Endpoint) -> VirusReport:
        offer = self._offers.get(endpoint)
        if offer is None or offer.until <= time.monotonic():
            async with connect(endpoint) as connection:
                offer = self._offers[endpoint] = _offer(await self._options(connection, endpoint))
                if offer.stays:
                    return await self._modify(tx, endpoint, connection, offer)
        async with connect(endpoint) as connection:
            return await self._modify(tx, endpoint, connection, offer)

    async def _options(self, connection: Connection, endpoint: Endpoint) -> _Head:
        """What the service can do (RFC 3507 section 4.10). Raises FilterError if it is no use to us."""
        await connection.send([self._head("OPTIONS", endpoint, "Encapsulated: null-body=0")])
        head = await _receive(connection)
        if head.status != 200:
            raise FilterError(f"answered {head.status} {head.reason} to OPTIONS")
        if self._method.lower() not in head.words("methods"):
            raise FilterError(f"does not offer {self._method}")
        if "204" not in head.words("allow"):
            raise FilterError("does not offer 204, without which it cannot say that a message is clean")
        if connection.has_more and not _has_body(head):
            raise FilterError("said more than an answer to OPTIONS")
        return head

    async def _modify(
        self, tx: Transaction, endpoint: Endpoint, connection: Connection, offer: _Offer
    ) -> VirusReport:
        """One message over one connection (RFC 3507 sections 4.8 and 4.9)."""
        size = len(tx.trace) + tx.message.size
        content = chain((tx.trace,), tx.message.content.chunks())
        fields = ["Allow: 204", "Connection: close"]
        if offer.preview is None or size == 0:
            head, whole = await _send(connection, chain(self._begin(endpoint, fields), _chunks(content)))
            return await _understand(head, connection, whole)
        # Never all of it, so that a 204 to the preview and one to the message cannot be mistaken.
        preview, rest = _split(content, min(offer.preview, _MAX_PREVIEW, size - 1))
        fields.append(f"Preview: {len(preview)}")
        head, whole = await _send(connection, chain(self._begin(endpoint, fields), _chunks((preview,))))
        if head.status != 100:
            return await _understand(head, connection, whole=False)
        head, whole = await _send(connection, _chunks(rest))
        return await _understand(head, connection, whole)

    def _begin(self, endpoint: Endpoint, fields: list[str]) -> Iterator[bytes]:
        """The head of the request and what is encapsulated before the message (RFC 3507 section 4.4)."""
        if self._method == "RESPMOD":
            parts = f"req-hdr=0, res-hdr={len(_REQUESTED)}, res-body={len(_REQUESTED) + len(_RESPONSE)}"
            encapsulated = _REQUESTED + _RESPONSE
        else:
            parts = f"req-hdr=0, req-body={len(_POSTED)}"
            encapsulated = _POSTED
        yield self._head(self._method, endpoint, *fields, f"Encapsulated: {parts}")
        yield encapsulated

    def _head(self, method: str, endpoint: Endpoint, *fields: str) -> bytes:
        host = "localhost" if endpoint.path else str(endpoint)
        lines = [f"{method} icap://{host}/{self._service} ICAP/1.0", f"Host: {host}", *fields]
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _offer(head: _Head) -> _Offer:
    seconds = head.number("options-ttl")
    until = time.monotonic() + (_TTL if seconds is None else min(seconds, _MAX_TTL))
    stays = "close" not in head.words("connection") and not _has_body(head)
    return _Offer(head.number("preview"), until, stays)


def _has_body(head: _Head) -> bool:
    return any(word.startswith("opt-body") for word in head.words("encapsulated"))


# What is sent


def _split(pieces: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `size` octets, and the others, of which there is at least one."""
    begun = b""
    while len(begun) <= size:
        begun += next(pieces)
    return begun[:size], chain((begun[size:],), pieces)


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Each piece behind its length, and the empty one that ends them (RFC 9112 section 7.1)."""
    for piece in pieces:
        # An empty chunk would end the body in the middle of the message.
        if piece:
            yield b"%x\r\n" % len(piece)
            yield piece
            yield b"\r\n"
    yield b"0\r\n\r\n"


async def _send(connection: Connection, pieces: Iterable[bytes]) -> tuple[_Head, bool]:
    """The server's next answer, and whether it had been sent everything by then.

    It may answer early and then read no further, so both go on at the same time.
    """
    sending = asyncio.create_task(connection.send(pieces))
    receiving = asyncio.create_task(_receive(connection))
    try:
        await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        is_sent = sending.done()
        if is_sent:
            sending.result()
        return await receiving, is_sent and not connection.is_cut
    finally:
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


# What is answered


async def _receive(connection: Connection) -> _Head:
    """The next head (RFC 3507 section 4.3). Raises FilterError for anything else."""
    octets = await connection.receive_until(b"\r\n\r\n", _MAX_HEAD)
    line, *lines = octets[:-4].split(b"\r\n")
    status = _STATUS.fullmatch(line)
    if status is None:
        raise FilterError(f"answered {quote(octets)}")
    fields: dict[str, list[str]] = {}
    last: list[str] | None = None
    for line in lines:
        if line[:1] in (b" ", b"\t") and last is not None:
            last.append(_text(line))
        elif found := _FIELD.fullmatch(line):
            last = fields.setdefault(found[1].decode("ascii").lower(), [])
            last.append(_text(found[2]))
        else:
            raise FilterError(f"answered with a line that is no field: {quote(line)}")
    return _Head(int(status[1]), _cut(_text(status[2] or b"")), fields)


async def _understand(head: _Head, connection: Connection, whole: bool) -> VirusReport:
    """What the answer means. `whole` says whether it was given about the whole message."""
    if signature := _signature(head):
        return VirusReport(printable(signature)[:_MAX_SIGNATURE])
    if head.status == 204 and not connection.has_more:
        if whole:
            return VirusReport()
        raise TooLarge("the server would not look at the message, or not at all of it")
    if head.status in (200, 201):
        status = await _encapsulated_status(head, connection)
        if status.startswith("403 "):
            return VirusReport(f"Blocked: {status}"[:_MAX_SIGNATURE])
        raise FilterError(f"answered {head.status} with {status or 'the content'} and no word of a virus")
    raise FilterError(f"answered {head.status} {head.reason}")


def _signature(head: _Head) -> str:
    """The name of what was found, from the fields in which servers say it; empty if there is none."""
    threat = "; ".join(head.fields.get("x-infection-found", []))
    if threat.lower() not in _NOTHING:
        found = _THREAT.search(threat)
        return (found and found[1].strip()) or threat
    # A count, and for each: file, threat, number, resolution.
    violations = head.fields.get("x-violations-found", [])
    if violations and violations[0].lower() not in _NOTHING:
        return violations[2] if len(violations) > 2 and violations[2] else "unnamed"
    for name in ("x-virus-id", "x-blocked-reason", "x-blocked"):
        if head.first(name).lower() not in _NOTHING:
            return head.first(name)
    return ""


async def _encapsulated_status(head: _Head, connection: Connection) -> str:
    """Status and reason of the HTTP response that came instead of the message; empty without one."""
    if "res-hdr=0" not in head.words("encapsulated"):
        return ""
    line = await connection.receive_until(b"\r\n", _MAX_HEAD)
    found = _HTTP_STATUS.fullmatch(line)
    if found is None:
        raise FilterError(f"answered {head.status} with {quote(line)}")
    return _cut(_text(found[1]))


def _text(octets: bytes) -> str:
    return octets.decode("latin-1").strip(" \t")


def _cut(text: str) -> str:
    return printable(text)[:_MAX_TEXT]
