"""The MTA's side that other tests rely on: against libmilter, against milters that lie, and by itself."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import ordered_milter
from tests.fakes.milter_delivery import TRACE, Message, delivered
from tests.fakes.milter_mta import MTA
from tests.fakes.milter_protocol import (
    ALL_ACTIONS,
    ALL_STEPS,
    CHUNK,
    NOTHING,
    Actions,
    AddHeader,
    AddRecipient,
    ChangeFrom,
    ChangeHeader,
    Command,
    DeleteRecipient,
    InsertHeader,
    Modification,
    ProtocolError,
    Quarantine,
    ReplaceBody,
    SMTPReply,
    Steps,
    packet,
    read_packet,
)
from tests.fakes.milter_response import Decision, Response

CONTENT = b"Subject:  one\r\n\ttwo\r\nTo:b@example.com\r\n\r\nbody\r\n"
Start = Callable[..., Path]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an ordered milter with these protocol flags and symbol lists; gives its socket."""
    with ExitStack() as stack:

        def started(steps: Steps = NOTHING, symbols: dict[int, str] | None = None) -> Path:
            path = tmp_path / "milter.sock"
            command = [sys.executable, ordered_milter.__file__, f"unix:{path}", str(int(steps))]
            process = stack.enter_context(
                subprocess.Popen([*command, json.dumps(symbols or {})], stdout=subprocess.PIPE)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            return path

        yield started


def orders(*calls: list[Any], decision: str = "continue", at: str = "eom") -> dict[str, str]:
    return {f"{{{at}}}": json.dumps([*calls, decision])}


async def transaction(mta: MTA, content: bytes = CONTENT, macros: dict[str, str] | None = None) -> Response:
    """To two recipients; `macros` are for the end of the message."""
    await mta.mail(b"<a@example.net>", b"SIZE=100")
    await mta.rcpt(b"<b@example.com>", b"NOTIFY=NEVER")
    await mta.rcpt(b"<c@example.com>")
    return await mta.message(content, macros)


async def report(mta: MTA, content: bytes = CONTENT) -> list[list[Any]]:
    """What the milter has seen, at the end of another transaction."""
    end = await transaction(mta, content, macros=orders(["report"]))
    (field,) = end.modifications
    assert isinstance(field, AddHeader)
    seen = json.loads(field.value)
    assert isinstance(seen, list)
    return seen


# Against libmilter


async def test_a_milter_sees_every_step_of_a_transaction(start: Start):
    async with MTA.connect(start()) as mta:
        await mta.greet()
        assert await report(mta) == [
            ["connect", "[192.0.2.1]", 2, ["192.0.2.1", 49152]],
            ["helo", "client.example"],
            ["envfrom", "<a@example.net>", "SIZE=100"],
            ["envrcpt", "<b@example.com>", "NOTIFY=NEVER"],
            ["envrcpt", "<c@example.com>"],
            ["data"],
            ["header", "Subject", " one\n\ttwo"],
            ["header", "To", "b@example.com"],
            ["eoh"],
            ["body", "body\r\n"],
            ["eom"],
        ]


async def test_the_second_transaction_is_like_the_first(start: Start):
    async with MTA.connect(start()) as mta:
        await mta.greet()
        first = await report(mta)
        await mta.mail(b"<>")
        await mta.rcpt(b"<d@example.com>")
        end = await mta.message(b"", macros=orders(["report"]))
    (field,) = end.modifications
    assert isinstance(field, AddHeader)
    steps = json.loads(field.value)[len(first) :]
    assert steps == [["envfrom", "<>"], ["envrcpt", "<d@example.com>"], ["data"], ["eoh"], ["eom"]]
    assert mta.delivered(end).recipients == (b"d@example.com",)


@pytest.mark.parametrize(
    ("client", "seen"),
    [
        (("192.0.2.9", "mx.example", 25), ["connect", "mx.example", 2, ["192.0.2.9", 25]]),
        (("2001:db8::1", "", 26), ["connect", "[2001:db8::1]", 10, ["2001:db8::1", 26, 0, 0]]),
        (("/var/run/x", "localhost", 0), ["connect", "localhost", 1, "/var/run/x"]),
        (("", "unknown", 0), ["connect", "unknown", 0, None]),
    ],
)
async def test_a_client_of_every_family_arrives(start: Start, client: tuple[str, str, int], seen: list[Any]):
    async with MTA.connect(start()) as mta:
        assert (await mta.client(*client)).is_continue
        assert (await report(mta))[0] == seen


@pytest.mark.parametrize("is_on", [True, False])
async def test_leading_space_is_sent_and_understood_as_negotiated(start: Start, is_on: bool):
    call = ["addheader", "X-A", " 1" if is_on else "1"]
    async with MTA.connect(start(Steps.HDR_LEADSPC if is_on else NOTHING)) as mta:
        await mta.greet()
        assert mta.has_leading_space is is_on
        seen = await report(mta)
        await mta.mail(b"<>")
        await mta.rcpt(b"<b@example.com>")
        end = await mta.message(CONTENT, macros=orders(call))
    assert ["header", "Subject", "  one\n\ttwo" if is_on else " one\n\ttwo"] in seen
    assert ["header", "To", "b@example.com"] in seen
    assert mta.delivered(end).content == CONTENT.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\n\r\n")


SILENT = [flag for flag in Steps if flag.name is not None and flag.name.startswith("NR_")]
UNWANTED = [flag for flag in Steps if flag.name is not None and flag.name.startswith("NO")]
BY_STEP = {
    "CONN": "connect",
    "CONNECT": "connect",
    "HELO": "helo",
    "MAIL": "envfrom",
    "RCPT": "envrcpt",
    "DATA": "data",
    "UNKN": "unknown",
    "UNKNOWN": "unknown",
    "HDR": "header",
    "HDRS": "header",
    "EOH": "eoh",
    "BODY": "body",
}


def step_of(flag: Steps) -> str:
    assert flag.name is not None
    return BY_STEP[flag.name.removeprefix("NR_").removeprefix("NO")]


async def each_step(mta: MTA) -> dict[str, Response]:
    """The responses to one of each kind."""
    return {
        "connect": await mta.client("192.0.2.1"),
        "helo": await mta.helo(b"client.example"),
        "unknown": await mta.unknown(b"NONSENSE"),
        "envfrom": await mta.mail(b"<a@example.net>"),
        "envrcpt": await mta.rcpt(b"<b@example.com>"),
        "data": await mta.data(),
        "header": await mta.header(b"Subject", b"x"),
        "eoh": await mta.eoh(),
        "body": await mta.body(b"x\r\n"),
        "eom": await mta.end(),
    }


@pytest.mark.parametrize("flag", [NOTHING, *SILENT])
async def test_no_reply_is_awaited_where_none_was_negotiated(start: Start, flag: Steps):
    async with MTA.connect(start(flag)) as mta:
        assert mta.negotiated.steps == flag
        responses = await each_step(mta)
    for step, response in responses.items():
        is_silent = flag and step == step_of(flag)
        assert response.decision is (Decision.NO_REPLY if is_silent else Decision.CONTINUE)


async def test_no_reply_is_awaited_at_all(start: Start):
    async with MTA.connect(start(Steps(sum(SILENT)))) as mta:
        responses = await each_step(mta)
    assert responses.pop("eom").is_continue
    assert {response.decision for response in responses.values()} == {Decision.NO_REPLY}


@pytest.mark.parametrize("flag", UNWANTED)
async def test_a_step_that_is_not_wanted_is_not_sent(start: Start, flag: Steps):
    async with MTA.connect(start(flag)) as mta:
        responses = await each_step(mta)
        await mta.abort()
        seen = await report(mta)
    assert responses[step_of(flag)].decision is Decision.NOT_SENT
    assert sum(response.is_continue for response in responses.values()) == len(responses) - 1
    assert step_of(flag) not in [step[0] for step in seen]


async def test_what_is_not_offered_is_not_asked_for(start: Start):
    offer = ALL_STEPS & ~Steps.HDR_LEADSPC & ~Steps.NR_BODY
    async with MTA.connect(start(ALL_STEPS), steps=offer, actions=ALL_ACTIONS & ~Actions.SETSYMLIST) as mta:
        assert not mta.negotiated.steps & ~offer
        assert not mta.has_leading_space


async def test_after_skip_no_more_of_the_body_is_sent(start: Start):
    async with MTA.connect(start(Steps.SKIP)) as mta:
        await mta.client("192.0.2.1", macros=orders(decision="skip", at="body"))
        seen = await report(mta, b"A: b\r\n\r\n" + b"x" * 3 * CHUNK)
        assert [step[0] for step in seen].count("body") == 1
        await mta.mail(b"<>")
        await mta.rcpt(b"<b@example.com>")
        await mta.data()
        await mta.eoh()
        assert (await mta.body(b"x")).decision is Decision.SKIP
        assert (await mta.body(b"y")).decision is Decision.NOT_SENT


async def test_a_long_body_arrives_whole_in_chunks(start: Start):
    body = (b"x" * 998 + b"\r\n") * 200
    async with MTA.connect(start(Steps(sum(SILENT)))) as mta:
        await mta.greet()
        seen = await report(mta, b"\r\n" + body)
    expected = [body[start : start + CHUNK] for start in range(0, len(body), CHUNK)]
    assert [step[1] for step in seen if step[0] == "body"] == [*map(ordered_milter.summary, expected)]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (["addheader", "X-A", "1"], AddHeader(b"X-A", b"1")),
        (["addheader", "X-A", "1\n\t2"], AddHeader(b"X-A", b"1\n\t2")),
        (["addheader", "X-A", "1", 3], InsertHeader(3, b"X-A", b"1")),
        (["chgheader", "Subject", 1, "x"], ChangeHeader(1, b"Subject", b"x")),
        (["chgheader", "Subject", 2, None], ChangeHeader(2, b"Subject", b"")),
        (["addrcpt", "<d@example.com>"], AddRecipient(b"<d@example.com>")),
        (
            ["addrcpt", "<d@example.com>", "NOTIFY=NEVER"],
            AddRecipient(b"<d@example.com>", b"NOTIFY=NEVER"),
        ),
        (["delrcpt", "<b@example.com>"], DeleteRecipient(b"<b@example.com>")),
        (["chgfrom", "<d@example.com>", "RET=HDRS"], ChangeFrom(b"<d@example.com>", b"RET=HDRS")),
        (["chgfrom", "<d@example.com>"], ChangeFrom(b"<d@example.com>")),
        (["replacebody", "new\r\n", 1], ReplaceBody(b"new\r\n")),
        (["quarantine", "for a reason"], Quarantine(b"for a reason")),
    ],
)
async def test_every_modification_is_read(start: Start, call: list[Any], expected: Modification):
    async with MTA.connect(start()) as mta:
        await mta.greet()
        end = await transaction(mta, macros=orders(call, ["progress"], decision="accept"))
    assert (end.modifications, end.progress, end.decision) == ((expected,), 1, Decision.ACCEPT)


