"""AUTH, carried through to a downstream that knows the passwords (RFC 4954)."""

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

import gateway.proxy.stream
import gateway.relay.client
from filters.testing.server import Nobody
from gateway.journal.record import encode
from gateway.log import configure_logging
from gateway.proxy.budget import MAX_IDLE_COMMANDS
from gateway.proxy.certificate import Certificate
from gateway.relay.capabilities import LoginOffer, Offer
from gateway.smtp.authentication import Exchange
from gateway.smtp.endpoint import Endpoint
from policies import Evidence, Stage, Transaction, Verdict, policy, reject
from tests.client import Answer, Client
from tests.fakes.mta import (
    EXTENSIONS,
    PASSWORD,
    USER,
    Act,
    FakeMTA,
    Gate,
    Talk,
    drop,
    hang,
    say,
    say_and_drop,
)
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import OURS, RunningGateway, destination, offering
from tests.waiting import eventually

MESSAGE = b"Subject: t\r\n\r\nb\r\n"
U1, U2 = f"u1@{OURS}", f"u2@{OURS}"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


PLAIN = encoded(f"\0{USER}\0{PASSWORD}")
# Everything from which a password could be learnt.
SECRETS = [PASSWORD, encoded(PASSWORD), PLAIN]


def logins_at(address: str, mechanisms: tuple[str, ...] = MECHANISMS) -> Offer:
    return Offer(50_000, login=LoginOffer((Endpoint.parse(address),), "may", mechanisms))


@pytest.fixture
async def mta() -> AsyncIterator[FakeMTA]:
    """A downstream that takes logins."""
    async with FakeMTA(extensions=[*EXTENSIONS, f"AUTH {' '.join(MECHANISMS)}"]) as fake:
        yield fake


@pytest.fixture
async def running(start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate) -> RunningGateway:
    return await start_gateway(certificate=certificate, capabilities=offering(logins_at(mta.address)))


@contextlib.contextmanager
def operational_log() -> Iterator[None]:
    """The log as the processes write it, with tracebacks, on standard error."""
    configure_logging()
    structlog.configure(cache_logger_on_first_use=False)
    yield
    structlog.reset_defaults()


@contextlib.asynccontextmanager
async def secured(gateway: RunningGateway, trust: ssl.SSLContext) -> AsyncIterator[Client]:
    """A client that has said EHLO in TLS."""
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        assert (await client.ask("STARTTLS")).code == 220
        await client.start_tls(trust)
        assert (await client.ask("EHLO c.example")).code == 250
        yield client


@pytest.fixture
async def client(running: RunningGateway, trust: ssl.SSLContext) -> AsyncIterator[Client]:
    async with secured(running, trust) as secure:
        yield secure


def asks_once(talk: Talk) -> None:
    """Takes every answer for the right one."""
    talk.challenge("")
    talk.say("235 2.7.0 Ok")


def asks_for_ever(talk: Talk) -> None:
    """Is never content."""
    while True:
        talk.challenge("")


async def log_in(client: Client) -> None:
    answer = await client.ask(f"AUTH PLAIN {PLAIN}")
    assert answer.text == "235 2.7.0 Authentication successful"


def check_failure(gateway: RunningGateway, answer: Answer, reason: str) -> str:
    """The record of a failure, which names the mechanism and nothing that was said; its detail."""
    (record,) = gateway.records
    assert (record.reference, record.reason, record.spoken) == (answer.reference, reason, "helo")
    assert record.client.authenticated is None
    written = encode(record).decode()
    for secret in (*SECRETS, USER, encoded(USER)):
        assert secret not in written
    return record.detail


# Where it is offered


