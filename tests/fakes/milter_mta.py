"""The MTA's side of a milter: an MTA that behaves as Postfix does, unless a test makes it misbehave.

    async with MTA.connect(address) as mta:
        await mta.greet(client_address="192.0.2.1", helo="mx.example.net")
        await mta.mail(b"<a@example.net>")
        await mta.rcpt(b"<b@example.com>")
        end = await mta.message(content)
        assert mta.delivered(end).content == content

It sends what was negotiated and nothing else, waits for a reply only where one was negotiated, and
takes a stray packet for a `ProtocolError`, at the latest when the conversation ends. A milter that
closes is an EOFError, one that is silent for `PATIENCE` a TimeoutError. `step` says anything in any
order, `send` any octets, `close` goes away in the middle.
"""

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from tests.fakes.milter_delivery import Delivery, Message, bare, delivered
from tests.fakes.milter_protocol import (
    ALL_ACTIONS,
    ALL_STEPS,
    CHUNK,
    FLAGS,
    VERSION,
    Actions,
    Command,
    Negotiated,
    ProtocolError,
    Steps,
    packet,
    read_packet,
    strings,
)
from tests.fakes.milter_response import (
    NO_REPLY,
    NOT_SENT,
    SESSION,
    Decision,
    Response,
    read_response,
)

PATIENCE = 30.0
Address = Path | str | tuple[str, int]
Macros = Mapping[str, str]


