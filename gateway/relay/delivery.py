"""One mail transaction at a downstream MTA, driven by the client's own dialogue.

The transaction is opened with the first recipient and held open while the message is judged. Its
replies are the client's replies. Nothing is delivered before `commit` sends the end of data, and
nobody may interrupt it after that: `is_committed` says so.
"""

import asyncio
import functools
from collections.abc import Iterable, Sequence

from gateway.relay.client import ClientConnection, DownstreamError
from gateway.relay.identity import introduce
from gateway.relay.pool import Connections
from gateway.relay.router import Destination
from gateway.smtp.address import Path
from gateway.smtp.command import Parameters
from gateway.smtp.content import stuffed
from gateway.smtp.envelope import Envelope
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session

# RFC 5321 section 4.5.3.2.6. The dialogue's own deadline is far shorter and comes first.
FINAL_REPLY_TIMEOUT = 600.0
# The EHLO keyword that allows a parameter, where it is not the parameter's own.
_EXTENSION_OF = {"BODY": "8BITMIME", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN"}
# What may be left out where the downstream would not understand it: a size is advice, who submitted a
# message is a remark, and content is sent as it came, whatever it was said to be.
_DISPENSABLE = frozenset({"SIZE", "BODY", "AUTH"})

Recipient = tuple[Path, Parameters]


class ExtensionMissing(DownstreamError):
    """The downstream lacks what the message needs, which it was once seen to have."""


class Delivery:
    """The downstream half of one transaction. End it with `commit` or `abandon`, never with neither.

    `replies` are the downstream's decisive ones, one for each recipient it had accepted, in order and
    as far as it has given them.
    """

    def __init__(
        self, pool: Connections, destination: Destination, session: Session, envelope: Envelope
    ) -> None:
        self.destination = destination
        self.is_committed = False
        self.replies: list[Reply] = []
        self._pool = pool
        self._session = session
        self._envelope = envelope
        self._accepted: list[Recipient] = []
        self._connection: ClientConnection | None = None
        self._last = destination.endpoints[0]
        self._needs_reset = False
        self._in_data = False

    @property
    def address(self) -> str:
        """The downstream that was spoken to last, or would be spoken to first."""
        return str(self._last)

    async def add(self, path: Path, parameters: Parameters) -> Reply:
        """Ask the downstream for one recipient; its reply. Raises DownstreamError."""
        recipient = (path, parameters)
        if self._connection is None:
            reply = await self._open_with(recipient)
        else:
            reply = await self._connection.ask(_rcpt(self._connection, recipient))
        if reply.is_positive:
            self._accepted.append(recipient)
        return reply

    @property
    def accepted(self) -> Sequence[Recipient]:
        """The recipients that the downstream has accepted, with their parameters, in order."""
        return tuple(self._accepted)

    def readdress(self, recipients: Sequence[Recipient]) -> None:
        """Give the transaction up for one with other recipients, which `commit` opens."""
        self.abandon()
        self._accepted = list(recipients)

    async def commit(self, chunks: Iterable[bytes]) -> None:
        """Hand over the content. Raises DownstreamError where one of `replies` does not come."""
        connection, reply = await self._start_data()
        if reply.code != 354:
            self._in_data = False
            self.abandon()
            self._answer_for_all(reply)
            return
        await self._send_content(connection, chunks)
        self._in_data = self._needs_reset = False
        self._release()

    def abandon(self) -> None:
        """Give the transaction up, wherever it is; the downstream delivers nothing.

        In the middle of the content only dropping the connection says so; before that, RSET does.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._in_data:
            connection.abort("given up in the middle of a message")
        elif self._needs_reset:
            self._pool.reset(connection)
        else:
            self._pool.release(connection)
        self._needs_reset = self._in_data = False

    async def _open_with(self, recipient: Recipient) -> Reply:
        """Open a transaction with its first recipient, on a kept connection if one still works."""
        kept = self._pool.take_kept(self.destination.endpoints, self.destination.tls)
        if kept is not None:
            try:
                return await self._begin(kept, [recipient])
            except ExtensionMissing:
                # It was greeted before it could do what this message needs, as others may have been.
                return await self._begin_anew([recipient], unused=True)
            except DownstreamError:
                # It closed while it was idle, which is its right; it has not seen this mail.
                self.abandon()
        return await self._begin_anew([recipient])

    async def _begin_anew(self, recipients: list[Recipient], unused: bool = False) -> Reply:
        """Open it on another connection, at the first address where that can be done."""
        return await self._pool.begin(
            self.destination.endpoints,
            self.destination.tls,
            functools.partial(self._begin, recipients=recipients),
            unused=unused,
        )

    async def _begin(self, connection: ClientConnection, recipients: list[Recipient]) -> Reply:
        """MAIL and RCPTs; the reply to the last RCPT, or the first refusal if that was MAIL's."""
        self._connection = connection
        self._last = connection.endpoint
        self._needs_reset = True
        identify, hostname = self.destination.identify, self._pool.hostname
        identity = await introduce(connection, self._session, identify, hostname)
        try:
            commands = [*identity, *self._opening(connection, recipients)]
        except ExtensionMissing:
            self._needs_reset = False
            self.abandon()
            raise
        replies = await self._exchange(connection, commands)
        if not connection.is_open:
            # 421 to any of them (RFC 5321 section 3.8): nothing it said holds any more.
            raise DownstreamError(f"{connection.endpoint}: {connection.failure}")
        opened = replies[-1 - len(recipients)]
        if not opened.is_positive:
            # No transaction, but somebody's name may wait for one.
            self._needs_reset = bool(identity)
            self.abandon()
            return opened
        refused = next((reply for reply in replies[-len(recipients) :] if not reply.is_positive), None)
        return refused or replies[-1]

    def _opening(self, connection: ClientConnection, recipients: list[Recipient]) -> list[bytes]:
        """The commands up to the last RCPT. Raises ExtensionMissing, and then nothing was said."""
        return [
            self._mail(connection),
            *(_rcpt(connection, recipient) for recipient in recipients),
        ]

    @staticmethod
    async def _exchange(connection: ClientConnection, commands: list[bytes]) -> list[Reply]:
        """All replies: to commands in one group where the downstream takes that, else one by one."""
        if connection.offers("PIPELINING"):
            return [await connection.reply_to(awaited) for awaited in connection.send(*commands)]
        return [await connection.ask(command) for command in commands]

    async def _start_data(self) -> tuple[ClientConnection, Reply]:
        """DATA, on a transaction opened anew if the downstream gave up while we were judging."""
        connection = self._connection
        if connection is not None and connection.is_open:
            self._in_data = True
            try:
                reply = await connection.start_data()
                if reply.code != 421:
                    return connection, reply
            except DownstreamError:
                pass  # it gave up while we were judging: that is what the second attempt is for
        self.abandon()
        reply = await self._begin_anew(self._accepted)
        connection = self._connection
        if connection is None or not reply.is_positive:
            self.abandon()
            raise DownstreamError(f"{self.address}: said {reply} when the transaction was opened again")
        self._in_data = True
        return connection, await connection.start_data()

    async def _send_content(self, connection: ClientConnection, chunks: Iterable[bytes]) -> None:
        """Everything up to the end of data, then, in one piece and without return, that."""
        finals = [connection.expect() for _ in (self._accepted if connection.endpoint.lmtp else [None])]
        pieces = iter(stuffed(chunks))
        piece = next(pieces)
        for following in pieces:
            if not await _goes_on(connection, piece, finals[0]):
                await self._refused_midway(connection, finals[0])
                return
            piece = following
        self.is_committed = connection.is_open
        await connection.write(piece)
        for final in finals:
            reply = await connection.reply_to(final, FINAL_REPLY_TIMEOUT)
            if connection.endpoint.lmtp:
                self.replies.append(reply)
            else:
                self._answer_for_all(reply)

    async def _refused_midway(self, connection: ClientConnection, final: "asyncio.Future[Reply]") -> None:
        """The downstream answered before it saw the end: never an acceptance."""
        reply = await connection.reply_to(final)
        self.abandon()
        if reply.code < 400:
            raise DownstreamError(f"{connection.endpoint}: said {reply} in the middle of the content")
        self._answer_for_all(reply)

    def _answer_for_all(self, reply: Reply) -> None:
        self.replies = [reply] * len(self._accepted)

    def _mail(self, connection: ClientConnection) -> bytes:
        path = b"MAIL FROM:<%s>" % self._envelope.reverse_path.octets
        return path + _parameters(connection, self._envelope.parameters)

    def _release(self) -> None:
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None


async def _goes_on(connection: ClientConnection, piece: bytes, final: "asyncio.Future[Reply]") -> bool:
    """Send one piece of content; false if the downstream answered before it saw the end."""
    try:
        await connection.write(piece)
    except DownstreamError:
        # It may have answered and then closed: its answer is worth more than our failure.
        if not final.done() or final.exception() is not None:
            raise
    # What came in meanwhile is looked at, and the other sessions get their turn.
    await asyncio.sleep(0)
    return not final.done()


def _rcpt(connection: ClientConnection, recipient: Recipient) -> bytes:
    path, parameters = recipient
    return b"RCPT TO:<%s>" % path.octets + _parameters(connection, parameters)


def _parameters(connection: ClientConnection, parameters: Parameters) -> bytes:
    """The client's parameters as the client gave them. Raises ExtensionMissing."""
    words = [b""]
    for keyword, value in parameters.items():
        extension = _EXTENSION_OF.get(keyword, keyword)
        if connection.offers(extension):
            words.append((keyword if value is None else f"{keyword}={value}").encode("utf-8"))
        elif keyword not in _DISPENSABLE:
            raise ExtensionMissing(f"{connection.endpoint}: does not offer {extension}")
    return b" ".join(words)
