"""A raw SMTP client for tests: says exactly the octets it is given, reads replies, misbehaves."""

import asyncio
import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Self

from tests.waiting import PATIENCE


@dataclass(frozen=True)
class Answer:
    """One reply: its code and its lines as received, code included."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines, CRLF between them."""
        return "\r\n".join(self.lines)

    @property
    def status(self) -> str:
        """The enhanced status code."""
        return self.lines[-1][4:].partition(" ")[0]

    @property
    def reference(self) -> str:
        """What stands behind `(ref`, or nothing."""
        return self.lines[-1].rpartition(" (ref ")[2].rstrip(")") if " (ref " in self.lines[-1] else ""

    def __str__(self) -> str:
        return self.text


class Client:
    """One connection. Use it as `async with Client(port) as client`; the banner is read on entry."""

    def __init__(
        self, port: int, *, source: str = "127.0.0.1", source_port: int = 0, greet: bool = True
    ) -> None:
        self._port = port
        self._source = (source, source_port)
        self._greet = greet
        self.banner: Answer | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, local_addr=self._source
        )
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.banner = await self.reply() if self._greet else None
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def say(self, *octets: bytes) -> None:
        """Send this in one segment."""
        self._writer.write(b"".join(octets))

    async def send(self, octets: bytes) -> None:
        """Send much, as fast as it is taken."""
        self._writer.write(octets)
        async with asyncio.timeout(PATIENCE):
            await self._writer.drain()

    async def line(self, longest: int = 512) -> str:
        """The next line without its CRLF; empty if the gateway closed the connection.

        `longest` is RFC 5321's (section 4.5.3.1.5), unless the test knows better.
        """
        async with asyncio.timeout(PATIENCE):
            octets = await self._reader.readline()
        assert not octets or octets.endswith(b"\r\n"), octets
        assert len(octets) <= longest
        return octets.decode("ascii").removesuffix("\r\n")

    async def reply(self) -> Answer:
        """The next reply. Fails on anything that is none."""
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        assert all(line[:3] == lines[0][:3] and line[:3].isdigit() for line in lines), lines
        return Answer(int(lines[0][:3]), tuple(lines))

    async def replies(self, count: int) -> list[Answer]:
        """So many replies."""
        return [await self.reply() for _ in range(count)]

    async def ask(self, command: str) -> Answer:
        """Say one command line; its reply."""
        self.say(command.encode("latin-1") + b"\r\n")
        return await self.reply()

    async def open(
        self, *recipients: str, sender: str = "s@a.example", helo: str = "EHLO c.example"
    ) -> list[Answer]:
        """Greeting, MAIL and RCPTs, one by one; the replies to RCPT."""
        assert (await self.ask(helo)).code == 250
        return await self.again(*recipients, sender=sender)

    async def again(self, *recipients: str, sender: str = "s@a.example") -> list[Answer]:
        """MAIL and RCPTs of a further transaction; the replies to RCPT."""
        mail = await self.ask(f"MAIL FROM:<{sender}>")
        assert mail.code == 250, mail
        return [await self.ask(f"RCPT TO:<{recipient}>") for recipient in recipients]

    async def data(self, content: bytes) -> Answer:
        """DATA, the content (dots already stuffed) and its end; the decisive reply."""
        go_ahead = await self.ask("DATA")
        assert go_ahead.code == 354, go_ahead
        await self.send(content + b".\r\n")
        return await self.reply()

    async def deliver(self, content: bytes, *recipients: str) -> Answer:
        """A whole message in a session of its own; the decisive reply."""
        for answer in await self.open(*recipients):
            assert answer.code == 250, answer
        return await self.data(content)

    async def is_closed(self) -> bool:
        """Whether the gateway closes the connection, having said nothing more."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, whatever it is."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake behind STARTTLS, with a server called localhost."""
        async with asyncio.timeout(PATIENCE):
            await self._writer.start_tls(context, server_hostname="localhost")

    def half_close(self) -> None:
        """Say that nothing more will come."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Go away with an RST."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Go away with a FIN."""
        self._writer.close()