class MTA:
    """One connection to a milter. Made by `connect`.

    `negotiated` is what the milter asked for. `sender`, `recipients` (who were not refused) and
    `content` are those of the last message.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, daemon: str, has_macros: bool
    ) -> None:
        self.negotiated = Negotiated(VERSION, Actions(0), Steps(0), {})
        self.sender = b""
        self.recipients: list[bytes] = []
        self.content = b""
        self.is_closed = False
        self._reader, self._writer = reader, writer
        self._daemon, self._has_macros = daemon, has_macros
        self._messages = 0
        self._is_discarded = False
        self._reset()

    def _reset(self) -> None:
        self._in_transaction = self._had_data = False
        self._skipped: Command | None = None
        self._settled: Response | None = None

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: Address,
        *,
        version: int = VERSION,
        actions: Actions = ALL_ACTIONS,
        steps: Steps = ALL_STEPS,
        daemon: str = "mx.example",
        has_macros: bool = True,
    ) -> AsyncIterator[Self]:
        """Connects to a Unix path or to (host, port) and negotiates; ends with `quit` if nothing else has.

        `daemon` is {j} and {daemon_name}. Without `has_macros` a step comes with those macros only that
        it is given. Raises OSError, ProtocolError, EOFError, TimeoutError.
        """
        if isinstance(address, tuple):
            reader, writer = await asyncio.open_connection(*address)
        else:
            reader, writer = await asyncio.open_unix_connection(address)
        mta = cls(reader, writer, daemon, has_macros)
        try:
            await mta._negotiate(version, actions, steps)
            yield mta
            await mta.quit()
        finally:
            await mta.close()

    async def _negotiate(self, version: int, actions: Actions, steps: Steps) -> None:
        await self.send(packet(Command.OPTNEG, struct.pack("!III", version, actions, steps)))
        octet, data = await self.read()
        if octet != Command.OPTNEG.value:
            raise ProtocolError(f"{octet!r} is no negotiation")
        self.negotiated = told = Negotiated.of(data)
        if (
            told.version > version
            or _exceeds(int(told.actions), int(actions))
            or _exceeds(int(told.steps), int(steps))
        ):
            raise ProtocolError(f"{told} goes beyond what was offered")

    @property
    def queue_id(self) -> str:
        """{i} of the message under way; each has its own."""
        return f"{self._messages:08X}"

    @property
    def has_leading_space(self) -> bool:
        """Whether SMFIP_HDR_LEADSPC was negotiated."""
        return bool(self.negotiated.steps & Steps.HDR_LEADSPC)

    async def greet(
        self,
        *,
        client_address: str = "192.0.2.1",
        client_name: str = "",
        client_port: int = 49_152,
        helo: str = "client.example",
    ) -> Response:
        """The client's connection and its greeting; the response to what decided."""
        response = await self.client(client_address, client_name, client_port)
        return await self.helo(helo.encode()) if response.goes_on else response

    async def client(
        self, address: str, name: str = "", port: int = 49_152, macros: Macros | None = None
    ) -> Response:
        """A client is there: with an IP address, with a path ("/..."), or from nobody knows where ("")."""
        shown = (name or f"[{address}]").encode()
        if not address:
            data = strings(shown) + b"U"
        elif address.startswith("/"):
            data = strings(shown) + b"L" + struct.pack("!H", 0) + strings(address.encode())
        else:
            family = b"6" if ipaddress.ip_address(address).version == 6 else b"4"
            data = strings(shown) + family + struct.pack("!H", port) + strings(address.encode())
        known = {"j": self._daemon, "{daemon_name}": self._daemon, "v": "Postfix"}
        return await self._say(Command.CONNECT, data, known, macros)

    async def helo(self, name: bytes, macros: Macros | None = None) -> Response:
        """HELO or EHLO."""
        return await self._say(Command.HELO, strings(name), {}, macros)

    async def mail(self, reverse_path: bytes, *parameters: bytes, macros: Macros | None = None) -> Response:
        """MAIL, with angle brackets. A refused one is ended by `abort`, as Postfix does."""
        if not self.is_closed:
            self._reset()
        self._in_transaction = True
        self._messages += 1
        self._is_discarded = False
        self.sender, self.recipients, self.content = reverse_path, [], b""
        known = _mailbox("mail", reverse_path)
        response = await self._say(Command.MAIL, strings(reverse_path, *parameters), known, macros)
        if response.is_reject or response.is_tempfail:
            await self.abort()
        return response

    async def rcpt(self, forward_path: bytes, *parameters: bytes, macros: Macros | None = None) -> Response:
        """RCPT, with angle brackets. The queue identifier is known from the second one on."""
        assert self._in_transaction, "RCPT without MAIL; say it with `step`"
        known = _mailbox("rcpt", forward_path) | ({"i": self.queue_id} if self.recipients else {})
        response = await self._say(Command.RCPT, strings(forward_path, *parameters), known, macros)
        if response.goes_on or response.is_accept or response.is_discard:
            self.recipients.append(forward_path)
        return response

    async def data(self, macros: Macros | None = None) -> Response:
        """DATA; `message` says it where the test has not."""
        assert self._in_transaction, "DATA without MAIL; say it with `step`"
        self._had_data = True
        return await self._say(Command.DATA, b"", {"i": self.queue_id}, macros)

    async def message(self, content: bytes, macros: Macros | None = None) -> Response:
        """DATA, header fields, body, end of message, and then `abort`, with which Postfix ends all of them.

        `macros` are for the end of the message. The response is that to it, or the first one that decided.
        """
        self.content = content
        message = Message.of(content)
        response = NOT_SENT if self._had_data else await self.data()
        for field in message.fields:
            if response.goes_on:
                value = field.value(leading_space=self.has_leading_space)
                response = await self.header(field.name, value)
        if response.goes_on:
            response = await self.eoh()
        body = message.body or b""
        for start in range(0, len(body), CHUNK):
            if response.goes_on:
                response = await self.body(body[start : start + CHUNK])
        if response.goes_on:
            response = await self.end(macros)
        await self.abort()
        return response

    async def header(self, name: bytes, value: bytes, macros: Macros | None = None) -> Response:
        """One header field, its value as negotiated: with its leading white space, or without one space."""
        return await self._say(Command.HEADER, strings(name, value), {"i": self.queue_id}, macros)

    async def eoh(self, macros: Macros | None = None) -> Response:
        """The end of the header."""
        return await self._say(Command.EOH, b"", {"i": self.queue_id}, macros)

    async def body(self, chunk: bytes, macros: Macros | None = None) -> Response:
        """A part of the body, at most 65,535 octets."""
        return await self._say(Command.BODY, chunk, {"i": self.queue_id}, macros)

    async def end(self, macros: Macros | None = None) -> Response:
        """The end of the message."""
        return await self._say(Command.BODYEOB, b"", {"i": self.queue_id}, macros)

    async def unknown(self, command: bytes) -> Response:
        """An SMTP command that the MTA does not know."""
        return await self.step(Command.UNKNOWN, strings(command))

    async def abort(self) -> None:
        """Ends the transaction. Never answered."""
        if not self.is_closed:
            self._reset()
            await self.send(packet(Command.ABORT))

    async def quit(self) -> None:
        """The client has gone. Raises ProtocolError if the milter had something left to say."""
        if self.is_closed:
            return
        if self._in_transaction:
            await self.abort()
        await self.send(packet(Command.QUIT))
        async with asyncio.timeout(PATIENCE):
            stray = await read_packet(self._reader)
        if stray is not None:
            raise ProtocolError(f"the milter said {stray!r}, and nobody had asked")
        await self.close()

    async def quit_nc(self) -> None:
        """The client has gone, and another will come by this connection: `client` is next.

        Postfix does not say it; libmilter knows it right behind an end of message only, before `abort`.
        """
        self._reset()
        await self.send(packet(Command.QUIT_NC))

    def delivered(self, end: Response) -> Delivery:
        """What becomes of the last message; AssertionError where it was refused."""
        assert end.goes_on or end.is_accept or end.is_discard, f"refused: {end}"
        return delivered(
            self.content,
            end.modifications,
            sender=self.sender,
            recipients=self.recipients,
            leading_space=self.has_leading_space,
            is_discarded=self._is_discarded,
        )

    # Below the steps

    async def step(self, command: Command, data: bytes = b"", macros: Macros | None = None) -> Response:
        """One step with these very macros, in whatever order; sent and answered as negotiated.

        After the milter has decided, nothing is sent: what it said of the session is said again.
        """
        if self._settled is not None:
            return self._settled
        if self._skipped is command:
            return NOT_SENT
        self._skipped = None
        unwanted, unanswered = (bool(self.negotiated.steps & flag) for flag in FLAGS[command])
        octets = b"" if macros is None else _macro_packet(command, macros)
        await self.send(octets if unwanted else octets + packet(command, data))
        if unwanted or unanswered:
            return NOT_SENT if unwanted else NO_REPLY
        response = await read_response(self.read, command, self.negotiated)
        await self._note(command, response)
        return response

    async def send(self, octets: bytes) -> None:
        """Any octets. Raises EOFError where the milter has closed."""
        self._writer.write(octets)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._writer.drain()
        except ConnectionError as error:
            raise EOFError("the milter has closed") from error

    async def read(self) -> tuple[bytes, bytes]:
        """The octet and the data of the next packet. Raises EOFError, ProtocolError, TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            found = await read_packet(self._reader)
        if found is None:
            raise EOFError("the milter has closed")
        return found

    def stop_reading(self) -> None:
        """Takes no more octets than the system holds for it, until `go_on_reading`."""
        self._writer.transport.pause_reading()

    def go_on_reading(self) -> None:
        """Takes what there is."""
        self._writer.transport.resume_reading()

    async def close(self) -> None:
        """Goes away at once, without a word."""
        self.is_closed = True
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _say(self, command: Command, data: bytes, known: Macros, macros: Macros | None) -> Response:
        if not self._has_macros:
            return await self.step(command, data, macros)
        wanted = self.negotiated.symbols.get(command)
        sent = {name: text for name, text in known.items() if wanted is None or name in wanted}
        return await self.step(command, data, {**sent, **(macros or {})})

    async def _note(self, command: Command, response: Response) -> None:
        """Postfix hangs up on a milter that has decided about the session."""
        if response.decision is Decision.SKIP:
            self._skipped = command
        elif response.ends_session or (command in SESSION and not response.goes_on):
            self._settled = NOT_SENT if response.is_accept else response
            await self.close()
        elif response.is_accept or response.is_discard:
            self._settled = NOT_SENT
            self._is_discarded = response.is_discard


def _exceeds(asked: int, offered: int) -> bool:
    """Bits that have no name count as well."""
    return bool(asked & ~offered & 0xFFFFFFFF)


def _mailbox(kind: str, path: bytes) -> dict[str, str]:
    address = bare(path).decode("utf-8", "surrogateescape")
    host = address.rpartition("@")[2]
    return {f"{{{kind}_mailer}}": "smtp", f"{{{kind}_host}}": host, f"{{{kind}_addr}}": address}


def _macro_packet(command: Command, macros: Macros) -> bytes:
    pairs = (text.encode("utf-8", "surrogateescape") for pair in macros.items() for text in pair)
    return packet(Command.MACRO, command.value + strings(*pairs))