async def test_it_is_offered_in_tls_until_it_has_succeeded(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    assert f"250-AUTH {' '.join(MECHANISMS)}" in (await client.ask("EHLO c.example")).lines
    await log_in(client)
    assert "AUTH" not in (await client.ask("EHLO c.example")).text
    again = await client.ask(f"AUTH PLAIN {PLAIN}")
    assert (again.code, again.status) == (503, "5.5.1")
    assert len(mta.heard("AUTH")) == 1


async def test_in_clear_nobody_is_asked_for_a_password(running: RunningGateway, mta: FakeMTA):
    async with Client(running.port) as client:
        assert "AUTH" not in (await client.ask("EHLO c.example")).text
        refusal = await client.ask(f"AUTH PLAIN {PLAIN}")
        assert (refusal.code, refusal.status) == (538, "5.7.11")
    assert not mta.commands
    assert not running.records


async def test_where_it_is_not_offered_it_does_not_exist(
    start_gateway: GatewayStarter, certificate: Certificate, trust: ssl.SSLContext, mta: FakeMTA
):
    without_logins = await start_gateway(certificate=certificate, capabilities=offering(Offer(1000)))
    async with secured(without_logins, trust) as client:
        assert "AUTH" not in (await client.ask("EHLO c.example")).text
        assert (await client.ask(f"AUTH PLAIN {PLAIN}")).code == 502
        assert (await client.ask("MAIL FROM:<s@a.example> AUTH=<>")).code == 555
    without_tls = await start_gateway(capabilities=offering(logins_at(mta.address)))
    async with Client(without_tls.port) as client:
        await client.ask("EHLO c.example")
        refusal = await client.ask(f"AUTH PLAIN {PLAIN}")
        assert (refusal.code, refusal.status) == (502, "5.5.1")


async def test_it_has_its_place_in_the_dialogue(client: Client, mta: FakeMTA):
    await client.ask("MAIL FROM:<s@a.example>")
    assert (await client.ask(f"AUTH PLAIN {PLAIN}")).code == 503
    await client.ask("HELO c.example")
    assert (await client.ask(f"AUTH PLAIN {PLAIN}")).code == 503
    await client.ask("EHLO c.example")
    await log_in(client)


async def test_it_has_a_syntax(running: RunningGateway, client: Client, mta: FakeMTA):
    for command, code in {
        "AUTH": 501,
        "AUTH PLAIN a b": 501,
        "AUTH PLAIN ?": 501,
        "AUTH SCRAM-SHA-1": 504,
        "AUTH GSSAPI": 504,
    }.items():
        assert (await client.ask(command)).code == code, command
    assert not mta.commands
    assert not running.records


# The exchange


async def test_a_login_with_an_initial_response(client: Client, mta: FakeMTA):
    assert (await client.ask(f"auth plain {PLAIN}")).code == 235
    assert mta.heard("AUTH") == [f"AUTH PLAIN {PLAIN}"]


async def test_a_login_by_challenges(client: Client, mta: FakeMTA):
    assert (await client.ask("AUTH LOGIN")).text == f"334 {encoded('Username:')}"
    assert (await client.ask(encoded(USER))).text == f"334 {encoded('Password:')}"
    assert (await client.ask(encoded(PASSWORD))).code == 235
    assert mta.commands[1:] == ["AUTH LOGIN", encoded(USER), encoded(PASSWORD)]


async def test_an_empty_challenge_and_the_longest_answer_pass(client: Client, mta: FakeMTA):
    longest = "A" * 12_284

    def ask_twice(talk: Talk) -> None:
        talk.challenge("")
        talk.challenge("more")
        talk.say("235 Welcome")

    mta.script["AUTH"] = ask_twice
    assert (await client.ask("AUTH PLAIN")).text == "334 "
    assert (await client.ask(longest)).text == f"334 {encoded('more')}"
    assert (await client.ask("")).text == "235 2.7.0 Welcome"
    assert mta.commands[-2:] == [longest, ""]


async def test_a_long_challenge_passes_whole(client: Client, mta: FakeMTA):
    challenge = "C" * 12_000
    mta.script["AUTH"] = say(f"334 {challenge}")
    client.say(b"AUTH CRAM-MD5\r\n")
    assert await client.line(12_288) == f"334 {challenge}"


async def test_a_client_may_cancel(running: RunningGateway, client: Client, mta: FakeMTA):
    await client.ask("AUTH LOGIN")
    cancelled = await client.ask("*")
    assert (cancelled.code, cancelled.status) == (501, "5.7.0")
    assert mta.commands[1:3] == ["AUTH LOGIN", "*"]
    assert check_failure(running, cancelled, "authentication-failed") == "AUTH LOGIN"
    await log_in(client)


async def test_a_refusal_is_the_clients_and_is_recorded_without_what_was_said(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    refusal = await client.ask(f"AUTH PLAIN {encoded(f'{USER}{chr(0)}{USER}{chr(0)}{PASSWORD}x')}")
    assert refusal.text.startswith("535 5.7.8 Error: authentication failed (ref ")
    assert check_failure(running, refusal, "authentication-failed") == "AUTH PLAIN"
    assert running.records[0].downstream is not None
    assert running.records[0].downstream.reply == "535 5.7.8 Error: authentication failed"
    await eventually(lambda: mta.heard("QUIT"))
    await log_in(client)


async def test_a_refusal_for_now_is_recorded_as_one(running: RunningGateway, client: Client, mta: FakeMTA):
    mta.script["AUTH"] = say("454 Try later")
    refusal = await client.ask(f"AUTH PLAIN {PLAIN}")
    assert refusal.text.startswith("454 4.7.0 Try later (ref ")
    assert check_failure(running, refusal, "downstream-deferred") == "AUTH PLAIN"


async def test_a_downstream_that_repeats_what_it_was_told_is_not_repeated(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    mta.script["AUTH"] = say(f"535 5.7.8 cannot decode {PLAIN}")
    refusal = await client.ask(f"AUTH PLAIN {PLAIN}")
    assert refusal.text.startswith("535 5.7.8 Authentication failed (ref ")
    check_failure(running, refusal, "authentication-failed")


@pytest.mark.parametrize(
    ("said", "code", "status"),
    [
        ("not base64", 501, "5.5.2"),
        ("QUIT", 235, "2.7.0"),
        ("MAIL FROM:<s@a.example>", 501, "5.5.2"),
        ("YWJj\x00", 501, "5.5.2"),
        ("YWJj ", 501, "5.5.2"),
        ("GET / HTTP/1.1", 501, "5.5.2"),
        ("A" * 12_288, 500, "5.5.6"),
        ("A" * 70_000, 500, "5.5.6"),
    ],
)
async def test_only_answers_are_carried(
    running: RunningGateway, client: Client, mta: FakeMTA, said: str, code: int, status: str
):
    mta.script["AUTH"] = asks_once
    await client.ask("AUTH LOGIN")
    answer = await client.ask(said)
    assert (answer.code, answer.status) == (code, status)
    if code != 235:
        assert check_failure(running, answer, "malformed-command") == "in AUTH LOGIN"
        assert await mta.last.has_left()
        assert mta.commands == ["EHLO mx.our.example", "AUTH LOGIN"]
    assert (await client.ask("NOOP")).code == 250


async def test_failures_end_the_connection(
    running: RunningGateway, client: Client, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.proxy.budget._LONGEST_DELAY", 0.001)
    mta.script["AUTH"] = say("535 5.7.8 No")
    answers = [await client.ask(f"AUTH PLAIN {PLAIN}") for _ in range(20)]
    assert {answer.code for answer in answers} == {535}
    assert (await client.reply()).text.startswith("421 4.7.0 ")
    assert len(running.records) == 20


async def test_an_exchange_without_end_ends(client: Client, mta: FakeMTA):
    mta.script["AUTH"] = asks_for_ever
    await client.ask("AUTH PLAIN")
    # EHLO twice, STARTTLS, AUTH, and the last one.
    for _ in range(MAX_IDLE_COMMANDS - 5):
        assert (await client.ask("")).code == 334
    client.say(b"\r\n")
    assert [answer.code for answer in await client.replies(2)] == [334, 421]
    assert await mta.last.has_left()


# Failures of the downstream


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        (drop, "connection closed"),
        (say_and_drop("421 4.3.2 bye " + PLAIN), "says 421"),
        (say("250 2.0.0 " + PLAIN), "out of step with 250"),
        (say(PLAIN), "said what is no reply"),
        (say("334 " + PASSWORD), "a challenge that is not base64"),
        (say("334-YWJj", "334 YWJj"), "a challenge that is not base64"),
        (hang, "no reply within 0.05 s"),
    ],
)
async def test_a_downstream_that_fails_in_the_exchange_is_a_failure_for_now(
    running: RunningGateway,
    client: Client,
    mta: FakeMTA,
    monkeypatch: pytest.MonkeyPatch,
    act: Act,
    detail: str,
):
    if act is hang:
        monkeypatch.setattr(gateway.relay.client, "COMMAND_TIMEOUT", 0.05)
    mta.script["AUTH"] = [act]
    failure = await client.ask(f"AUTH PLAIN {PLAIN}")
    assert (failure.code, failure.status) == (454, "4.7.0")
    assert check_failure(running, failure, "downstream-unavailable").endswith(detail)
    monkeypatch.undo()
    await log_in(client)


async def test_what_is_no_reply_behind_a_login_is_not_quoted(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    mta.script["MAIL"] = say(PLAIN)
    await log_in(client)
    (refusal,) = await client.again(U1)
    assert (refusal.code, refusal.status) == (451, "4.4.1")
    assert "said what is no reply" in running.records[0].detail
    assert PLAIN not in encode(running.records[0]).decode()


async def test_nobody_there_is_a_failure_for_now(
    start_gateway: GatewayStarter, certificate: Certificate, trust: ssl.SSLContext
):
    with Nobody() as nobody:
        running = await start_gateway(
            [destination(nobody.address)],
            certificate=certificate,
            capabilities=offering(logins_at(nobody.address)),
        )
        async with secured(running, trust) as client:
            failure = await client.ask(f"AUTH PLAIN {PLAIN}")
    assert (failure.code, failure.status) == (454, "4.7.0")
    assert check_failure(running, failure, "downstream-unavailable").endswith("Connection refused")


async def test_a_downstream_that_offers_it_no_more_hears_no_password(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    mta.extensions = (*EXTENSIONS, "AUTH LOGIN")
    failure = await client.ask(f"AUTH PLAIN {PLAIN}")
    assert failure.code == 454
    assert check_failure(running, failure, "downstream-unavailable").endswith("no AUTH PLAIN any more")
    assert not mta.heard("AUTH")


# Nothing of it is kept


async def test_nothing_of_an_exchange_is_logged(
    running: RunningGateway,
    client: Client,
    mta: FakeMTA,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    loop = asyncio.get_running_loop()
    caplog.set_level(logging.DEBUG)
    loop.set_debug(True)
    # With this everything is slow, and is logged for that.
    loop.slow_callback_duration = 0.0
    with operational_log():
        for act in (drop, say(PLAIN), say(f"535 {PLAIN}"), say("334 ?" + PLAIN)):
            mta.script["AUTH"] = [act]
            await client.ask(f"AUTH PLAIN {PLAIN}")
        await client.ask("AUTH LOGIN")
        await client.ask(encoded(PASSWORD) + "?")
        await client.ask("AUTH LOGIN")
        await client.ask(encoded(USER))
        assert (await client.ask(encoded(PASSWORD))).code == 235
    assert "Executing <" in caplog.text
    logged = caplog.text + "".join(capfd.readouterr())
    for secret in SECRETS:
        assert secret not in logged
        assert secret not in "".join(encode(record).decode() for record in running.records)


async def test_a_fault_in_the_exchange_ends_it_and_shows_nothing(
    running: RunningGateway,
    client: Client,
    mta: FakeMTA,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    await client.ask("AUTH LOGIN")
    monkeypatch.setattr(Exchange, "take", None)
    with operational_log():
        failure = await client.ask(encoded(PASSWORD))
    assert (failure.code, failure.status) == (451, "4.3.0")
    assert "TypeError" in check_failure(running, failure, "internal-error")
    assert await mta.last.has_left()
    logged = "".join(capfd.readouterr())
    assert "TypeError" in logged
    assert encoded(PASSWORD) not in logged
    assert (await client.ask("NOOP")).code == 250


async def test_a_failure_that_cannot_be_recorded_ends_the_exchange(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    running.journal.takes_none = True
    failure = await client.ask(f"AUTH PLAIN {encoded('wrong')}")
    assert (failure.code, failure.status) == (451, "4.3.0")
    running.journal.takes_none = False
    await log_in(client)


# The client goes away


async def test_a_client_that_vanishes_in_the_exchange_takes_its_connection_along(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    await client.ask("AUTH LOGIN")
    client.close()
    assert await mta.last.has_left()
    await running.no_client()
    assert mta.commands == ["EHLO mx.our.example", "AUTH LOGIN"]
    assert not running.records


async def test_a_client_that_vanishes_while_the_downstream_thinks_is_given_up(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    gate = Gate(say("235 2.7.0 Ok"))
    mta.script["AUTH"] = gate
    client.say(f"AUTH PLAIN {PLAIN}\r\n".encode())
    await eventually(gate.reached.is_set)
    client.reset()
    await running.no_client()
    gate.open()
    assert await mta.last.has_left()


async def test_a_client_that_falls_silent_in_the_exchange_is_told_and_let_go(
    client: Client, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "COMMAND_TIMEOUT", 0.05)
    await client.ask("AUTH LOGIN")
    assert (await client.reply()).text.startswith("421 4.4.2 ")
    assert await mta.last.has_left()


async def test_a_shutdown_ends_the_exchange(running: RunningGateway, client: Client, mta: FakeMTA):
    await client.ask("AUTH LOGIN")
    await running.server.drain(0.1)
    assert (await client.reply()).code == 421
    assert await mta.last.has_left()


# Mail


async def test_mail_goes_over_the_connection_that_is_logged_in(
    running: RunningGateway, client: Client, mta: FakeMTA, trust: ssl.SSLContext
):
    await log_in(client)
    for recipient in (U1, U2):
        assert [answer.code for answer in await client.again(recipient)] == [250]
        assert (await client.data(MESSAGE)).code == 250
    assert (await client.ask("QUIT")).code == 221
    async with secured(running, trust) as other:
        assert (await other.deliver(MESSAGE, U1)).code == 250
    assert [message.user for message in mta.messages] == [USER, USER, None]
    assert mta.connections == 2
    assert [record.client.authenticated for record in running.records] == [USER, USER, None]
    assert b"with ESMTPSA id" in mta.messages[0].content
    assert b"with ESMTPS id" in mta.messages[2].content


async def test_the_connection_outlives_rset_ehlo_and_refusals_and_ends_with_the_session(
    client: Client, mta: FakeMTA
):
    await log_in(client)
    await client.again(U1)
    assert (await client.ask("RSET")).code == 250
    await client.again(U1)
    assert (await client.ask("EHLO c.example")).code == 250
    mta.script["MAIL"] = [say("550 5.7.1 Not you")]
    assert [answer.code for answer in await client.again(U1)] == [550]
    await client.ask("RSET")
    mta.script["DATA"] = [say("554 5.7.1 No")]
    await client.again(U1)
    assert (await client.data(MESSAGE)).code == 554
    await client.again(U1)
    assert (await client.data(MESSAGE)).code == 250
    assert mta.connections == 1
    assert mta.messages[0].user == USER
    assert not mta.heard("QUIT")
    assert (await client.ask("QUIT")).code == 221
    await eventually(lambda: mta.heard("QUIT"))


async def test_a_login_that_is_lost_defers_what_comes(running: RunningGateway, client: Client, mta: FakeMTA):
    await log_in(client)
    mta.script["idle"] = [drop]
    await client.again(U1)
    assert (await client.data(MESSAGE)).code == 250
    for _ in range(2):
        (refusal,) = await client.again(U1)
        assert (refusal.code, refusal.status) == (451, "4.4.1")
        await client.ask("RSET")
    assert "login is lost" in running.records[1].detail
    assert running.records[1].client.authenticated == USER
    assert len(mta.messages) == mta.connections == 1


async def test_a_login_that_is_lost_while_judging_defers_the_message(
    running: RunningGateway, client: Client, mta: FakeMTA
):
    await log_in(client)
    mta.script["DATA"] = [drop]
    await client.again(U1)
    refusal = await client.data(MESSAGE)
    assert (refusal.code, refusal.status) == (451, "4.4.1")
    assert mta.connections == 1
    assert not mta.messages


async def test_mail_for_another_entry_goes_there_as_everybodys(
    start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate, trust: ssl.SSLContext
):
    async with FakeMTA() as other:
        running = await start_gateway(
            [destination(mta.address), destination(other.address, domains=["other.example"])],
            certificate=certificate,
            capabilities=offering(logins_at(mta.address)),
        )
        async with secured(running, trust) as client:
            await log_in(client)
            await client.again("u@other.example")
            await client.ask("RSET")
            await client.again("u@other.example")
            assert (await client.data(MESSAGE)).code == 250
            await client.again(U1)
            assert (await client.data(MESSAGE)).code == 250
        assert other.connections == 1
        assert not other.heard("AUTH")
        assert [message.user for message in (*other.messages, *mta.messages)] == [None, USER]


async def test_one_transaction_at_a_time_is_on_a_login_whatever_the_client_takes(
    start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate, trust: ssl.SSLContext
):
    running = await start_gateway(
        profiles={U2: []}, certificate=certificate, capabilities=offering(logins_at(mta.address))
    )
    async with secured(running, trust) as client:
        await log_in(client)
        assert (await client.ask("MAIL FROM:<s@a.example> PRDR")).code == 250
        assert (await client.ask(f"RCPT TO:<{U1}>")).code == 250
        apart = await client.ask(f"RCPT TO:<{U2}>")
        assert (apart.code, apart.status) == (452, "4.5.3")
        assert (await client.data(MESSAGE)).code == 250
    assert running.records[0].reason == "other-profile"


async def test_lmtp_takes_no_logins(
    start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate, trust: ssl.SSLContext
):
    running = await start_gateway(
        lmtp=True, certificate=certificate, capabilities=offering(logins_at(mta.address))
    )
    async with Client(running.port) as client:
        await client.ask("LHLO c.example")
        assert (await client.ask(f"AUTH PLAIN {PLAIN}")).code == 502
        assert (await client.ask("STARTTLS")).code == 220
        await client.start_tls(trust)
        assert "AUTH" not in (await client.ask("LHLO c.example")).text
        assert (await client.ask(f"AUTH PLAIN {PLAIN}")).code == 502


async def test_policies_know_who_logged_in(
    start_gateway: GatewayStarter, mta: FakeMTA, certificate: Certificate, trust: ssl.SSLContext
):
    @policy(at=Stage.RCPT)
    def members(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return None if tx.session.authenticated == USER else reject("not-logged-in")

    running = await start_gateway(
        policies=[members], certificate=certificate, capabilities=offering(logins_at(mta.address))
    )
    async with secured(running, trust) as client:
        assert [answer.code for answer in await client.again(U1)] == [550]
        await client.ask("RSET")
        await log_in(client)
        assert [answer.code for answer in await client.again(U1)] == [250]


@pytest.mark.parametrize(
    ("parameter", "passed_on"),
    [("", ""), (" AUTH=<>", " AUTH=<>"), (" auth=e+3Dmc2@x.example", " AUTH=e+3Dmc2@x.example")],
)
async def test_who_submitted_a_message_is_said_by_those_who_logged_in(
    client: Client, mta: FakeMTA, parameter: str, passed_on: str
):
    await log_in(client)
    assert (await client.ask(f"MAIL FROM:<s@a.example>{parameter}")).code == 250
    await client.ask(f"RCPT TO:<{U1}>")
    assert mta.heard("MAIL") == [f"MAIL FROM:<s@a.example>{passed_on}"]


async def test_of_anybody_elses_message_it_is_said_that_nobody_knows(client: Client, mta: FakeMTA):
    assert (await client.ask("MAIL FROM:<s@a.example> AUTH=e+3Dmc2@x.example")).code == 250
    await client.ask(f"RCPT TO:<{U1}>")
    assert mta.heard("MAIL") == ["MAIL FROM:<s@a.example> AUTH=<>"]


async def test_a_submitter_has_a_syntax(client: Client):
    for value in ("e=mc2@x", "e+3dmc2@x", "e+"):
        refusal = await client.ask(f"MAIL FROM:<s@a.example> AUTH={value}")
        assert (refusal.code, refusal.status) == (501, "5.5.4")
