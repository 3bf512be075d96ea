"""Addresses beyond ASCII: promised where the downstream takes them, carried as they came, or refused."""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.relay.capabilities import MAX_RECIPIENTS, Capabilities, Offer
from gateway.relay.router import Router
from policies import Stage, policy, reject
from tests.client import Answer, Client
from tests.fakes.mta import EXTENSIONS, FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway, destination
from tests.waiting import eventually

ABLE = (*EXTENSIONS, "DSN", "SMTPUTF8")
CONTENT = "Subject: Grüße\r\n\r\nHallo Jürgen\r\n".encode()
PROMISE = Offer(1_000_000, dsn=True, smtputf8=True)


def promising(offer: Offer = PROMISE) -> SimpleNamespace:
    """Capabilities that a test can change: `promised` is what they are at the moment."""
    capabilities = SimpleNamespace(promised=offer)
    capabilities.offer = lambda: capabilities.promised
    return capabilities


async def say(client: Client, command: str) -> Answer:
    client.say(command.encode() + b"\r\n")
    return await client.reply()


def heard(mta: FakeMTA, *verbs: str) -> list[str]:
    return [line.encode("latin-1").decode() for line in mta.heard(*verbs)]


async def test_an_internationalized_message_passes_octet_for_octet(start_gateway: GatewayStarter):
    async with FakeMTA(extensions=ABLE) as mta:
        gateway = await start_gateway([destination(mta.address)], capabilities=promising())
        async with Client(gateway.port) as client:
            await client.ask("EHLO c.example")
            await say(client, "MAIL FROM:<jürgen@bücher.example> BODY=8BITMIME SMTPUTF8")
            # Decomposed, and never composed on the way
            await say(client, "RCPT TO:<u\u0308@our.example>")
            assert (await client.data(CONTENT)).code == 250
        assert heard(mta, "MAIL", "RCPT") == [
            "MAIL FROM:<jürgen@bücher.example> BODY=8BITMIME SMTPUTF8",
            "RCPT TO:<u\u0308@our.example>",
        ]
        received = mta.messages[0].content.decode()
        assert received.endswith(CONTENT.decode())
        assert "with UTF8SMTP id " in received
        assert "for <u\u0308@our.example>;" in received
        record = await gateway.record()
        assert (record.reverse_path, record.recipients) == ("jürgen@bücher.example", ["u\u0308@our.example"])


async def test_the_parameter_is_carried_for_addresses_in_ascii_too(start_gateway: GatewayStarter):
    async with FakeMTA(extensions=ABLE) as mta:
        gateway = await start_gateway([destination(mta.address)], capabilities=promising())
        async with Client(gateway.port) as client:
            await client.ask("EHLO c.example")
            await say(client, "MAIL FROM:<s@a.example> SMTPUTF8")
            await say(client, "RCPT TO:<u1@our.example>")
            assert (await client.data(CONTENT)).code == 250
        assert heard(mta, "MAIL") == ["MAIL FROM:<s@a.example> SMTPUTF8"]


async def test_the_original_recipient_may_be_in_utf_8_as_well(start_gateway: GatewayStarter):
    """RFC 6533 section 3."""
    async with FakeMTA(extensions=ABLE) as mta:
        gateway = await start_gateway([destination(mta.address)], capabilities=promising())
        async with Client(gateway.port) as client:
            await client.ask("EHLO c.example")
            orcpt = "RCPT TO:<u1@our.example> ORCPT=utf-8;jürgen@bücher.example"
            await say(client, "MAIL FROM:<s@a.example>")
            assert (await say(client, orcpt)).code == 501
            await client.ask("RSET")
            await say(client, "MAIL FROM:<s@a.example> SMTPUTF8")
            assert (await say(client, "RCPT TO:<u1@our.example> ORCPT=rfc822;ü@a.example")).code == 501
            assert (await say(client, "RCPT TO:<u1@our.example> NOTIFY=ü")).code == 501
            assert (await say(client, orcpt)).code == 250
        assert heard(mta, "RCPT") == [orcpt]