async def test_modifications_are_read_in_their_order_and_carried_out(start: Start):
    calls = [["addheader", "X-A", "1"], ["delrcpt", "<b@example.com>"], ["chgheader", "X-A", 1, "2"]]
    calls += [["replacebody", "n", CHUNK + 1], ["quarantine", "why"]]
    async with MTA.connect(start()) as mta:
        await mta.greet()
        end = await transaction(mta, macros=orders(*calls))
    delivery = mta.delivered(end)
    assert [len(c.chunk) for c in end.modifications if isinstance(c, ReplaceBody)] == [CHUNK, 1]
    assert delivery.message.body == b"n" * (CHUNK + 1) + b"\r\n"
    assert delivery.values(b"x-a") == [b"2"]
    assert delivery.recipients == (b"c@example.com",)
    assert (delivery.sender, delivery.held, delivery.is_discarded) == (b"a@example.net", "why", False)


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (["setreply", "550", "5.7.1", "no"], SMTPReply(550, "5.7.1", ("no",))),
        (["setreply", "451", "4.7.1", "50%% done"], SMTPReply(451, "4.7.1", ("50% done",))),
        (["setreply", "554", "5.6.0", "no", "not", "never"], SMTPReply(554, "5.6.0", ("no", "not", "never"))),
        (["setreply", "550", None, "plain"], SMTPReply(550, "", ("plain",))),
    ],
)
@pytest.mark.parametrize("step", ["envfrom", "envrcpt", "data", "header", "eoh", "body", "eom"])
async def test_a_reply_is_read_with_all_its_lines(start: Start, call: list[Any], reply: SMTPReply, step: str):
    decision = "reject" if reply.code >= 500 else "tempfail"
    async with MTA.connect(start()) as mta:
        await mta.client("192.0.2.1", macros=orders(call, decision=decision, at=step))
        response = await mta.mail(b"<a@example.net>")
        if response.goes_on:
            response = await mta.rcpt(b"<b@example.com>")
        if response.goes_on:
            response = await mta.message(CONTENT)
    assert response.decision is Decision(decision)
    assert response.reply == response.set_reply == reply


