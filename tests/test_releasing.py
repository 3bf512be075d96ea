"""From the quarantine to the downstream: nobody gets it twice, and who did not get it still waits."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.quarantine.releasing import Outcome, Releaser
from gateway.quarantine.store import Entry, Quarantine
from gateway.relay.router import Router
from gateway.smtp.address import parse_address
from tests.fakes.mta import FakeMTA, accept, drop, hang, say
from tests.proxy.running import destination

CONTENT = b"Received: from a by b\r\nSubject: x\r\n\r\n.dot\r\n"
U1, U2, OTHER = "u1@our.example", "u2@our.example", "x@other.example"
REFERENCE = "7K3F-Q2MD"


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path)


async def keep(quarantine: Quarantine, *recipients: str) -> Entry:
    entry = Entry(
        reference=REFERENCE,
        time="2026-01-01T00:00:00.000000Z",
        reason="odd",
        policy="strange",
        client="192.0.2.1",
        reverse_path="s@a.example",
        recipients=list(recipients),
        parameters={"BODY": "8BITMIME"},
    )
    await quarantine.keep(entry, [CONTENT])
    return entry


async def release(
    quarantine: Quarantine,
    mta: FakeMTA,
    entry: Entry,
    *elsewhere: str,
    lmtp: bool = False,
    deadline: float = 30,
) -> list[Outcome]:
    router = Router([destination(mta.address, lmtp=lmtp)])
    releaser = Releaser(quarantine, router, "mx.our.example", deadline)
    return await releaser.release(entry, [parse_address(each) for each in elsewhere])


def waiting(quarantine: Quarantine) -> Sequence[str] | None:
    entry = quarantine.find(REFERENCE)
    return None if entry is None else entry.recipients


async def test_it_is_delivered_as_it_was_kept_and_deleted(quarantine: Quarantine, mta: FakeMTA):
    outcomes = await release(quarantine, mta, await keep(quarantine, U1, U2))
    assert [(each.recipient, each.is_delivered) for each in outcomes] == [(U1, True), (U2, True)]
    (message,) = mta.messages
    assert message.content == CONTENT
    assert message.mail == "MAIL FROM:<s@a.example> BODY=8BITMIME"
    assert message.recipients == [f"RCPT TO:<{U1}>", f"RCPT TO:<{U2}>"]
    # Not in the name of the client of that day.
    assert not message.xforward
    assert waiting(quarantine) is None


async def test_who_did_not_get_it_still_waits(quarantine: Quarantine, mta: FakeMTA):
    mta.script = {f"RCPT TO:<{U2}>": say("452 4.2.2 full")}
    outcomes = await release(quarantine, mta, await keep(quarantine, U1, U2, OTHER))
    assert [each.is_delivered for each in outcomes] == [True, False, False]
    assert [each.said for each in outcomes[1:]] == ["452 4.2.2 full", "no [[relay]] has its domain"]
    assert waiting(quarantine) == [U2, OTHER]


async def test_who_got_it_is_written_off_before_the_others_are_tried(quarantine: Quarantine, mta: FakeMTA):
    entry = await keep(quarantine, U1, OTHER)
    relays = [destination(mta.address), destination("127.0.0.1:9", domains=["other.example"])]
    releaser = Releaser(quarantine, Router(relays), "mx.our.example", 30)
    seen: list[Sequence[str] | None] = []
    real = releaser._deliver

    async def interrupted(*arguments):
        if arguments[2] is relays[1]:
            seen.append(waiting(quarantine))
            raise KeyboardInterrupt
        return await real(*arguments)

    releaser._deliver = interrupted
    with pytest.raises(KeyboardInterrupt):
        await releaser.release(entry)
    assert (seen, len(mta.messages)) == ([[OTHER]], 1)


async def test_of_two_releases_at_once_one_delivers(quarantine: Quarantine, mta: FakeMTA):
    entry = await keep(quarantine, U1)
    both = await asyncio.gather(release(quarantine, mta, entry), release(quarantine, mta, entry))
    said = [outcome.said for (outcome,) in both if not outcome.is_delivered]
    assert said == ["another release of it is under way"]
    # Found before that, and handed on by somebody else meanwhile.
    (late,) = await release(quarantine, mta, entry)
    assert (late.is_delivered, late.said) == (False, "it is not there any more")
    assert len(mta.messages) == 1


async def test_a_store_that_breaks_off_is_asked_again_only_for_the_rest(quarantine: Quarantine, mta: FakeMTA):
    mta.lmtp = True
    mta.script = {"end": [accept("250 2.0.0 first"), drop]}
    outcomes = await release(quarantine, mta, await keep(quarantine, U1, U2), lmtp=True)
    assert [each.is_delivered for each in outcomes] == [True, False]
    assert "may have been taken" in outcomes[1].said
    assert waiting(quarantine) == [U2]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"end": say("554 5.7.1 no")}, "554 5.7.1 no"),
        ({"DATA": say("451 4.3.0 later")}, "451 4.3.0 later"),
        ({"MAIL": say("550 5.1.8 who")}, "550 5.1.8 who"),
        ({"RCPT": hang}, "the deadline passed"),
        ({"end": hang}, "the deadline passed (after the end of data: it may have been taken)"),
    ],
)
async def test_what_is_not_taken_stays(quarantine: Quarantine, mta: FakeMTA, script, said: str):
    mta.script = script
    entry = await keep(quarantine, U1)
    (outcome,) = await release(quarantine, mta, entry, deadline=0.5)
    assert (outcome.is_delivered, outcome.said) == (False, said)
    assert quarantine.find(REFERENCE) == entry


async def test_it_can_be_sent_elsewhere(quarantine: Quarantine, mta: FakeMTA):
    entry = await keep(quarantine, U1)
    mta.script = {f"RCPT TO:<{U2}>": [say("450 4.2.0 later")]}
    (outcome,) = await release(quarantine, mta, entry, U2)
    assert not outcome.is_delivered
    assert waiting(quarantine) == [U1]
    (outcome,) = await release(quarantine, mta, entry, U2)
    assert outcome.is_delivered
    assert waiting(quarantine) == [U1]
    assert mta.messages[0].recipients == [f"RCPT TO:<{U2}>"]
