"""What the client hears, and the record says, when the downstream MTA does not play its part."""

from pathlib import Path

import pytest

import gateway.relay.client
import gateway.relay.pool
from filters.testing.server import BlackHole, Nobody
from tests.client import Client
from tests.fakes.mta import (
    EXTENSIONS,
    Act,
    FakeMTA,
    Gate,
    Talk,
    accept,
    correctly,
    deaf,
    drop,
    endless,
    hang,
    reset,
    say,
    say_and_drop,
    say_and_finish,
    say_and_stop,
)
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import destination
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1, U2, U3, U4 = (f"u{number}@our.example" for number in range(1, 5))
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 40_000


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time-outs towards the downstream that a test can wait for."""
    for name in ("CONNECT_TIMEOUT", "GREETING_TIMEOUT", "COMMAND_TIMEOUT"):
        monkeypatch.setattr(gateway.relay.client, name, 0.5)


# At RCPT, where everything up to the downstream's RCPT happens.

BROKEN = {"drop": drop, "reset": reset, "garbage": say("whatever"), "hang": hang}


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("stage", ["banner", "EHLO", "MAIL", "RCPT"])
@pytest.mark.parametrize("act", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("extensions", [EXTENSIONS, ()], ids=["pipelining", "plain"])
async def test_a_downstream_that_breaks_off_defers_the_recipient(
    start_gateway: GatewayStarter, mta: FakeMTA, stage: str, act, extensions
):
    mta.script[stage] = act
    mta.extensions = extensions
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
        assert str(answer).startswith("451 4.4.1 ")
        assert (await client.ask("DATA")).code == 554

    (record,) = gateway.records
    assert (record.verdict, record.stage, record.reason) == ("tempfailed", "rcpt", "downstream-unavailable")
    assert record.reference == answer.reference
    assert mta.address in record.detail
    assert not mta.messages


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("stage", ["banner", "EHLO", "MAIL", "RCPT"])
async def test_an_endless_reply_is_bounded(start_gateway: GatewayStarter, mta: FakeMTA, stage: str):
    mta.script[stage] = endless(b"250-and another thing\r\n")
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
    assert answer.status == "4.4.1"


@pytest.mark.usefixtures("short_patience")
async def test_nobody_there_defers_the_recipient(start_gateway: GatewayStarter):
    with Nobody() as nobody, BlackHole() as hole:
        gateway = await start_gateway([destination(nobody.address, hole.address)])
        async with Client(gateway.port) as client:
            (answer,) = await client.open(U1)
    assert answer.status == "4.4.1"
    assert "Connection refused" in gateway.records[0].detail
    assert "no connection within" in gateway.records[0].detail


async def test_the_next_address_is_tried_where_the_first_is_dead(start_gateway: GatewayStarter, mta: FakeMTA):
    with Nobody() as nobody:
        gateway = await start_gateway([destination(nobody.address, mta.address)])
        async with Client(gateway.port) as client:
            assert (await client.deliver(MESSAGE, U1)).code == 250
    assert gateway.records[0].downstream.address == mta.address


async def test_a_downstream_on_a_unix_socket(start_gateway: GatewayStarter, tmp_path: Path):
    async with FakeMTA(unix=str(tmp_path / "mta")) as unix:
        gateway = await start_gateway([destination(unix.address)])
        async with Client(gateway.port) as client:
            assert (await client.deliver(MESSAGE, U1)).code == 250
        assert unix.messages[0].content.endswith(MESSAGE)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("451 4.3.0 Not now", "451 4.3.0 Not now (ref "),
        ("452 4.3.1 Disk full", "452 4.3.1 Disk full (ref "),
        ("550 5.7.1 Go away", "550 5.7.1 Go away (ref "),
        ("552 5.3.4 Too big", "552 5.3.4 Too big (ref "),
        ("555 Never heard of it", "555 5.0.0 Never heard of it (ref "),
        ("421 4.3.2 Closing", "451 4.4.1 "),
    ],
)
async def test_a_refusal_of_mail_is_passed_on_at_rcpt(
    start_gateway: GatewayStarter, mta: FakeMTA, reply: str, expected: str
):
    mta.script["MAIL"] = [say(reply)]
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
        assert str(answer).startswith(expected)
        # And the next attempt is one from the beginning.
        await client.ask("RSET")
        assert (await client.again(U1))[0].code == 250
        assert (await client.data(MESSAGE)).code == 250
    assert [record.verdict for record in gateway.records][1:] == ["accepted"]


async def test_each_recipient_gets_the_downstreams_own_reply(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script |= {
        f"RCPT TO:<{U2}>": say("550-5.1.1 <u2@our.example>:", "550 5.1.1 unknown"),
        f"RCPT TO:<{U3}>": say("451 4.2.0 greylisted"),
        f"RCPT TO:<{U4}>": say("552 quota"),
    }
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answers = await client.open(U1, U2, U3, U4)
        decisive = await client.data(MESSAGE)

    assert str(answers[0]) == "250 2.1.5 Ok"
    assert answers[1].text.startswith("550-5.1.1 <u2@our.example>:\r\n550 5.1.1 unknown (ref ")
    assert str(answers[2]).startswith("451 4.2.0 greylisted (ref ")
    assert str(answers[3]).startswith("552 5.0.0 quota (ref ")
    assert decisive.code == 250
    assert mta.messages[0].recipients == [f"RCPT TO:<{U1}>"]
    refused = [record for record in gateway.records if record.verdict != "accepted"]
    assert [(r.verdict, r.reason, r.recipients) for r in refused] == [
        ("rejected", "unknown-recipient", [U2]),
        ("tempfailed", "downstream-deferred", [U3]),
        ("rejected", "downstream-rejected", [U4]),
    ]
    assert refused[0].downstream.reply == "550 5.1.1 <u2@our.example>: unknown"


@pytest.mark.parametrize("lines", [("220-a", "220-b", "220 c"), tuple(["220-a"] * 90 + ["220 b"])])
async def test_a_greeting_of_many_lines_is_a_greeting(start_gateway: GatewayStarter, mta: FakeMTA, lines):
    mta.script["banner"] = say(*lines)
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250


async def test_what_steers_a_terminal_in_the_downstreams_words_is_not_passed_on(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.script["RCPT"] = say(
        "550 5.1.1 <u1@our.example>...\x1b[2J\x07\x00 \x9bsecret.internal.host /var/mail"
    )
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
    words, _, _ = str(answer).partition(" (ref ")
    assert words == "550 5.1.1 <u1@our.example>...?[2J?? ?secret.internal.host /var/mail"
    assert gateway.records[0].downstream.reply == words


async def test_an_unknown_user_without_a_status_gets_one(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["RCPT"] = say("550 no such user")
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
    assert str(answer).startswith("550 5.1.1 no such user (ref ")


@pytest.mark.parametrize("reply", ["354 go ahead", "334 "])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "end"])
async def test_an_intermediate_reply_out_of_place_is_no_reply(
    start_gateway: GatewayStarter, mta: FakeMTA, stage: str, reply: str
):
    mta.script[stage] = say(reply)
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        (answer,) = await client.open(U1)
        if stage == "end":
            answer = await client.data(MESSAGE)
    assert answer.status == "4.4.1"
    assert not [record for record in gateway.records if record.verdict == "accepted"]


async def test_helo_is_said_where_ehlo_is_unknown(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["EHLO"] = say("500 what?")
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert mta.commands == ["EHLO mx.our.example", "HELO mx.our.example", *mta.commands[2:]]
    assert mta.heard("MAIL") == ["MAIL FROM:<s@a.example>"]
    assert not mta.heard("XFORWARD")


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("act", [drop, hang, say("421 4.3.2 Closing"), say_and_drop("421 4.3.2 Closing")])
async def test_a_downstream_lost_between_recipients_delivers_to_none(
    start_gateway: GatewayStarter, mta: FakeMTA, act
):
    mta.script[f"RCPT TO:<{U2}>"] = act
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answers = await client.open(U1, U2)
        assert [answer.code for answer in answers] == [250, 451]
        decisive = await client.data(MESSAGE)
    # The second attempt asks for the accepted recipient alone: whole, for exactly those accepted.
    assert decisive.code == 250
    assert mta.messages[0].recipients == [f"RCPT TO:<{U1}>"]


# DATA, content, end of data


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (say("451 4.3.0 Not now"), "451 4.3.0 Not now (ref "),
        (say("550 5.7.1 Never"), "550 5.7.1 Never (ref "),
        (say("421 4.3.2 Closing"), "451 4.3.2 Closing (ref "),
        (say("250 2.0.0 Ok"), "451 4.4.1 "),
        (say("334 "), "451 4.4.1 "),
        (say("354 Go ahead", "554 5.5.1 No"), "451 4.4.1 "),
        (hang, "451 4.4.1 "),
        (drop, "451 4.4.1 "),
        (reset, "451 4.4.1 "),
        (say("~"), "451 4.4.1 "),
    ],
)
@pytest.mark.usefixtures("short_patience")
async def test_what_the_downstream_says_to_data(
    start_gateway: GatewayStarter, mta: FakeMTA, act, expected: str
):
    mta.script["DATA"] = act
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1)
        assert str(answer).startswith(expected)
    (record,) = gateway.records
    assert (record.stage, record.reference) == ("relay", answer.reference)
    assert not mta.messages
    # Content that nobody asked for would be taken for commands.
    assert not mta.heard("SUBJECT:", "HELLO", "RECEIVED:")


def say_and_read_on(*replies: str) -> Act:
    """Answer this, then only read."""

    def act(talk: Talk) -> None:
        talk.say(*replies)
        hang(talk)

    return act


@pytest.mark.parametrize(
    "ending", [say_and_stop, say_and_finish, say_and_read_on], ids=["stops reading", "closes", "reads on"]
)
async def test_a_refusal_in_the_middle_of_the_content_is_the_answer(
    start_gateway: GatewayStarter, mta: FakeMTA, ending
):
    mta.script["content"] = ending("552 5.3.4 Too big for me")
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answer = await client.deliver(LARGE * 4, U1)
    assert str(answer).startswith("552 5.3.4 Too big for me (ref ")
    assert not mta.attempts[0].has_ended
    (record,) = gateway.records
    assert record.reason == "downstream-rejected"


async def test_an_acceptance_in_the_middle_of_the_content_is_none(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.script["content"] = say_and_stop("250 2.0.0 Got it already")
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answer = await client.deliver(LARGE * 4, U1)
    assert answer.status == "4.4.1"
    assert not mta.attempts[0].has_ended


@pytest.mark.usefixtures("short_patience")
async def test_a_downstream_that_stops_reading_is_given_up(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["content"] = deaf
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answer = await client.deliver(LARGE * 4, U1)
    assert answer.status == "4.4.1"
    assert "took no content" in gateway.records[0].detail


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (say("451 4.7.1 Try later"), "451 4.7.1 Try later (ref "),
        (say("452 full"), "452 4.0.0 full (ref "),
        (say("552 5.2.2 Quota"), "552 5.2.2 Quota (ref "),
        (say("554 5.6.1 What is this"), "554 5.6.1 What is this (ref "),
        (say("550-5.7.1 First", "550 5.7.1 second"), "550-5.7.1 First\r\n550 5.7.1 second (ref "),
        (say("421 4.3.2 Closing"), "451 4.3.2 Closing (ref "),
        (say("250-a", "550 b"), "451 4.4.1 "),
        (drop, "451 4.4.1 "),
        (endless(b"250-\r\n"), "451 4.4.1 "),
    ],
)
async def test_what_the_downstream_says_to_the_end_of_data(
    start_gateway: GatewayStarter, mta: FakeMTA, act, expected: str
):
    mta.script["end"] = act
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1)
    assert answer.text.startswith(expected)
    (record,) = gateway.records
    assert (record.stage, record.spoken, record.reference) == ("relay", "end-of-data", answer.reference)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("250 2.0.0 r\xe9ussi", "250 2.0.0 r?ussi"),
        ("250 ok\x00\x1b[2J", "250 2.0.0 ok??[2J"),
        ("250", "250 2.0.0 "),
        ("250 " + "x" * 3000, "250 2.0.0 " + "x" * 480),
    ],
)
async def test_odd_words_of_acceptance_are_an_acceptance(
    start_gateway: GatewayStarter, mta: FakeMTA, words: str, expected: str
):
    mta.script["end"] = accept(words)
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1)
    assert str(answer) == expected
    assert [record.verdict for record in gateway.records] == ["accepted"]


async def test_no_answer_to_the_end_is_an_unknown_outcome(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["end"] = hang
    gateway = await start_gateway(deadline=0.3)
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1)
    assert str(answer).startswith("451 4.4.7 ")
    (record,) = gateway.records
    assert record.reason == "deadline-exceeded"
    assert "may have taken" in record.detail
    assert await mta.last.has_left()


async def test_an_acceptance_behind_the_deadline_confuses_nobody(start_gateway: GatewayStarter, mta: FakeMTA):
    gate = Gate(accept("250 2.0.0 late"))
    mta.script["end"] = [gate]
    gateway = await start_gateway(deadline=0.3)
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1)).status == "4.4.7"
        gate.open()
        await client.again(U2)
        assert (await client.data(MESSAGE)).code == 250
    assert [m.recipients for m in mta.messages if m.recipients == [f"RCPT TO:<{U2}>"]]
    assert mta.connections == 2


# Connections kept between messages


async def two_messages(port: int) -> None:
    async with Client(port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
        assert (await client.again(U2))[0].code == 250
        assert (await client.data(MESSAGE)).code == 250


async def test_a_connection_is_used_again(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    await two_messages(gateway.port)
    await two_messages(gateway.port)
    assert mta.connections == 1
    assert len(mta.messages) == 4


@pytest.mark.parametrize("act", [drop, say_and_drop("421 4.4.2 Idle for too long")])
async def test_a_stale_kept_connection_is_replaced(start_gateway: GatewayStarter, mta: FakeMTA, act):
    mta.script["idle"] = [act]
    gateway = await start_gateway()
    await two_messages(gateway.port)
    assert mta.connections == 2
    assert [record.verdict for record in gateway.records] == ["accepted", "accepted"]


@pytest.mark.parametrize("act", [drop, reset, say("421 4.3.2 Closing"), say("nonsense")])
async def test_a_kept_connection_that_fails_at_mail_is_replaced(
    start_gateway: GatewayStarter, mta: FakeMTA, act
):
    mta.script["MAIL"] = [correctly, act]
    gateway = await start_gateway()
    await two_messages(gateway.port)
    assert mta.connections == 2


async def test_a_surplus_reply_ends_the_connection(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["end"] = [accept("250 2.0.0 ok\r\n550 5.0.0 surplus")]
    gateway = await start_gateway()
    await two_messages(gateway.port)
    assert mta.connections == 2


async def test_a_reply_nobody_asked_for_ends_a_kept_connection(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["idle"] = [say("250 2.0.0 By the way")]
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
        assert await mta.last.has_left()
        await client.again(U2)
        assert (await client.data(MESSAGE)).code == 250
    assert mta.messages[1].recipients == [f"RCPT TO:<{U2}>"]


@pytest.mark.parametrize("act", [say("500 5.5.1 No such thing"), drop, hang, say("no")])
async def test_a_connection_whose_reset_is_refused_is_not_used_again(
    start_gateway: GatewayStarter, mta: FakeMTA, act
):
    mta.script["RSET"] = act
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        assert (await client.ask("RSET")).code == 250
        assert str((await client.again(U2))[0]) == "250 2.1.5 Ok"
        assert (await client.data(MESSAGE)).code == 250
    assert [message.recipients for message in mta.messages] == [[f"RCPT TO:<{U2}>"]]


async def test_a_connection_that_was_reset_is_used_again(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        await client.ask("RSET")
        await eventually(lambda: mta.heard("RSET"))
        await client.again(U2)
        assert (await client.data(MESSAGE)).code == 250
    assert mta.connections <= 2
    assert [message.recipients for message in mta.messages] == [[f"RCPT TO:<{U2}>"]]


async def test_a_connection_is_retired_after_many_refusals(start_gateway: GatewayStarter, mta: FakeMTA):
    unknown = [f"nobody{number}@our.example" for number in range(gateway_refusals())]
    mta.script |= {f"RCPT TO:<{name}>": say("550 5.1.1 unknown") for name in unknown}
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(*unknown, U1)
        assert (await client.data(MESSAGE)).code == 250
        await client.again(U2)
        assert (await client.data(MESSAGE)).code == 250
    assert mta.connections == 2


def gateway_refusals() -> int:
    return gateway.relay.pool.MAX_REFUSALS


# Given up while the message was judged


async def test_a_downstream_that_gave_up_meanwhile_is_asked_once_more(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.script["DATA"] = [drop]
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        assert (await client.deliver(MESSAGE, U1, U2)).code == 250
    assert mta.connections == 2
    (message,) = mta.messages
    assert message.recipients == [f"RCPT TO:<{U1}>", f"RCPT TO:<{U2}>"]
    assert message.content.endswith(MESSAGE)


@pytest.mark.parametrize("reply", ["550 5.1.1 gone", "451 4.2.0 not now", "421 4.3.2 Closing"])
async def test_another_reply_the_second_time_defers_the_message(
    start_gateway: GatewayStarter, mta: FakeMTA, reply: str
):
    mta.script |= {"DATA": [drop], f"RCPT TO:<{U2}>": [correctly, say(reply)]}
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        answer = await client.deliver(MESSAGE, U1, U2)
    assert answer.status == "4.4.1"
    assert not mta.messages
    assert [record.reason for record in gateway.records] == ["downstream-unavailable"]


# What the downstream cannot do


async def test_parameters_go_only_where_they_are_known(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.extensions = ("8BITMIME",)
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        await client.ask("MAIL FROM:<s@a.example> SIZE=100 BODY=8BITMIME")
        assert (await client.ask(f"RCPT TO:<{U1}>")).code == 250
    assert mta.heard("MAIL") == ["MAIL FROM:<s@a.example> BODY=8BITMIME"]


async def test_eight_bit_content_passes_unchanged_whatever_is_offered(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    mta.extensions = ()
    content = b"Subject: \xff\r\n\r\n\xe9t\xe9 \x00\r\n"
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        assert (await client.deliver(content, U1)).code == 250
    assert mta.messages[0].content.endswith(content)