@pytest.mark.parametrize(
    ("decision", "code"), [("accept", None), ("discard", None), ("reject", 550), ("tempfail", 451)]
)
async def test_a_decision_on_the_message_is_one_on_the_message_only(
    start: Start, decision: str, code: int | None
):
    async with MTA.connect(start()) as mta:
        await mta.greet()
        end = await transaction(mta, macros=orders(decision=decision))
        assert end.decision is Decision(decision)
        if code is not None:
            assert end.reply.code == code
            with pytest.raises(AssertionError, match="refused"):
                mta.delivered(end)
        else:
            assert mta.delivered(end).is_discarded is end.is_discard
            assert bool(mta.delivered(end).recipients) is end.is_accept
            with pytest.raises(AssertionError, match="no reply"):
                assert end.reply
        assert (await mta.mail(b"<>", macros=orders())).is_continue


@pytest.mark.parametrize("decision", ["accept", "discard"])
async def test_what_was_decided_early_is_not_asked_again(start: Start, decision: str):
    async with MTA.connect(start()) as mta:
        await mta.greet()
        await mta.mail(b"<a@example.net>", macros=orders(decision=decision, at="envrcpt"))
        assert (await mta.rcpt(b"<b@example.com>")).decision is Decision(decision)
        end = await mta.message(CONTENT)
        assert end.decision is Decision.NOT_SENT
        assert mta.delivered(end).is_discarded is (decision == "discard")
        assert (await mta.mail(b"<>", macros=orders(at="envrcpt"))).is_continue


