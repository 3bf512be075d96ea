"""What is refused before the content comes, where that is said, and what the records say of the client."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.milter_protocol import ALL_ACTIONS, Actions, Command, ProtocolError, strings
from tests.milter.asked import PLAIN, A, Asked, B, C, brief, deliver, up_to

TLS = {"{tls_version}": "TLSv1.3", "{cipher}": "TLS_AES_256_GCM_SHA384"}
ADDRESSES = {"refused": "192.0.2.50", "deferred": "192.0.2.40", "broken": "192.0.2.90"}
REPLIES = {
    "refused": (550, "5.7.1", "rejected", "told-so"),
    "deferred": (451, "4.7.1", "tempfailed", "told-so"),
    "broken": (451, "4.3.0", "tempfailed", "policy-error"),
}
STAGES_AND_WORDS = [(stage, word) for stage in ("connect", "helo", "mail") for word in REPLIES]


def obeying(stage: str, word: str) -> tuple[dict[str, str], bytes]:
    """The client and the sender for whom this stage obeys the word."""
    match stage:
        case "connect":
            return {"client_address": ADDRESSES[word]}, A
        case "helo":
            return {"helo": f"{word}.example"}, A
        case _:
            return {}, f"<{word}@example.net>".encode()


@pytest.fixture(scope="module")
def _early(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with Asked(tmp_path_factory.mktemp("early"), gateway='speak = "connect"') as running:
        yield running


@pytest.fixture
def early(_early: Asked) -> Asked:
    """A gateway that speaks at once."""
    return _early.renewed()


# What is decided before RCPT is said there


@pytest.mark.parametrize(("stage", "word"), STAGES_AND_WORDS)
async def test_an_early_refusal_is_said_to_each_recipient(asked: Asked, stage: str, word: str):
    client, sender = obeying(stage, word)
    code, status, verdict, reason = REPLIES[word]
    async with asked.mta() as mta:
        assert (await mta.greet(**client)).goes_on
        assert (await mta.mail(sender)).is_continue
        for recipient in (B, C):
            reply = (await mta.rcpt(recipient)).reply
            assert (reply.code, reply.status) == (code, status)
    records = await asked.recorded(2)
    for record, recipient in zip(records, (B, C), strict=True):
        assert brief(record, "recipients") == (verdict, stage, "rcpt", reason, [recipient[1:-1].decode()])
        assert record["reverse_path"] == sender[1:-1].decode()
        assert record["policy"] == f"at_{stage}"


async def test_the_text_of_a_refusal_is_the_policys_and_ends_with_the_reference(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        await mta.mail(A)
        reply = (await mta.rcpt(b"<refused@our.example>")).reply
    record = await asked.record()
    assert reply.text == f"No, 100% no (ref {record['reference']})"
    assert (reply.code, reply.text) == (record["reply"]["code"], record["reply"]["text"])


async def test_postmaster_hears_of_no_early_refusal(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet(client_address=ADDRESSES["refused"])
        await mta.mail(A)
        assert (await mta.rcpt(B)).is_reject
        assert (await mta.rcpt(b"<postmaster@our.example>")).is_continue
        assert (await mta.rcpt(b"<Postmaster>")).is_continue
        end = await mta.message(PLAIN)
        assert len(mta.delivered(end).recipients) == 2
    refused, taken = await asked.recorded(2)
    assert brief(refused) == ("rejected", "connect", "rcpt", "told-so")
    assert brief(taken) == ("accepted", "end-of-data", "end-of-data", "accepted")
    assert taken["recipients"] == ["postmaster@our.example", "Postmaster@mx.example"]


@pytest.mark.parametrize(
    ("client", "sender", "recipient", "stage", "policy", "reason"),
    [
        ("203.0.113.7", A, B, "connect", "blocked_clients", "client-blocked"),
        ("192.0.2.1", b"<x@junk.example>", B, "mail", "blocked_senders", "sender-blocked"),
        ("192.0.2.1", A, b"<nobody@our.example>", "rcpt", "blocked_recipients", "recipient-blocked"),
    ],
)
async def test_what_is_blocked_is_refused_by_name(
    asked: Asked, client: str, sender: bytes, recipient: bytes, stage: str, policy: str, reason: str
):
    async with asked.mta() as mta:
        await mta.greet(client_address=client)
        await mta.mail(sender)
        assert (await mta.rcpt(recipient)).is_reject
    record = await asked.record()
    assert brief(record, "policy") == ("rejected", stage, "rcpt", reason, policy)
    assert record["mta"] == {"name": "mx.example", "daemon": "mx.example", "queue_id": None}


async def test_recipients_are_refused_one_by_one(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        await mta.mail(A)
        assert (await mta.rcpt(B)).is_continue
        assert (await mta.rcpt(b"<refused@our.example>")).is_reject
        assert (await mta.rcpt(b"<deferred@our.example>")).is_tempfail
        assert (await mta.rcpt(b"<broken@our.example>")).is_tempfail
        assert (await mta.rcpt(C)).is_continue
        end = await mta.message(PLAIN)
        assert mta.delivered(end).recipients == (b"b@our.example", b"c@our.example")
    *refused, taken = await asked.recorded(4)
    assert [brief(record) for record in refused] == [
        ("rejected", "rcpt", "rcpt", "told-so"),
        ("tempfailed", "rcpt", "rcpt", "told-so"),
        ("tempfailed", "rcpt", "rcpt", "policy-error"),
    ]
    assert [record["recipients"] for record in refused] == [
        ["refused@our.example"],
        ["deferred@our.example"],
        ["broken@our.example"],
    ]
    assert taken["recipients"] == ["b@our.example", "c@our.example"]


@pytest.mark.parametrize("stage", ["connect", "helo", "mail", "rcpt"])
async def test_who_is_accepted_early_is_judged_no_more(asked: Asked, stage: str):
    client: dict[str, str] = {}
    sender, recipient = A, B
    match stage:
        case "connect":
            client = {"client_address": "192.0.2.20"}
        case "helo":
            client = {"helo": "accepted.example"}
        case "mail":
            sender = b"<accepted@example.net>"
        case _:
            recipient = b"<accepted@our.example>"
    async with asked.mta() as mta:
        await mta.greet(**client)
        end = await deliver(mta, b'X-Order: reject("no")\r\n\r\n', recipient, sender=sender)
    record = await asked.record()
    if stage == "rcpt":
        # What is said of one recipient says nothing of the message.
        assert end.is_reject
        assert brief(record) == ("rejected", "end-of-data", "end-of-data", "no")
    else:
        assert end.is_continue
        assert brief(record, "policy") == ("accepted", "end-of-data", "end-of-data", "told-so", f"at_{stage}")


async def test_what_a_client_called_itself_before_does_not_count(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet(helo="refused.example")
        assert (await mta.helo(b"client.example")).goes_on
        assert (await deliver(mta)).is_continue
    assert (await asked.record())["client"]["helo"] == "client.example"


async def test_a_new_greeting_after_a_message_is_judged_anew(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        assert (await deliver(mta)).is_continue
        await mta.helo(b"refused.example")
        await mta.mail(A)
        assert (await mta.rcpt(B)).is_reject
    _, refused = await asked.recorded(2)
    assert brief(refused) == ("rejected", "helo", "rcpt", "told-so")


# Where it is said at once


@pytest.mark.parametrize(("stage", "word"), STAGES_AND_WORDS)
async def test_an_early_refusal_is_said_where_it_is_decided(early: Asked, stage: str, word: str):
    client, sender = obeying(stage, word)
    code, status, verdict, reason = REPLIES[word]
    async with early.mta() as mta:
        response = await mta.greet(**client)
        if stage == "mail":
            assert response.is_continue
            response = await mta.mail(sender)
        assert (response.reply.code, response.reply.status) == (code, status)
    record = await early.record()
    assert brief(record, "recipients") == (verdict, stage, stage, reason, [])
    assert record["reverse_path"] == (sender[1:-1].decode() if stage == "mail" else None)


async def test_after_a_refused_sender_another_one_is_heard(early: Asked):
    async with early.mta() as mta:
        assert (await mta.greet()).is_continue
        assert (await mta.mail(b"<refused@example.net>")).is_reject
        assert (await deliver(mta)).is_continue
        assert (await mta.mail(b"<deferred@example.net>")).is_tempfail
        assert (await deliver(mta)).is_continue
    records = await early.recorded(4)
    assert [record["verdict"] for record in records] == ["rejected", "accepted", "tempfailed", "accepted"]


async def test_where_refusals_come_at_rcpt_nobody_waits_before_mail(asked: Asked, early: Asked):
    async with asked.mta() as at_rcpt, early.mta() as at_once:
        assert (await at_rcpt.client("192.0.2.1")).decision.name == "NO_REPLY"
        assert (await at_rcpt.helo(b"x.example")).decision.name == "NO_REPLY"
        assert (await at_once.client("192.0.2.1")).is_continue
        assert (await at_once.helo(b"x.example")).is_continue


# Who the client is


async def whole(asked: Asked, **connect: Any) -> dict[str, Any]:
    """The record of a message by such a client."""
    async with asked.mta() as mta:
        await mta.client(**connect)
        await mta.helo(b"client.example")
        assert (await deliver(mta)).is_continue
    return await asked.record()


@pytest.mark.parametrize(
    ("connect", "address", "port", "name"),
    [
        ({"address": "192.0.2.1", "name": "c.example", "port": 77}, "192.0.2.1", 77, "c.example"),
        ({"address": "192.0.2.1"}, "192.0.2.1", 49_152, None),
        ({"address": "192.0.2.1", "name": "unknown"}, "192.0.2.1", 49_152, None),
        ({"address": "2001:db8::1", "port": 1}, "2001:db8::1", 1, None),
        ({"address": "::ffff:192.0.2.1"}, "192.0.2.1", 49_152, None),
        ({"address": "/run/somewhere", "name": "localhost"}, "127.0.0.1", 0, "localhost"),
        ({"address": "", "name": "localhost"}, "127.0.0.1", 0, "localhost"),
    ],
)
async def test_the_client_is_the_mtas(
    asked: Asked, connect: dict[str, Any], address: str, port: int, name: str | None
):
    client = (await whole(asked, **connect))["client"]
    assert (client["address"], client["port"], client["name"]) == (address, port, name)


async def test_an_ipv6_address_may_be_tagged(asked: Asked):
    """As Sendmail writes it."""
    async with asked.mta() as mta:
        data = strings(b"[IPv6:2001:db8::1]") + b"6" + (25_000).to_bytes(2) + strings(b"IPv6:2001:db8::1")
        await mta.step(Command.CONNECT, data, {})
        await mta.helo(b"client.example")
        assert (await deliver(mta)).is_continue
    client = (await asked.record())["client"]
    assert (client["address"], client["port"], client["name"]) == ("2001:db8::1", 25_000, None)


@pytest.mark.parametrize(("resolved", "name"), [("OK", "c.example"), ("FORGED", None), ("TEMP", None)])
async def test_a_name_that_does_not_lead_back_is_no_name(asked: Asked, resolved: str, name: str | None):
    record = await whole(asked, address="192.0.2.1", name="c.example", macros={"{client_resolve}": resolved})
    assert record["client"]["name"] == name


async def test_a_record_has_all_that_the_mta_says(asked: Asked):
    async with asked.mta(daemon="smtp.our.example") as mta:
        await mta.client("192.0.2.1", "c.example", 25_000, {"{daemon_name}": "submission"})
        await mta.helo(b"h.example")
        # STARTTLS, then EHLO again.
        await mta.helo(b"h.example", TLS)
        await mta.mail(A, b"BODY=8BITMIME", macros={"{auth_authen}": "anna@example.net", **TLS})
        await mta.rcpt(B, b"NOTIFY=NEVER")
        assert (await mta.message(PLAIN)).is_continue
        queue_id = mta.queue_id
    record = await asked.record()
    assert record["listener"] == asked.listening_on
    assert record["mta"] == {"name": "smtp.our.example", "daemon": "submission", "queue_id": queue_id}
    assert record["client"] == {
        "address": "192.0.2.1",
        "port": 25_000,
        "name": "c.example",
        "helo": "h.example",
        "tls": "TLSv1.3",
        "authenticated": "anna@example.net",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "protocol": "ESMTP",
    }
    assert record["parameters"] == {"BODY": "8BITMIME"}
    assert record["reply"] is None
    assert record["downstream"] is None


async def test_an_mta_without_macros_is_served(asked: Asked):
    async with asked.mta(has_macros=False) as mta:
        await mta.greet()
        assert (await deliver(mta)).is_continue
    assert (await asked.record())["mta"] == {"name": "", "daemon": "", "queue_id": None}


async def test_who_does_not_say_helo_is_judged_as_nobody(asked: Asked):
    async with asked.mta() as mta:
        await mta.client("192.0.2.1")
        assert (await deliver(mta)).is_continue
    record = await asked.record()
    assert record["client"]["helo"] == ""
    assert record["opinions"]["at_helo"]["verdict"] is None


# What is no command, or cannot be followed


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"a@example.net", "a@example.net"),
        (b"<a@Example.NET>", "a@Example.NET"),
        (b"<@h.example,@i.example:a@example.net>", "a@example.net"),
        (b"<anna>", "anna@mx.example"),
        (b"anna", "anna@mx.example"),
        (b"<>", "<>"),
        (b"", "<>"),
        (b'<"a b"@example.net>', '"a b"@example.net'),
        ("<ä@exämple.net>".encode(), "ä@exämple.net"),
    ],
)
async def test_a_senders_address_may_look_so(asked: Asked, path: bytes, shown: str):
    async with asked.mta() as mta:
        await mta.greet()
        parameters = () if path.isascii() else (b"SMTPUTF8",)
        assert (await mta.mail(path, *parameters)).is_continue
        assert (await mta.rcpt(B)).is_continue
        assert (await mta.message(PLAIN)).is_continue
    assert (await asked.record())["reverse_path"] == shown


PATHS = [b"<a b@example.net>", b"<a@>", b"<@example.net>", b"<\xff@x.y>"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("command", ["mail", "rcpt"])
async def test_what_is_no_address_is_refused_and_recorded(asked: Asked, command: str, path: bytes):
    async with asked.mta() as mta:
        await mta.greet()
        if command == "mail":
            response = await mta.mail(path)
        else:
            await mta.mail(A)
            response = await mta.rcpt(path)
        assert (response.reply.code, response.reply.status[:4]) == (501, "5.1.")
        assert (await deliver(mta)).is_continue
    refused, _ = await asked.recorded(2)
    assert brief(refused) == ("rejected", command, command, "malformed-address")


@pytest.mark.parametrize(("size", "is_refused"), [(b"2097152", False), (b"2097153", True), (b"9" * 20, True)])
async def test_a_size_that_is_too_big_is_refused_at_mail(asked: Asked, size: bytes, is_refused: bool):
    async with asked.mta() as mta:
        await mta.greet()
        response = await mta.mail(A, b"SIZE=" + size)
        if not is_refused:
            assert response.is_continue
            return
        assert (response.reply.code, response.reply.status) == (552, "5.3.4")
        assert (await deliver(mta)).is_continue
    refused, taken = await asked.recorded(2)
    assert brief(refused) == ("rejected", "mail", "mail", "message-too-big")
    assert (refused["reverse_path"], taken["verdict"]) == ("a@example.net", "accepted")


async def test_a_size_that_is_no_number_is_refused(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        assert (await mta.mail(A, b"SIZE=many")).reply.code == 501
    assert (await asked.record())["stage"] == "mail"


# MTAs that are different


@pytest.mark.parametrize("missing", [Actions.ADDHDRS, Actions.CHGHDRS, Actions.ADDRCPT, Actions.QUARANTINE])
async def test_an_mta_that_allows_too_little_is_sent_away(asked: Asked, missing: Actions):
    with pytest.raises((EOFError, ProtocolError)):
        async with asked.mta(actions=ALL_ACTIONS & ~missing):
            raise AssertionError("it was taken")
    assert f"missing_actions={missing.value:#x}" in asked.log


async def test_an_mta_that_knows_no_symbol_lists_is_served(asked: Asked):
    async with asked.mta(actions=ALL_ACTIONS & ~Actions.SETSYMLIST) as mta:
        assert not mta.negotiated.symbols
        await mta.greet()
        assert (await deliver(mta)).is_continue
        queue_id = mta.queue_id
    assert (await asked.record())["mta"] == {
        "name": "mx.example",
        "daemon": "mx.example",
        "queue_id": queue_id,
    }


async def test_a_client_without_an_address_costs_only_its_own_connection(asked: Asked):
    async with asked.mta() as mta:
        data = strings(b"x.example") + b"4" + (25).to_bytes(2) + strings(b"nonsense")
        await mta.step(Command.CONNECT, data, {})
        with pytest.raises(EOFError):
            await mta.mail(A)
        await mta.close()
    async with asked.mta() as mta:
        await mta.greet()
        assert (await deliver(mta)).is_continue
    await asked.record()


async def test_without_a_client_there_is_no_mail(asked: Asked):
    """A MAIL out of the blue, which libmilter lets through where there was no connect."""
    async with asked.mta() as mta:
        for _ in range(2):
            assert (await mta.mail(A)).is_tempfail
        assert (await mta.helo(b"client.example")).decision.name == "NO_REPLY"
        assert (await mta.mail(A)).is_tempfail
    await asked.recorded(0)


# Which recipients go together


async def test_a_recipient_with_another_profile_is_sent_to_separately(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        await mta.mail(A)
        assert (await mta.rcpt(B)).is_continue
        reply = (await mta.rcpt(b"<other@our.example>")).reply
        assert (reply.code, reply.status) == (452, "4.5.3")
        assert (await mta.message(PLAIN)).is_continue
        # Alone it is judged by its own: what is refused there is only said here.
        assert (await deliver(mta, b'X-Order: reject("no")\r\n\r\n', b"<other@our.example>")).is_continue
    apart, first, second = await asked.recorded(3)
    assert brief(apart) == ("tempfailed", "rcpt", "rcpt", "other-profile")
    assert (first["profile"], second["profile"]) == (None, "other@our.example")
    assert second["opinions"]["at_end"]["verdict"] == "would-reject"


async def test_a_recipient_with_other_exemptions_is_sent_to_separately(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        await mta.mail(A)
        assert (await mta.rcpt(b"<exempt@our.example>")).is_continue
        assert (await mta.rcpt(B)).reply.code == 452
        assert (await mta.message(b'X-Order: reject("no")\r\n\r\n')).is_continue
    apart, _ = await asked.recorded(2)
    assert brief(apart) == ("tempfailed", "rcpt", "rcpt", "other-exemption")


# One connection, and what is given up


async def test_many_transactions_by_one_connection_do_not_know_each_other(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        for number in range(5):
            recipient = b"<r%d@our.example>" % number
            assert (await deliver(mta, PLAIN, recipient)).is_continue
            assert (await deliver(mta, b'X-Order: reject("no")\r\n\r\n', recipient)).is_reject
    records = await asked.recorded(10)
    assert [record["recipients"] for record in records] == [
        [f"r{number // 2}@our.example"] for number in range(10)
    ]
    assert [record["verdict"] for record in records] == ["accepted", "rejected"] * 5
    assert len({record["mta"]["queue_id"] for record in records}) == 10


@pytest.mark.parametrize("state", ["connected", "mail", "refused", "rcpt", "data", "header", "body"])
async def test_what_is_given_up_is_recorded_where_somebody_was_to_get_it(asked: Asked, state: str):
    async with asked.mta() as mta:
        await mta.greet()
        if state == "refused":
            await mta.mail(A)
            assert (await mta.rcpt(b"<refused@our.example>")).is_reject
        else:
            await up_to(mta, state)
        await mta.abort()
        # And there is nothing left of it.
        assert (await deliver(mta)).is_continue
    if state in {"connected", "mail"}:
        assert (await asked.record())["verdict"] == "accepted"
        return
    given_up, taken = await asked.recorded(2)
    assert (taken["verdict"], taken["message"]["size"]) == ("accepted", len(PLAIN))
    if state == "refused":
        assert given_up["verdict"] == "rejected"
    else:
        assert brief(given_up)[0::3] == ("aborted", "given-up-by-mta")
        assert given_up["recipients"] == ["b@our.example"]


async def test_what_is_given_up_twice_is_recorded_once(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        await up_to(mta, "data")
        await mta.abort()
        await mta.abort()
    assert (await asked.record())["verdict"] == "aborted"


@pytest.mark.parametrize("name", [b"\xff\xfe.example", b""])
async def test_a_greeting_that_is_no_name_is_judged_as_none(asked: Asked, name: bytes):
    async with asked.mta() as mta:
        await mta.client("192.0.2.1")
        await mta.helo(name)
        assert (await deliver(mta)).is_continue
    assert (await asked.record())["client"]["helo"] == ""
