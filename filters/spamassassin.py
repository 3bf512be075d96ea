"""SpamAssassin: score and rules from spamd, by its SYMBOLS command (the SPAMC protocol, version 1.5).

aiospamc writes the request and reads the answer; the connection is ours. Its own neither bounds an
answer nor closes the socket when something goes wrong, and its module-level functions set up TLS
anew for every message. None of its types and exceptions leaves this file.
"""

import functools
import math
import re
from collections.abc import Hashable

from aiospamc.client import Client
from aiospamc.connections import ConnectionManager
from aiospamc.exceptions import BadResponse, ClientException
from aiospamc.header_values import SpamValue, UserValue
from aiospamc.requests import Request
from aiospamc.responses import Response, ResponseException

from filters.backend import Pool, connect, quote
from filters.base import Cost, Filter, FilterError, TooLarge
from filters.evidence import SpamReport
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.reply import printable
from gateway.smtp.transaction import Transaction

_MAX_ANSWER = 65_536
_MAX_RULES = 100
_MAX_TEXT = 100
_RULE = re.compile(r"[A-Za-z0-9_]{1,100}")
_USER = re.compile(r"[A-Za-z0-9_.@+-]{1,255}")
_FIELD_NAME = re.compile(rb"^(spam|content-length)[ \t]*:", re.IGNORECASE | re.MULTILINE)


class SpamAssassin(Filter):
    """Asks spamd for its opinion.

    `address` is where spamd listens, or a list of such places. A message of more than `max_size`
    octets is not sent to it: spamd takes seconds for a megabyte of text, and spam is small. `user`
    is the one whose preferences apply; spamd's own user by default.
    """

    name = "spamassassin"
    finds = SpamReport
    cost = Cost.HEAVY_SCAN

    def __init__(self, *, address: str | list[str], max_size: int = 524_288, user: str | None = None) -> None:
        if max_size <= 0:
            raise ValueError("max_size must be greater than 0")
        if user is not None and not _USER.fullmatch(user):
            raise ValueError(f"{user!r} is not a user name; allowed: letters, digits and any of _ . @ + -")
        self._pool = Pool(address)
        self._max_size = max_size
        self._fields = {} if user is None else {"User": UserValue(user)}

    async def find(self, tx: Transaction) -> SpamReport:
        """Have the message judged as it will be relayed.

        Only score and threshold are reported. Whether spamd calls that spam is its own opinion of
        the same two numbers, and a policy has its own.
        """
        size = len(tx.trace) + tx.message.size
        if size > self._max_size:
            raise TooLarge(f"{size} octets are more than max_size = {self._max_size}")
        body = b"".join((tx.trace, *tx.message.content.chunks()))
        request = Request("SYMBOLS", headers=self._fields, body=body)
        return await self._pool.ask(functools.partial(_judge, request), self.timeout)

    def subject(self, tx: Transaction) -> Hashable:
        """The content, and what the Received field on top of it says but for its date and reference."""
        session, envelope = tx.session, tx.envelope
        return (
            tx.message.digest,
            (session.client_address, session.client_name, session.helo_name),
            (session.esmtp, session.tls is not None, session.authenticated),
            (envelope.reverse_path, envelope.recipients),
        )

    async def probe(self) -> str:
        """spamd's answer to PING, at every address."""
        return await self._pool.ask_each(_ping)


class _Manager(ConnectionManager):  # type: ignore[misc]  # aiospamc has no types
    """Makes aiospamc use our connections."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(str(endpoint))
        self._endpoint = endpoint

    async def request(self, data: bytes) -> bytes:
        """One request on one connection. Raises what `connect` and `receive` raise."""
        async with connect(self._endpoint) as connection:
            # A spamd that has made up its mind need not read to the end; what it says counts.
            await connection.send([data])
            # It reads lines, and waits for the end of the last one even if it knows the length.
            connection.finish()
            return _canonical(await connection.receive(_MAX_ANSWER))


def _canonical(answer: bytes) -> bytes:
    """The answer spelled as aiospamc wants it.

    It compares the names of fields with regard to case, and takes a body of one empty line, which
    is what "no rules" looks like to old clients, for a missing body. It also takes a header that
    breaks off after any field for a whole one; that raises FilterError here.
    """
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end and head.count(b"\r\n") > 1:
        raise FilterError(f"answered {quote(answer)} and closed")
    head = _FIELD_NAME.sub(lambda name: name[1].capitalize() + b":", head)
    return head + end + (b"  " if body == b"\r\n" else body)


async def _request(request: Request, endpoint: Endpoint) -> Response:
    """aiospamc's answer, its several kinds of exceptions made one."""
    try:
        return await Client(_Manager(endpoint)).request(request)
    except BadResponse as error:
        raise FilterError(f"answered {quote(error.args[0])}") from None
    except ResponseException as error:
        raise FilterError(f"answered {error.code} {printable(str(error))[:_MAX_TEXT]}") from None
    except (ClientException, UnicodeDecodeError) as error:
        raise FilterError(f"gave an answer that cannot be read: {type(error).__name__}") from None


async def _judge(request: Request, endpoint: Endpoint) -> SpamReport:
    response = await _request(request, endpoint)
    spam = response.headers.get("Spam")
    if not isinstance(spam, SpamValue):
        raise FilterError("answered without a score")
    if not (math.isfinite(spam.score) and math.isfinite(spam.threshold)):
        raise FilterError(f"answered with the score {spam.score} of {spam.threshold}")
    return SpamReport(spam.score, spam.threshold, _rules(response.body))


def _rules(body: bytes) -> tuple[str, ...]:
    """The names of the rules that matched, as far as they are names of rules."""
    words = body.decode("ascii", "replace").replace(",", " ").split()
    return tuple(word for word in words if _RULE.fullmatch(word))[:_MAX_RULES]


async def _ping(endpoint: Endpoint) -> str:
    response = await _request(Request("PING"), endpoint)
    if response.message != "PONG":
        raise FilterError(f"answered {printable(response.message)[:_MAX_TEXT]!r} to PING")
    return "PONG"