@pytest.mark.parametrize(
    ("decision", "later"),
    [("accept", Decision.NOT_SENT), ("reject", Decision.REJECT), ("tempfail", Decision.TEMPFAIL)],
)
@pytest.mark.parametrize("step", ["connect", "helo"])
async def test_a_decision_on_the_session_holds_for_all_of_it(
    start: Start, decision: str, later: Decision, step: str
):
    async with MTA.connect(start()) as mta:
        response = await mta.client("192.0.2.1", macros=orders(decision=decision, at=step))
        if step == "helo":
            response = await mta.helo(b"client.example")
        assert response.decision is Decision(decision)
        assert mta.is_closed
        assert (await mta.mail(b"<a@example.net>")).decision is later
        assert (await mta.message(CONTENT)).decision is later


async def test_only_wanted_macros_are_sent(start: Start):
    async with MTA.connect(start(symbols={0: "j v", 5: "i"})) as mta:
        await mta.greet()
        assert mta.negotiated.symbols[Command.CONNECT] == ("j", "v")
        assert mta.negotiated.symbols[Command.BODY] == mta.negotiated.symbols[Command.BODYEOB] == ("i",)
        assert Command.MAIL not in mta.negotiated.symbols
        end = await transaction(mta, macros=orders())
        assert end.is_continue


async def test_one_connection_serves_several_clients(start: Start):
    async with MTA.connect(start()) as mta:
        await mta.greet()
        await mta.mail(b"<>")
        await mta.rcpt(b"<b@example.com>")
        await mta.eoh()
        await mta.end()
        await mta.quit_nc()
        assert (await mta.client("192.0.2.2")).is_continue
        seen = await report(mta)
    assert ["connect", "[192.0.2.2]", 2, ["192.0.2.2", 49152]] in seen


async def test_a_milter_lives_on_after_an_mta_that_went_away(start: Start):
    path = start()
    async with MTA.connect(path) as mta:
        await mta.greet()
        await mta.send(packet(Command.MAIL, b"<a@example.net>\0")[:-3])
        await mta.close()
    async with MTA.connect(path) as mta:
        assert (await mta.greet()).is_continue


# Against milters that lie