@pytest.mark.parametrize("recipient", ["u1@bücher.example", "u1@xn--bcher-kva.example", "u1@BÜCHER.example"])
@pytest.mark.parametrize("domain", ["bücher.example", "xn--bcher-kva.example"])
async def test_a_domain_of_ours_is_ours_in_either_spelling(
    start_gateway: GatewayStarter, recipient: str, domain: str
):
    async with FakeMTA(extensions=ABLE) as mta:
        gateway = await start_gateway([destination(mta.address, domains=[domain])], capabilities=promising())
        async with Client(gateway.port) as client:
            await client.ask("EHLO c.example")
            await say(client, "MAIL FROM:<s@a.example> SMTPUTF8")
            assert (await say(client, f"RCPT TO:<{recipient}>")).code == 250
            assert (await say(client, "RCPT TO:<u1@bucher.example>")).code == 550
        assert heard(mta, "RCPT") == [f"RCPT TO:<{recipient}>"]


@pytest.mark.parametrize("hello", ["EHLO c.example", "HELO c.example"])
async def test_where_it_is_not_offered_it_is_refused_at_mail(
    start_gateway: GatewayStarter, mta: FakeMTA, hello: str
):
    promise = PROMISE if hello.startswith("HELO") else Offer(1000)
    gateway = await start_gateway(capabilities=promising(promise))
    async with Client(gateway.port) as client:
        answer = await client.ask(hello)
        assert "SMTPUTF8" not in answer.text
        refusal = await say(client, "MAIL FROM:<ü@a.example> SMTPUTF8")
        assert (refusal.code, refusal.status) == (550, "5.6.7")
        refusal = await say(client, "MAIL FROM:<ü@a.example>")
        assert (refusal.code, refusal.status) == (553, "5.6.7")
    assert [record.reason for record in gateway.records] == ["smtputf8-not-offered", "smtputf8-required"]
    assert not mta.commands


