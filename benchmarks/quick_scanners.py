"""`quick_scanners.py CLAMD_PORT VIRUS SPAMD_PORT SPAM`: two scanners that know one string each.

They speak clamd's and spamd's protocols as clamav-milter, spamc and the gateway use them, and answer at
once: behind them it can be seen what a milter itself costs. They judge nothing. Standard library only.
"""

import asyncio
import sys

_LOOPBACK = "127.0.0.1"
_BACKLOG = 1000
_THRESHOLD = 5.0


class QuickClamd:
    """PING and INSTREAM, in their NUL and their newline form; finds `virus`."""

    def __init__(self, virus: bytes) -> None:
        self._virus = virus

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which is one question."""
        end = {b"z": b"\0", b"n": b"\n"}[await reader.readexactly(1)]
        command = (await reader.readuntil(end))[:-1]
        answer = b"PONG" if command == b"PING" else self.scan(await _streamed(reader))
        await _say(writer, answer + end)

    def scan(self, content: bytes) -> bytes:
        """What clamd says of such a stream."""
        return b"stream: quick FOUND" if self._virus in content else b"stream: OK"


class QuickSpamd:
    """PING, SYMBOLS and PROCESS; gives `spam` a high score."""

    def __init__(self, spam: bytes) -> None:
        self._spam = spam

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which is one question."""
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        command = line.partition(" ")[0]
        if command == "PING":
            await _say(writer, b"SPAMD/1.5 0 PONG\r\n")
            return
        named = dict(field.lower().split(": ", 1) for field in fields if field)
        content = await reader.readexactly(int(named["content-length"]))
        await _say(writer, self.judge(command, content))

    def judge(self, command: str, content: bytes) -> bytes:
        """What spamd says: to PROCESS the message with its fields on top, to SYMBOLS the names of rules."""
        score, rules = (1000.0, "GTUBE") if self._spam in content else (0.0, "none")
        is_spam = score >= _THRESHOLD
        status = f"{'Yes' if is_spam else 'No'}, score={score:.1f} required={_THRESHOLD:.1f} tests={rules}"
        fields = f"X-Spam-Checker-Version: quick\r\nX-Spam-Status: {status}\r\n".encode()
        body = fields + content if command == "PROCESS" else rules.encode()
        spam = f"Spam: {is_spam} ; {score:.1f} / {_THRESHOLD:.1f}"
        return f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(body)}\r\n{spam}\r\n\r\n".encode() + body


async def _streamed(reader: asyncio.StreamReader) -> bytes:
    chunks = []
    while length := int.from_bytes(await reader.readexactly(4), "big"):
        chunks.append(await reader.readexactly(length))
    return b"".join(chunks)


async def _say(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer)
    await writer.drain()
    writer.close()


async def _serve(clamd_port: int, virus: bytes, spamd_port: int, spam: bytes) -> None:
    """Both, until a signal ends the process."""
    clamd, spamd = QuickClamd(virus).serve, QuickSpamd(spam).serve
    servers = [
        await asyncio.start_server(clamd, _LOOPBACK, clamd_port, backlog=_BACKLOG),
        await asyncio.start_server(spamd, _LOOPBACK, spamd_port, backlog=_BACKLOG),
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]), sys.argv[4].encode()))
