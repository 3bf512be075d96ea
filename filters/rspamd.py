"""Rspamd: score, action and symbols from a normal worker, by `POST /checkv2` (its HTTP protocol).

h11 says what is HTTP and what is not; the connection is ours, and carries one question. None of h11's
types and exceptions leaves this file.
"""

import functools
import math
import re
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain

import h11
import msgspec

from filters.backend import Pool, connect, quote
from filters.base import Cost, Filter, FilterError, TooLarge
from filters.evidence import RspamdReport
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import printable
from gateway.smtp.transaction import Transaction

# Symbols come with what they matched on, so an answer may be longer than one would think.
_MAX_ANSWER = 1_048_576
_MAX_RULES = 100
_MAX_TEXT = 100
_NO_ACTION = "no action"
_RULE = re.compile(r"[!-~]{1,100}")
_TOKEN = re.compile(r"[!-~]{1,255}")
# Where our Received field names the message as our records do.
_REFERENCE = re.compile(rb"\tby [^ ]+ \(Sluicegate\) with [A-Z0-9]+ id ([A-Za-z0-9.-]{1,64})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_Fields = list[tuple[bytes, bytes]]


class Rspamd(Filter):
    """Asks Rspamd for its opinion.

    `address` is where its normal worker listens, or a list of such places. A message of more than
    `max_size` octets is not sent to it; the default is Rspamd's own `max_message`, above which it hangs up.
    `settings_id` names the settings that apply, as `Settings-ID` does. `password` is only needed where a
    proxy or a controller worker asks for one.
    """

    name = "rspamd"
    finds = RspamdReport
    cost = Cost.HEAVY_SCAN

    def __init__(
        self,
        *,
        address: str | list[str],
        max_size: int = 52_428_800,
        settings_id: str | None = None,
        password: str | None = None,
    ) -> None:
        if max_size <= 0:
            raise ValueError("max_size must be greater than 0")
        self._pool = Pool(address)
        self._max_size = max_size
        self._fields: _Fields = []
        for option, field, value in (
            ("settings_id", b"Settings-ID", settings_id),
            ("password", b"Password", password),
        ):
            if value is not None:
                if not _TOKEN.fullmatch(value):
                    raise ValueError(
                        f"{option} must be of 1 to 255 printable ASCII characters without spaces"
                    )
                self._fields.append((field, value.encode("ascii")))

    async def find(self, tx: Transaction) -> RspamdReport:
        """Have the message judged as it will be relayed, together with its envelope and its client."""
        size = len(tx.trace) + tx.message.size
        if size > self._max_size:
            raise TooLarge(f"{size} octets are more than max_size = {self._max_size}")
        fields = [*self._fields, *_facts(tx), (b"Content-Length", b"%d" % size)]
        return await self._pool.ask(functools.partial(_judge, tx, fields), self.timeout)

    def subject(self, tx: Transaction) -> Hashable:
        """The content and all that `_facts` tells of client and envelope, the Received field's included."""
        session, envelope = tx.session, tx.envelope
        return (
            tx.message.digest,
            (session.client_address, session.client_name, session.helo_name),
            (session.esmtp, session.tls, session.authenticated),
            (envelope.reverse_path, envelope.recipients),
        )

    async def probe(self) -> str:
        """What it answers to a ping, and its version, at every address."""
        return await self._pool.ask_each(_ping)


class _Symbol(msgspec.Struct):
    """One rule that matched."""

    score: float = 0.0


class _Report(msgspec.Struct):
    """As much of an answer to /checkv2 as is used."""

    score: float
    required_score: float
    action: str
    is_skipped: bool = False
    symbols: dict[str, _Symbol] = {}


def _facts(tx: Transaction) -> _Fields:
    """What Rspamd wants to know about client and envelope, as request header fields."""
    session, envelope = tx.session, tx.envelope
    reference = _REFERENCE.search(tx.trace)
    known: list[tuple[bytes, str | None]] = [
        (b"Queue-Id", reference[1].decode("ascii") if reference else None),
        (b"IP", str(session.client_address)),
        (b"Helo", session.helo_name),
        (b"Hostname", session.client_name),
        (b"User", session.authenticated),
        (b"TLS-Version", session.tls.version if session.tls else None),
        (b"TLS-Cipher", session.tls.cipher if session.tls else None),
        (b"From", f"<{envelope.reverse_path}>"),
        *((b"Rcpt", f"<{path}>") for path in envelope.recipients),
    ]
    return [(name, _field_value(text)) for name, text in known if text]


def _field_value(text: str) -> bytes:
    """As octets that can stand in one header field: UTF-8, which Rspamd takes, and no line end or NUL."""
    return _CONTROL.sub("?", text).strip(" ").encode("utf-8", "replace")


async def _judge(tx: Transaction, fields: _Fields, endpoint: Endpoint) -> RspamdReport:
    answer, _ = await _exchange(
        endpoint, "POST", "/checkv2", fields, chain((tx.trace,), tx.message.content.chunks())
    )
    try:
        report = msgspec.json.decode(answer, type=_Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FilterError(f"gave an answer that cannot be read: {_cut(str(error))}") from None
    return _understand(report)


def _understand(report: _Report) -> RspamdReport:
    # It also calls skipped what it has made up its mind about before the symbols, and then acts.
    if report.is_skipped and report.action == _NO_ACTION:
        raise TooLarge("Rspamd skipped the message, as its settings say")
    if not (math.isfinite(report.score) and math.isfinite(report.required_score)):
        raise FilterError(f"answered with the score {report.score} of {report.required_score}")
    action = _cut(report.action)
    return RspamdReport(report.score, report.required_score, action, _rules(report.symbols))


def _rules(symbols: dict[str, _Symbol]) -> tuple[str, ...]:
    """The names of the symbols, the weightiest first."""
    names = sorted(symbols, key=lambda name: (-symbols[name].score, name))
    return tuple(name for name in names if _RULE.fullmatch(name))[:_MAX_RULES]


async def _ping(endpoint: Endpoint) -> str:
    answer, server = await _exchange(endpoint, "GET", "/ping", [], ())
    if answer.strip() != b"pong":
        raise FilterError(f"answered {quote(answer)} to /ping")
    return f"pong from {server or 'a server without a name'}"


# HTTP


async def _exchange(
    endpoint: Endpoint, method: str, target: str, fields: _Fields, content: Iterable[bytes]
) -> tuple[bytes, str]:
    """The body of a whole 200 answer, and what the server calls itself."""
    http = h11.Connection(h11.CLIENT)
    host = b"localhost" if endpoint.path else str(endpoint).encode("ascii")
    headers = [(b"Host", host), (b"Connection", b"close"), *fields]
    request = h11.Request(method=method, target=target, headers=headers)
    async with connect(endpoint) as connection:
        await connection.send(_octets(http, request, content))
        answer = await connection.receive(_MAX_ANSWER)
        response, body = _read(http, answer)
        if response.status_code != 200:
            raise FilterError(f"answered {response.status_code} {_text(response.reason)}")
        if connection.is_cut:
            raise FilterError("answered before it was sent the whole message")
    return body, next((_text(value) for name, value in response.headers if name == b"server"), "")


def _octets(http: h11.Connection, request: h11.Request, content: Iterable[bytes]) -> Iterator[bytes]:
    yield http.send(request) or b""
    for piece in content:
        yield http.send(h11.Data(data=piece)) or b""
    yield http.send(h11.EndOfMessage()) or b""


def _read(http: h11.Connection, answer: bytes) -> tuple[h11.Response, bytes]:
    """A response and its body. Raises FilterError unless they are whole, and all there is."""
    try:
        events = list(_events(http, answer))
    except h11.RemoteProtocolError as error:
        raise FilterError(f"answered {quote(answer)}: {_cut(str(error))}") from None
    response = next((event for event in events if isinstance(event, h11.Response)), None)
    if response is None or not isinstance(events[-1], h11.EndOfMessage):
        raise FilterError(f"answered {quote(answer)} and closed")
    return response, b"".join(event.data for event in events if isinstance(event, h11.Data))


def _events(http: h11.Connection, answer: bytes) -> Iterator[h11.Event]:
    http.receive_data(answer)
    http.receive_data(b"")
    while isinstance(event := http.next_event(), h11.Event) and not isinstance(event, h11.ConnectionClosed):
        yield event


def _text(octets: bytes) -> str:
    return _cut(octets.decode("latin-1"))


def _cut(text: str) -> str:
    return printable(text)[:_MAX_TEXT]
