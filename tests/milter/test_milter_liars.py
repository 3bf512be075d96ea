"""The MTA's side that other tests rely on: what it sends, and the lies of a milter that it finds."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fakes.milter_mta import MTA
from tests.fakes.milter_protocol import (
    ALL_ACTIONS,
    Command,
    ProtocolError,
    Steps,
    packet,
    read_packet,
)


@asynccontextmanager
async def liar(
    *answers: bytes, negotiation: bytes | None = None, heard: list[bytes] | None = None
) -> AsyncIterator[tuple[str, int]]:
    """A milter that answers one packet after the other with these octets, then is silent; ends at quit.

    `heard` gets every packet's octet and data.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = b"\0\0\0\6" + int(ALL_ACTIONS).to_bytes(4) + b"\0\0\0\0"
        said = iter([packet(b"O", negotiation or accepted), *answers])
        while (found := await read_packet(reader)) is not None and found[0] != b"Q":
            if heard is not None:
                heard.append(b"".join(found))
            writer.write(next(said, b"") if found[0] not in (b"D", b"A") else b"")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[:2]


CONTINUE = packet(b"c")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (packet(b"z"), "an answer b'z'"),
        (packet(b"l"), "an answer b'l'"),
        (b"\0\0\0\0", "a packet of 0 octets"),
        (b"\x7f\0\0\0", "a packet of"),
        (packet(b"c", b"\0"), "with data"),
        (packet(b"p", b"\0"), "with data"),
        (packet(b"s"), "skip was not negotiated"),
        (packet(b"h", b"A\0b"), "does not end with NUL"),
        (packet(b"h", b"A\0"), "1 strings"),
        (packet(b"m", b"\0\0\0\1\0b\0"), "without a name"),
        (packet(b"y", b"550 5.7.1 no"), "does not end with NUL"),
        (packet(b"y", b"250 2.0.0 yes\0"), "is not an SMTP reply"),
        (packet(b"y", b"550-no\0"), "is not an SMTP reply"),
        (packet(b"y", b"550 no\r\n550 no\0"), "is not an SMTP reply"),
        (packet(b"y", b"550-no\r\n551 no\0"), "is not an SMTP reply"),
        (packet(b"y", b"550 no\n\0"), "is not an SMTP reply"),
        (packet(b"y", b"550 4.7.1 no\0"), "contradict each other"),
        (packet(b"y", b"550-5.7.1 no\r\n550 5.7.2 no\0"), "differ in their status"),
        (packet(b"b", b"x") + packet(b"p") + packet(b"b", b"y"), "between the chunks"),
        (packet(b"b", b"x") + packet(b"q", b"y\0") + packet(b"b", b"y"), "between the chunks"),
    ],
)
async def test_a_lie_at_the_end_of_the_message_is_found(answer: bytes, said: str):
    async with liar(answer + CONTINUE) as address:
        with pytest.raises(ProtocolError, match=re.escape(said)):
            async with MTA.connect(address) as mta:
                await mta.end()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (packet(b"h", b"A\0b\0"), "in answer to Command.CONNECT"),
        (packet(b"q", b"why\0"), "in answer to Command.CONNECT"),
        (packet(b"d"), "no message yet"),
        (CONTINUE + CONTINUE, "nobody had asked"),
    ],
)
async def test_a_lie_about_the_client_is_found(answer: bytes, said: str):
    async with liar(answer) as address:
        with pytest.raises(ProtocolError, match=re.escape(said)):
            async with MTA.connect(address) as mta:
                await mta.client("192.0.2.1")


@pytest.mark.parametrize(
    ("negotiation", "said"),
    [
        (b"\0\0\0\7" + b"\0" * 8, "beyond what was offered"),
        (b"\0\0\0\6" + b"\0\0\2\0" + b"\0" * 4, "beyond what was offered"),
        (b"\0\0\0\6" + b"\0" * 4 + b"\0\x20\0\0", "beyond what was offered"),
        (b"\0\0\0\6", "a negotiation of 4 octets"),
        (b"\0\0\0\6" + b"\0" * 8 + b"\0\0\0\7i\0", "a symbol list 7"),
        (b"\0\0\0\6" + b"\0" * 8 + b"\0\0\0\1i", "a symbol list 1"),
    ],
)
async def test_a_lie_in_the_negotiation_is_found(negotiation: bytes, said: str):
    async with liar(negotiation=negotiation) as address:
        with pytest.raises(ProtocolError, match=re.escape(said)):
            async with MTA.connect(address):
                raise AssertionError("negotiated")


async def test_a_modification_that_was_not_negotiated_is_found():
    async with liar(packet(b"q", b"why\0") + CONTINUE, negotiation=b"\0\0\0\6" + b"\0" * 8) as address:
        with pytest.raises(ProtocolError, match="was not negotiated"):
            async with MTA.connect(address) as mta:
                await mta.end()


@pytest.mark.parametrize(("answer", "code"), [(b"4", 421), (b"f", 451)])
async def test_a_milter_that_shuts_down_is_asked_no_more(answer: bytes, code: int):
    async with liar(CONTINUE, packet(answer)) as address, MTA.connect(address) as mta:
        await mta.client("192.0.2.1")
        assert (await mta.mail(b"<>")).reply.code == code
        assert mta.is_closed
        assert (await mta.rcpt(b"<b@example.com>")).reply.code == code


async def test_a_milter_that_closes_is_an_end_of_file():
    async with liar() as address, MTA.connect(address) as mta:
        await mta.send(packet(Command.QUIT))
        with pytest.raises(EOFError):
            await mta.client("192.0.2.1")
        await mta.close()


ALL_SILENT = int(Steps(sum(f for f in Steps if f.name and f.name.startswith("NR_")))).to_bytes(4)


@pytest.mark.parametrize(
    ("has_macros", "symbols", "macros"),
    [
        (
            True,
            b"",
            [
                b"DCj\0mx.example\0{daemon_name}\0mx.example\0v\0Postfix\0",
                b"DM{mail_mailer}\0smtp\0{mail_host}\0b\0{mail_addr}\0a@b\0x\0y\0",
            ],
        ),
        (True, b"\0\0\0\0v j\0\0\0\0\2\0", [b"DCj\0mx.example\0v\0Postfix\0", b"DMx\0y\0"]),
        (False, b"", [b"DMx\0y\0"]),
    ],
)
async def test_macros_are_sent_as_wanted(has_macros: bool, symbols: bytes, macros: list[bytes]):
    heard: list[bytes] = []
    negotiation = b"\0\0\0\6" + int(ALL_ACTIONS).to_bytes(4) + ALL_SILENT + symbols
    async with (
        liar(negotiation=negotiation, heard=heard) as address,
        MTA.connect(address, has_macros=has_macros) as mta,
    ):
        await mta.client("192.0.2.1")
        await mta.mail(b"<a@b>", macros={"x": "y"})
    assert [each for each in heard if each[:1] == b"D"] == macros


async def test_a_transaction_is_aborted_before_the_end():
    heard: list[bytes] = []
    negotiation = b"\0\0\0\6" + b"\0" * 4 + ALL_SILENT
    async with (
        liar(negotiation=negotiation, heard=heard) as address,
        MTA.connect(address, has_macros=False) as mta,
    ):
        await mta.mail(b"<>")
    assert heard[1:] == [b"M<>\0", b"A"]
