"""How the downstream learns who the client is, and that it never takes one for another."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.relay.client import DownstreamError
from gateway.relay.delivery import Delivery
from gateway.relay.identity import xclient, xforward
from gateway.relay.pool import Pool
from gateway.relay.router import Destination
from gateway.smtp.address import parse_address
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.envelope import Envelope
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from policies.testing import session
from tests.fakes.mta import EXTENSIONS, FakeMTA, Talk, correctly, drop, say
from tests.waiting import eventually

ALL = {"XFORWARD": "NAME ADDR PORT PROTO HELO SOURCE"}
SESSION = replace(session(client_address="192.0.2.1", client_port=4321, helo_name="c.example"), esmtp=True)
OTHER = replace(session(client_address="2001:db8::1", client_port=0, helo_name="o.example"), esmtp=True)
OFFERED = "NAME ADDR PROTO HELO REVERSE_ADDR PORT LOGIN DESTADDR DESTPORT"


def test_all_attributes_where_all_are_taken():
    assert xforward(ALL, SESSION, "auto") == [
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=4321 PROTO=ESMTP HELO=c.example SOURCE=REMOTE"
    ]


def test_only_what_is_offered():
    assert xforward({"XFORWARD": "addr helo"}, SESSION, "auto") == [b"XFORWARD ADDR=192.0.2.1 HELO=c.example"]
    assert xforward({"XFORWARD": ""}, SESSION, "auto") == []
    assert xforward({"XFORWARD": "IDENT"}, SESSION, "xforward") == []


def test_nothing_where_it_is_unknown_or_unwanted():
    assert xforward({}, SESSION, "auto") == []
    assert xforward(ALL, SESSION, "none") == []


def test_ipv6_and_smtp():
    plain = replace(session(client_address="2001:db8::1"), esmtp=False)
    (command,) = xforward({"XFORWARD": "ADDR PROTO"}, plain, "auto")
    assert command == b"XFORWARD ADDR=IPV6:2001:db8::1 PROTO=SMTP"


def test_long_names_are_spread_over_lines():
    long = replace(
        SESSION, client_name=".".join(["n" * 63] * 3), helo_name="=" * 120, authenticated="+" * 120
    )
    for verb, commands in [
        (b"XFORWARD ", xforward(ALL, long, "auto")),
        (b"XCLIENT ", xclient({"XCLIENT": OFFERED}, long)),
    ]:
        assert len(commands) > 1
        assert all(len(command) <= 510 and command.startswith(verb) for command in commands)


def test_xclient_begins_with_the_address_and_leaves_nothing_unsaid():
    known = replace(SESSION, client_name="c.example", authenticated="anna")
    assert xclient({"XCLIENT": OFFERED}, known) == [
        b"XCLIENT ADDR=192.0.2.1 PORT=4321 NAME=c.example LOGIN=anna PROTO=ESMTP HELO=c.example"
    ]
    assert xclient({"XCLIENT": OFFERED}, replace(OTHER, helo_name=None)) == [
        b"XCLIENT ADDR=IPV6:2001:db8::1 PORT=[UNAVAILABLE] NAME=[UNAVAILABLE] LOGIN=[UNAVAILABLE]"
        b" PROTO=ESMTP HELO=[UNAVAILABLE]"
    ]


def test_xclient_without_the_address_says_nothing():
    assert xclient({"XCLIENT": "NAME HELO"}, SESSION) == []
    assert xclient({}, SESSION) == []


@pytest.mark.parametrize(
    "name",
    [
        "h\r\nX-Inj: 1",
        'h") evil',
        "a." * 127 + "a",
        "127.0.0.1",
        "a\0b",
        "a\x85b",
        "a b",
        "x\nMAIL FROM:<>",
        "",
    ],
)
def test_no_name_from_outside_says_more_than_a_name(name: str):
    """CVE-2026-28753: what a PTR record says went into XCLIENT as it was."""
    commands = xclient({"XCLIENT": OFFERED}, replace(SESSION, client_name=name))
    assert b" NAME=[UNAVAILABLE] " in commands[0]
    assert b" NAME=[UNAVAILABLE] " in xforward(ALL, replace(SESSION, client_name=name), "auto")[0]


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "a\0b", "a\x7fb", "a\x85b", "a\u2028b"])
def test_no_line_end_leaves_even_encoded(text: str):
    known = replace(SESSION, helo_name=text, authenticated=text)
    (command,) = xclient({"XCLIENT": OFFERED}, known)
    assert b" LOGIN=[UNAVAILABLE] " in command
    assert command.endswith(b" HELO=[UNAVAILABLE]")
    assert b" HELO=[UNAVAILABLE] " in xforward(ALL, known, "auto")[0]


# Through deliveries


@pytest.fixture
async def mta() -> AsyncIterator[FakeMTA]:
    async with FakeMTA(extensions=[*EXTENSIONS, f"XCLIENT {OFFERED}"]) as fake:
        yield fake
        assert not fake.suspicions()


@pytest.fixture
async def plain() -> AsyncIterator[FakeMTA]:
    async with FakeMTA() as fake:
        yield fake


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool("mx.our.example")
    yield pool
    pool.close()


class Sender:
    """Delivers messages for clients, by one way of telling who they are."""

    def __init__(self, pool: Pool, mta: FakeMTA, identify) -> None:
        self._pool = pool
        self._destination = Destination(("our.example",), (Endpoint.parse(mta.address),), identify)

    async def rcpt(self, client: Session) -> tuple[Delivery, Reply]:
        """A transaction with one recipient, and the reply to that."""
        envelope = Envelope(parse_address("s@a.example"))
        delivery = Delivery(self._pool, self._destination, client, envelope)
        try:
            return delivery, await delivery.add(parse_address("u1@our.example"), {})
        except DownstreamError:
            delivery.abandon()
            raise

    async def send(self, client: Session) -> None:
        """A whole message, which must be taken."""
        delivery, reply = await self.rcpt(client)
        assert reply.code == 250, reply
        await delivery.commit([b"Subject: x\r\n\r\nHello\r\n"])
        assert [reply.code for reply in delivery.replies] == [250]


async def test_each_client_is_named_anew_on_a_connection_that_is_kept(pool: Pool, mta: FakeMTA):
    sender = Sender(pool, mta, "auto")
    for client in (SESSION, OTHER, OTHER, SESSION):
        await sender.send(client)
    assert mta.connections == 1
    addresses = [message.xclient[0].split()[1] for message in mta.messages]
    assert addresses == [f"ADDR={each}" for each in ("192.0.2.1", *["IPV6:2001:db8::1"] * 2, "192.0.2.1")]
    assert [message.greeting for message in mta.messages] == [
        f"EHLO {name}" for name in ("c.example", "o.example", "o.example", "c.example")
    ]
    assert not mta.heard("XFORWARD")


@pytest.mark.parametrize("refused", ["MAIL", "RCPT"])
async def test_a_refusal_leaves_nobody_behind(pool: Pool, mta: FakeMTA, refused: str):
    mta.script[refused] = [say("550 5.7.1 no"), correctly, correctly]
    sender = Sender(pool, mta, "xclient")
    delivery, reply = await sender.rcpt(SESSION)
    assert reply.code == 550
    delivery.abandon()
    await eventually(lambda: refused == "MAIL" or mta.heard("RSET"))
    await sender.send(OTHER)
    assert "ADDR=IPV6:2001:db8::1" in mta.messages[0].xclient[0]


async def test_who_is_not_to_be_named_never_speaks_for_the_one_before(pool: Pool, mta: FakeMTA):
    await Sender(pool, mta, "xclient").send(SESSION)
    await Sender(pool, mta, "none").send(OTHER)
    await Sender(pool, mta, "xforward").send(OTHER)
    assert [bool(message.xclient) for message in mta.messages] == [True, False, False]
    assert [bool(message.xforward) for message in mta.messages] == [False, False, True]
    assert mta.connections == 2


@pytest.mark.parametrize("reply", ["550 5.7.0 no", "501 5.5.4 what?", "450 4.7.0 later", "421 4.3.2 bye"])
@pytest.mark.parametrize("identify", ["auto", "xclient"])
async def test_no_mail_where_xclient_is_refused(pool: Pool, mta: FakeMTA, reply: str, identify):
    mta.script["XCLIENT"] = say(reply)
    with pytest.raises(DownstreamError, match=reply[:3]):
        await Sender(pool, mta, identify).send(SESSION)
    assert not mta.heard("MAIL")


async def test_no_mail_where_the_client_is_not_greeted(pool: Pool, mta: FakeMTA):
    mta.script["EHLO c.example"] = mta.script["HELO c.example"] = say("550 5.7.1 not with that name")
    with pytest.raises(DownstreamError, match="not with that name"):
        await Sender(pool, mta, "xclient").send(SESSION)
    # Nobody knows whom that connection speaks for now.
    await eventually(mta.conversations[0].left.is_set)
    await Sender(pool, mta, "xclient").send(OTHER)
    assert mta.connections == 2


async def test_xclient_need_not_be_offered_to_the_client_it_named(pool: Pool, mta: FakeMTA):
    def forget_xclient(talk: Talk) -> None:
        mta.extensions = EXTENSIONS
        correctly(talk)

    mta.script["XCLIENT"] = [forget_xclient]
    for client in (SESSION, OTHER):
        await Sender(pool, mta, "xclient").send(client)
    assert mta.connections == 1
    assert "ADDR=IPV6:2001:db8::1" in mta.messages[1].xclient[0]


async def test_no_mail_where_xclient_is_wanted_and_not_offered(pool: Pool, plain: FakeMTA):
    with pytest.raises(DownstreamError, match="XCLIENT"):
        await Sender(pool, plain, "xclient").send(SESSION)
    assert not plain.heard("MAIL", "XCLIENT", "XFORWARD")


async def test_xforward_where_xclient_is_not_offered(pool: Pool, plain: FakeMTA):
    await Sender(pool, plain, "auto").send(SESSION)
    assert " ADDR=192.0.2.1 " in plain.messages[0].xforward[0]


async def test_mail_goes_on_where_xforward_is_refused(pool: Pool, plain: FakeMTA):
    plain.script["XFORWARD"] = say("550 5.7.0 no")
    await Sender(pool, plain, "xforward").send(SESSION)
    assert len(plain.messages) == 1


async def test_what_xforward_said_before_a_refused_mail_is_taken_back(pool: Pool, plain: FakeMTA):
    plain.script["MAIL"] = [say("450 4.7.1 later"), correctly]
    await Sender(pool, plain, "auto").rcpt(SESSION)
    await eventually(lambda: plain.heard("RSET"))


async def test_a_client_without_a_greeting_is_greeted_for(pool: Pool, mta: FakeMTA):
    await Sender(pool, mta, "auto").send(replace(SESSION, helo_name=None))
    assert mta.messages[0].greeting == "EHLO mx.our.example"


async def test_a_kept_connection_that_fails_at_xclient_is_replaced(pool: Pool, mta: FakeMTA):
    sender = Sender(pool, mta, "auto")
    await sender.send(SESSION)
    mta.script["XCLIENT"] = [drop]
    await sender.send(OTHER)
    assert mta.connections == 2
    assert "ADDR=IPV6:2001:db8::1" in mta.messages[1].xclient[0]
