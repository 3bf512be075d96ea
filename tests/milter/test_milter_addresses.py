"""Addresses that the MTA rewrites are judged as what they become; those that are none leave no traces."""

import pytest

from tests.fakes.milter_protocol import DeleteRecipient
from tests.milter.asked import PLAIN, A, Asked, B, brief

TO, FROM = "{rcpt_addr}", "{mail_addr}"


@pytest.mark.parametrize("form", ["{0}%our.example", "our.example!{0}", "{0}", "{0}%our.example@mx.example"])
async def test_a_recipient_is_judged_as_what_the_mta_makes_of_it(asked: Asked, form: str):
    def rewritten(user: str) -> tuple[bytes, dict[str, str]]:
        return f"<{form.format(user)}>".encode(), {TO: f"{user}@our.example"}

    async with asked.mta() as mta:
        await mta.greet()
        await mta.mail(A)
        # A policy, and a list.
        for user in ("refused", "nobody"):
            path, macros = rewritten(user)
            assert (await mta.rcpt(path, macros=macros)).is_reject
        path, macros = rewritten("other")
        assert (await mta.rcpt(path, macros=macros)).is_continue
        # Of another profile.
        assert (await mta.rcpt(B)).is_tempfail
        await mta.abort()
    *refused, apart, _ = await asked.recorded(4)
    assert [each["recipients"] for each in refused] == [["refused@our.example"], ["nobody@our.example"]]
    assert [each["reason"] for each in refused] == ["told-so", "recipient-blocked"]
    assert apart["reason"] == "other-profile"


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (b"<sent-on%our.example>", b"<sent-on%our.example>"),
        (b"<our.example!sent-on>", b"<our.example!sent-on>"),
        (b"<sent-on>", b"<sent-on>"),
        (b"<@relay.example:sent-on@our.example>", b"<sent-on@our.example>"),
        (b"<@relay.example:sent-on%our.example>", b"<sent-on%our.example>"),
        (b"<@relay.example:sent-on%our.example@mx.example>", b"<sent-on%our.example@mx.example>"),
    ],
)
async def test_who_is_sent_on_is_deleted_by_the_address_as_given(asked: Asked, path: bytes, known: bytes):
    async with asked.mta() as mta:
        await mta.greet()
        await mta.mail(A)
        assert (await mta.rcpt(path, macros={TO: "sent-on@our.example"})).is_continue
        end = await mta.message(PLAIN)
        assert DeleteRecipient(known) in end.modifications
    record = await asked.record()
    assert brief(record, "recipients")[0::4] == ("accepted", ["sent-on@our.example"])


@pytest.mark.parametrize("form", [b"broken%junk.example", b"junk.example!broken", b"broken"])
async def test_a_sender_is_judged_as_what_the_mta_makes_of_it(asked: Asked, form: bytes):
    async with asked.mta() as mta:
        await mta.greet()
        assert (await mta.mail(b"<%s>" % form, macros={FROM: "x@junk.example"})).is_continue
        assert (await mta.rcpt(B)).is_reject
    record = await asked.record()
    assert (record["reason"], record["reverse_path"]) == ("sender-blocked", "x@junk.example")


@pytest.mark.parametrize("path", [b"<b%our.example>", b"<our.example!b>"])
async def test_what_may_be_rewritten_by_an_mta_that_does_not_say_so_is_refused(asked: Asked, path: bytes):
    async with asked.mta(has_macros=False) as mta:
        await mta.greet()
        await mta.mail(A)
        assert (await mta.rcpt(path)).is_reject
        await mta.abort()
    assert brief(await asked.record())[2:] == ("rcpt", "malformed-address")


async def test_an_address_without_a_domain_is_the_mtas_own(asked: Asked):
    async with asked.mta(daemon="our.example") as mta:
        await mta.greet()
        # What it knows of it is no more than what the client has said.
        await mta.mail(b"<a>")
        assert (await mta.rcpt(b"<refused>")).is_reject
    record = await asked.record()
    assert (record["reverse_path"], record["recipients"]) == ("a@our.example", ["refused@our.example"])


async def test_a_malformed_mail_has_nothing_of_the_transaction_before(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        assert (await mta.mail(b"<victim@example.net>", b"SIZE=999999999")).is_reject
        assert (await mta.mail(b"<foo..bar@x>")).is_reject
        await mta.mail(b"<victim@example.net>", b"BODY=8BITMIME")
        await mta.rcpt(b"<refused@our.example>")
        await mta.abort()
        assert (await mta.mail(b"<foo..bar@x>")).is_reject
        # At RCPT it is of the transaction that it belongs to.
        await mta.mail(b"<a@example.net>")
        assert (await mta.rcpt(b"<bad..rcpt@our.example>")).is_reject
        await mta.abort()
    big, first, refused, second, rcpt = await asked.recorded(5)
    assert [each["reverse_path"] for each in (big, refused)] == ["victim@example.net"] * 2
    for malformed in (first, second):
        assert brief(malformed)[2:] == ("mail", "malformed-address")
        assert (malformed["reverse_path"], malformed["recipients"]) == (None, [])
        assert not malformed["parameters"]
    assert (rcpt["spoken"], rcpt["reverse_path"]) == ("rcpt", "a@example.net")