@asynccontextmanager
async def liar(*answers: bytes, negotiation: bytes | None = None) -> AsyncIterator[tuple[str, int]]:
    """A milter that answers one packet after the other with these octets, then is silent; ends at quit."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = b"\0\0\0\6" + int(ALL_ACTIONS).to_bytes(4) + b"\0\0\0\0"
        said = iter([packet(b"O", negotiation or accepted), *answers])
        while (found := await read_packet(reader)) is not None and found[0] != b"Q":
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


# The message


WORDS = st.sampled_from([b"A", b"Subject", b" ", b"\t", b":", b"\r\n", b"\n", b"\r", b"\0", b"\xfc", b"text"])
OCTETS = st.lists(WORDS, max_size=30).map(b"".join)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1)
TEXTS = st.binary(max_size=20).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
VALUES = st.lists(TEXTS, min_size=1, max_size=3).map(b"\r\n\t".join)
FIELDS = st.builds(lambda name, value: name.encode() + b":" + value + b"\r\n", NAMES, VALUES)
LINES = st.lists(TEXTS.map(lambda text: text + b"\r\n"), max_size=4).map(b"".join)


@given(st.lists(FIELDS, max_size=5), LINES)
def test_a_message_of_an_mta_is_split_and_put_together_again(fields: list[bytes], body: bytes):
    octets = b"".join(fields) + b"\r\n" + body
    message = Message.of(octets)
    assert [field.octets for field in message.fields] == fields
    assert (message.body, message.octets) == (body, octets)


@given(OCTETS)
def test_any_octets_are_a_message_from_then_on(octets: bytes):
    message = Message.of(octets)
    assert Message.of(message.octets) == message
    assert all(field.name for field in message.fields)


@pytest.mark.parametrize(
    ("octets", "fields", "body"),
    [
        (b"", [], None),
        (b"A: b", [b"A: b\r\n"], None),
        (b"A: b\r\n\r\n", [b"A: b\r\n"], b""),
        (b"A: b\n\nc\n", [b"A: b\r\n"], b"c\r\n"),
        (b"A \t: b\r\n c\r\n\r\n", [b"A: b\r\n c\r\n"], b""),
        (b"A: b\r\ntext\r\n", [b"A: b\r\n"], b"text\r\n"),
        (b" A: b\r\n", [], b" A: b\r\n"),
        (b"A B: c\r\n", [], b"A B: c\r\n"),
        (b"A: b\r\n \r\nC: d\r\n", [b"A: b\r\n \r\n", b"C: d\r\n"], None),
        (b"\r\n\r\nx", [], b"\r\nx\r\n"),
    ],
)
def test_octets_are_split_as_an_mta_does(octets: bytes, fields: list[bytes], body: bytes | None):
    message = Message.of(octets)
    assert ([field.octets for field in message.fields], message.body) == (fields, body)


# What is delivered

HEADER = b"A: 1\r\nB: 2\r\na: 3\r\n"


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ([], b"A: 1\r\nB: 2\r\na: 3\r\n"),
        ([AddHeader(b"A", b"4")], b"A: 1\r\nB: 2\r\na: 3\r\nA: 4\r\n"),
        ([AddHeader(b"A", b"4\n 5\n6")], b"A: 1\r\nB: 2\r\na: 3\r\nA: 4\r\n 5\r\n\t6\r\n"),
        ([AddHeader(b"A", b"")], b"A: 1\r\nB: 2\r\na: 3\r\nA: \r\n"),
        ([InsertHeader(1, b"C", b"4")], b"C: 4\r\nA: 1\r\nB: 2\r\na: 3\r\n"),
        ([InsertHeader(2, b"C", b"4")], b"A: 1\r\nC: 4\r\nB: 2\r\na: 3\r\n"),
        ([InsertHeader(99, b"C", b"4")], b"A: 1\r\nB: 2\r\na: 3\r\nC: 4\r\n"),
        ([InsertHeader(1, b"C", b"4"), InsertHeader(1, b"D", b"5")], b"D: 5\r\nC: 4\r\n" + HEADER),
        ([ChangeHeader(1, b"a", b"x")], b"a: x\r\nB: 2\r\na: 3\r\n"),
        ([ChangeHeader(2, b"A", b"x")], b"A: 1\r\nB: 2\r\nA: x\r\n"),
        ([ChangeHeader(0, b"A", b"x")], b"A: x\r\nB: 2\r\na: 3\r\n"),
        ([ChangeHeader(3, b"A", b"x")], b"A: 1\r\nB: 2\r\na: 3\r\nA: x\r\n"),
        ([ChangeHeader(1, b"A", b"")], b"B: 2\r\na: 3\r\n"),
        ([ChangeHeader(3, b"A", b"")], HEADER),
        ([ChangeHeader(1, b"A", b""), ChangeHeader(1, b"A", b"")], b"B: 2\r\n"),
        ([ChangeHeader(1, b"A", b""), ChangeHeader(2, b"A", b"x")], b"B: 2\r\na: 3\r\nA: x\r\n"),
        ([AddHeader(b"A", b"4"), ChangeHeader(3, b"A", b"x")], b"A: 1\r\nB: 2\r\na: 3\r\nA: x\r\n"),
        ([InsertHeader(0, b"A", b"0"), ChangeHeader(2, b"A", b"x")], b"A: 0\r\nA: x\r\nB: 2\r\na: 3\r\n"),
        ([ChangeHeader(1, b"Received", b"")], HEADER),
        ([ChangeHeader(1, b"Received", b"x")], HEADER + b"Received: x\r\n"),
    ],
)
def test_header_fields_are_changed_as_postfix_does(changes: list[Modification], header: bytes):
    assert delivered(HEADER + b"\r\nbody\r\n", changes).content == header + b"\r\nbody\r\n"


def test_positions_count_the_received_field_of_the_mta():
    changes = [InsertHeader(0, b"C", b"4"), InsertHeader(2, b"D", b"5")]
    delivery = delivered(HEADER + b"\r\n", changes)
    assert [field.name for field in delivery.queued.fields] == [b"C", b"Received", b"D", b"A", b"B", b"a"]
    assert delivery.queued.fields[1] is TRACE
    assert [field.name for field in delivery.message.fields] == [b"C", b"D", b"A", b"B", b"a"]


def test_a_value_brings_its_leading_space_where_that_was_negotiated():
    changes = [AddHeader(b"C", b"4"), InsertHeader(1, b"D", b"\t5"), ChangeHeader(1, b"B", b" 6")]
    header = b"D:\t5\r\nA: 1\r\nB: 6\r\na: 3\r\nC:4\r\n"
    assert delivered(HEADER + b"\r\n", changes, leading_space=True).content == header + b"\r\n"


@pytest.mark.parametrize(
    ("chunks", "body"),
    [
        ([b"new\r\n"], b"new\r\n"),
        ([b"new\r", b"\nmore"], b"new\r\nmore\r\n"),
        ([b"a\nb\rc\r\n"], b"a\r\nb\rc\r\n"),
        ([b"\r\nA: b\r\n"], b"\r\nA: b\r\n"),
        ([b""], b""),
    ],
)
def test_a_body_is_replaced_as_a_whole(chunks: list[bytes], body: bytes):
    changes = [ReplaceBody(chunk) for chunk in chunks]
    assert delivered(b"A: 1\r\n\r\nold\r\n", changes).content == b"A: 1\r\n\r\n" + body
    assert delivered(b"A: 1\r\n", changes).content == b"A: 1\r\n\r\n" + body


@pytest.mark.parametrize(
    ("changes", "recipients"),
    [
        ([], (b"b@x", b"c@x")),
        ([AddRecipient(b"<d@x>")], (b"b@x", b"c@x", b"d@x")),
        ([AddRecipient(b"b@x")], (b"b@x", b"c@x")),
        ([AddRecipient(b"<>")], (b"b@x", b"c@x")),
        ([DeleteRecipient(b"b@x")], (b"c@x",)),
        ([DeleteRecipient(b"<B@x>")], (b"b@x", b"c@x")),
        ([DeleteRecipient(b"<b@x>"), AddRecipient(b"<b@x>")], (b"c@x", b"b@x")),
        ([DeleteRecipient(b"<b@x>"), DeleteRecipient(b"<c@x>")], ()),
    ],
)
def test_recipients_are_changed(changes: list[Modification], recipients: tuple[bytes, ...]):
    delivery = delivered(b"", changes, sender=b"<a@x>", recipients=[b"<b@x>", b"<c@x>", b"<b@x>"])
    assert (delivery.sender, delivery.recipients) == (b"a@x", recipients)


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ([], ""),
        ([Quarantine(b"one"), Quarantine(b"two")], "two"),
        ([Quarantine(b"")], "milter triggers HOLD action"),
        ([Quarantine(b"x" * 200)], "x" * 100),
    ],
)
def test_a_message_is_held(changes: list[Modification], held: str):
    assert delivered(b"", changes, recipients=[b"<b@x>"]).held == held


def test_nobody_gets_a_discarded_message():
    delivery = delivered(b"", [Quarantine(b"why")], recipients=[b"<b@x>"], is_discarded=True)
    assert (delivery.recipients, delivery.held, delivery.is_discarded) == ((), "", True)


def test_the_sender_is_changed():
    assert delivered(b"", [ChangeFrom(b"<z@x>", b"RET=HDRS")], sender=b"<a@x>").sender == b"z@x"