async def test_without_the_parameter_an_address_beyond_ascii_is_refused(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(capabilities=promising())
    async with Client(gateway.port) as client:
        assert "SMTPUTF8" in (await client.ask("EHLO c.example")).text
        refusal = await say(client, "MAIL FROM:<ü@a.example>")
        assert (refusal.code, refusal.status) == (553, "5.6.7")
        assert (await say(client, "MAIL FROM:<s@a.example> SMTPUTF8=yes")).code == 501
        assert (await say(client, "MAIL FROM:<s@a.example>")).code == 250
        refusal = await say(client, "RCPT TO:<ü@our.example>")
        assert (refusal.code, refusal.status) == (553, "5.6.7")
        assert (await say(client, "RCPT TO:<u1@our.example> SMTPUTF8")).code == 555
    assert not mta.commands


@pytest.mark.parametrize(
    "address",
    [
        *(b"\xc0\xaf@a.example", b"\xed\xa0\x80@a.example", b"\xff@a.example", b"a@xn---"),
        *(f"{name}@our.example".encode() for name in ("henryⅣ", "x＠victim.example", "a\u0085b", "a\u2028b")),
        *(
            f"a@{name}".encode()
            for name in ("our．example", "our。example", "straße.example", "\u212aa.test")
        ),
    ],
)
async def test_what_could_be_read_in_two_ways_is_no_address(
    start_gateway: GatewayStarter, mta: FakeMTA, address: bytes
):
    gateway = await start_gateway(capabilities=promising())
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        client.say(b"MAIL FROM:<", address, b"> SMTPUTF8\r\n")
        refusal = await client.reply()
        assert (refusal.code, refusal.status) == (501, "5.1.7")
        assert (await say(client, "MAIL FROM:<s@a.example> SMTPUTF8")).code == 250
        client.say(b"RCPT TO:<", address, b">\r\n")
        refusal = await client.reply()
        assert (refusal.code, refusal.status) == (501, "5.1.3")
    assert not mta.commands


async def test_a_greeting_stays_ascii(start_gateway: GatewayStarter):
    gateway = await start_gateway(capabilities=promising())
    async with Client(gateway.port) as client:
        assert (await say(client, "EHLO bücher.example")).code == 501


@policy(at=Stage.RCPT)
def quoting(tx, evidence):
    """Names the recipient to the client."""
    return reject(
        "no-such-user", text=f"Not here: {tx.envelope.recipient}", detail=str(tx.envelope.recipient)
    )


async def test_replies_stay_ascii(start_gateway: GatewayStarter):
    gateway = await start_gateway(capabilities=promising(), policies=[quoting])
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        await say(client, "MAIL FROM:<s@a.example> SMTPUTF8")
        refusal = await say(client, "RCPT TO:<jürgen@our.example>")
        assert refusal.text.startswith("550 5.7.1 Not here: j?rgen@our.example (ref ")
    assert (await gateway.record()).detail == "jürgen@our.example"


# What was promised, and is not there any more

MAIL_NEEDS = {
    "SMTPUTF8": ("MAIL FROM:<ü@a.example> SMTPUTF8", "RCPT TO:<u1@our.example>"),
    "DSN at MAIL": ("MAIL FROM:<s@a.example> RET=HDRS ENVID=x", "RCPT TO:<u1@our.example>"),
    "DSN at RCPT": ("MAIL FROM:<s@a.example>", "RCPT TO:<u1@our.example> NOTIFY=NEVER"),
}
needs = pytest.mark.parametrize(("mail", "rcpt"), MAIL_NEEDS.values(), ids=MAIL_NEEDS)


@needs
async def test_a_promise_that_cannot_be_kept_any_more_is_refused_for_now(
    start_gateway: GatewayStarter, mta: FakeMTA, mail: str, rcpt: str
):
    capabilities = promising()
    gateway = await start_gateway(capabilities=capabilities)
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        capabilities.promised = Offer(1000)
        refusal = await say(client, mail)
        if refusal.code == 250:
            refusal = await say(client, rcpt)
        assert (refusal.code, refusal.status) == (451, "4.3.3")
        # What was never promised to this client is another matter.
        await client.ask("EHLO c.example")
        answers = [await say(client, command) for command in (mail, rcpt)]
        assert [answer.code for answer in answers] in ([550, 503], [555, 503], [250, 555])
    assert gateway.records[0].reason == "extension-missing"
    assert gateway.records[0].verdict == "tempfailed"
    assert not mta.commands


async def test_what_was_gained_meanwhile_is_not_promised_to_this_client(start_gateway: GatewayStarter):
    capabilities = promising(Offer(1000, recipients=1))
    gateway = await start_gateway(capabilities=capabilities)
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        capabilities.promised = PROMISE
        assert (await say(client, "MAIL FROM:<s@a.example> SMTPUTF8")).code == 550
        assert "SMTPUTF8" in (await client.ask("EHLO c.example")).text
        assert (await say(client, "MAIL FROM:<s@a.example> SMTPUTF8")).code == 250


@needs
async def test_a_downstream_without_it_gets_nothing_of_the_message(
    start_gateway: GatewayStarter, mta: FakeMTA, mail: str, rcpt: str
):
    gateway = await start_gateway(capabilities=promising())
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        await say(client, mail)
        for _ in range(2):
            refusal = await say(client, rcpt)
            assert (refusal.code, refusal.status) == (451, "4.3.3")
        assert (await client.ask("DATA")).code == 554
        # The connection is of use to other mail.
        await client.ask("RSET")
        await client.again("u1@our.example")
        assert (await client.data(CONTENT)).code == 250
    assert mta.heard("MAIL") == ["MAIL FROM:<s@a.example>"]
    # The second attempt looked whether a new connection can do more.
    assert len(mta.conversations) == 2
    assert [record.reason for record in gateway.records] == ["extension-missing"] * 2 + ["accepted"]
    assert "does not offer" in gateway.records[0].detail


async def test_a_later_recipient_may_need_what_is_not_there(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(capabilities=promising())
    async with Client(gateway.port) as client:
        await client.open("u1@our.example")
        refusal = await say(client, "RCPT TO:<u2@our.example> NOTIFY=NEVER")
        assert (refusal.code, refusal.status) == (451, "4.3.3")
        assert (await client.data(CONTENT)).code == 250
    assert mta.messages[0].recipients == ["RCPT TO:<u1@our.example>"]


async def test_a_kept_connection_from_before_does_not_count(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(capabilities=promising())
    async with Client(gateway.port) as client:
        assert (await client.deliver(CONTENT, "u1@our.example")).code == 250
        mta.extensions = ABLE
        await say(client, "MAIL FROM:<ü@a.example> SMTPUTF8")
        assert (await say(client, "RCPT TO:<u1@our.example>")).code == 250
        assert (await client.data(CONTENT)).code == 250
    assert heard(mta, "MAIL")[1] == "MAIL FROM:<ü@a.example> SMTPUTF8"
    assert len(mta.conversations) == 2


async def test_eight_bit_content_is_sent_unchanged_whatever_the_downstream_says(
    start_gateway: GatewayStarter,
):
    async with FakeMTA(extensions=["PIPELINING"]) as mta:
        gateway = await start_gateway([destination(mta.address)])
        async with Client(gateway.port) as client:
            await client.ask("EHLO c.example")
            await say(client, "MAIL FROM:<s@a.example> BODY=8BITMIME")
            await say(client, "RCPT TO:<u1@our.example>")
            assert (await client.data(CONTENT)).code == 250
        assert mta.messages[0].mail == "MAIL FROM:<s@a.example>"
        assert mta.messages[0].content.endswith(CONTENT)


async def test_extensions_are_noticed_when_they_change(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway, capabilities = await mirroring(start_gateway, mta)
    await capabilities.probe()
    async with Client(gateway.port) as client:
        assert "SMTPUTF8" not in (await client.ask("EHLO c.example")).text
        mta.extensions = ABLE
        await capabilities.probe()
        assert "SMTPUTF8" in (await client.ask("EHLO c.example")).text
        mta.extensions = EXTENSIONS
        await capabilities.probe()
        assert (await say(client, "MAIL FROM:<ü@a.example> SMTPUTF8")).code == 451


async def test_recipients_have_the_limit_that_was_said(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.extensions = (*EXTENSIONS, "LIMITS RCPTMAX=2")
    gateway, capabilities = await mirroring(start_gateway, mta)
    async with Client(gateway.port) as client:
        assert f"LIMITS RCPTMAX={MAX_RECIPIENTS}" in (await client.ask("EHLO c.example")).text
        await capabilities.probe()
        assert "LIMITS RCPTMAX=2" in (await client.ask("EHLO c.example")).text
        answers = await client.again(*(f"u{number}@our.example" for number in range(3)))
        assert [str(answer)[:9] for answer in answers] == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]
        assert (await client.data(CONTENT)).code == 250
    assert len(mta.messages[0].recipients) == 2
    assert [record.reason for record in gateway.records] == ["too-many-recipients", "accepted"]


async def mirroring(start_gateway: GatewayStarter, mta: FakeMTA) -> tuple[RunningGateway, Capabilities]:
    """A gateway that offers what `mta` was seen to have."""
    entry = destination(mta.address)
    capabilities = promising()
    gateway = await start_gateway([entry], capabilities=capabilities)
    mirror = Capabilities(gateway.pool, Router([entry]), gateway.service.max_message_size)
    capabilities.offer = mirror.offer
    return gateway, mirror


async def test_looking_at_downstreams_goes_on_whatever_happens(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.relay.capabilities.PROBE_INTERVAL", 0.01)
    mta.extensions = ABLE
    gateway, capabilities = await mirroring(start_gateway, mta)
    usual, failures = gateway.pool.open, []

    async def fail_twice(*arguments):
        if len(failures) < 2:
            failures.append(arguments)
            raise RuntimeError("nobody thought of this")
        return await usual(*arguments)

    monkeypatch.setattr(gateway.pool, "open", fail_twice)
    looking = asyncio.create_task(capabilities.keep_probing())
    try:
        await eventually(lambda: capabilities.offer().smtputf8)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert len(failures) == 2
