"""The MTA's side that other tests rely on, against Debian's libmilter."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import ordered_milter
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
    Quarantine,
    ReplaceBody,
    SMTPReply,
    Steps,
    packet,
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


def orders(*calls: Sequence[Any], decision: str = "continue", at: str = "eom") -> dict[str, str]:
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
    calls: list[list[Any]] = [
        ["addheader", "X-A", "1"],
        ["delrcpt", "<b@example.com>"],
        ["chgheader", "X-A", 1, "2"],
    ]
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


async def test_symbol_lists_are_read(start: Start):
    async with MTA.connect(start(symbols={0: "j v", 5: "i"})) as mta:
        assert mta.negotiated.symbols[Command.CONNECT] == ("j", "v")
        assert mta.negotiated.symbols[Command.BODY] == mta.negotiated.symbols[Command.BODYEOB] == ("i",)
        assert Command.MAIL not in mta.negotiated.symbols


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
