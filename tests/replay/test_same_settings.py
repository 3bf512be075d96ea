"""Invariant: replaying records by the settings that made them flips nothing, and leaves nothing in doubt.

Not even by policies that look at what no record has, for they are known to be the same.
"""

import asyncio
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from filters.base import Filter, FilterError, TooLarge
from filters.evidence import (
    Evidence,
    Finding,
    Listings,
    Outcome,
    Skipped,
    SpamReport,
    Unavailable,
    VirusReport,
)
from gateway.journal.record import Record, decode, encode
from gateway.pipeline import FilterSetting, PolicySetting
from gateway.plugins.fingerprint import Fingerprint
from gateway.replay.replaying import Kind, Replay
from gateway.smtp.transaction import Stage, Transaction
from policies.policy import Policy
from policies.verdict import (
    Verdict,
    accept,
    add_recipient,
    discard,
    mark,
    quarantine,
    redirect,
    reject,
    tempfail,
)
from tests.client import Client
from tests.fakes.mta import FakeMTA, say
from tests.proxy.running import RunningGateway, destination

NEEDS: dict[Stage, list[type[Finding]]] = {
    Stage.CONNECT: [Listings],
    Stage.END_OF_DATA: [Listings, SpamReport, VirusReport],
}
ALWAYS = [
    *(None, None, reject("no"), tempfail("later"), accept("friend"), mark("X-Mark", "yes")),
    accept("known", exempt_from=["whim_0", "whim_2"]),
]
ANSWERS: dict[Stage, list[Verdict | None]] = {
    **dict.fromkeys(Stage, ALWAYS),
    Stage.RCPT: [*ALWAYS, redirect("u2@our.example"), redirect("x@victim.example")],
    Stage.END_OF_DATA: [
        *(*ALWAYS, quarantine("odd"), discard("odd"), add_recipient("x@victim.example")),
        reject("not-you", recipients=["u1@our.example", "gone@our.example"]),
    ],
}
FOUND: list[Outcome] = [
    *(Listings(5.0, {"bl.example": ("127.0.0.2",)}), SpamReport(7.25, 5.0, ("A", "B")), VirusReport("Eicar")),
    *(VirusReport(None), SpamReport(-1.0), Unavailable("it", "refused"), Skipped("it", "too large")),
]


@dataclass(frozen=True)
class Whim:
    """A policy that answers by all it sees, as if by chance.

    `failing` ones raise an exception, those that `count` look at all recipients, and those that `read`
    at the content, which no record has.
    """

    stage: Stage
    needs: tuple[type[Finding], ...]
    wants: tuple[type[Finding], ...]
    names: tuple[str, ...]
    salt: int
    enforced: bool
    failing: bool
    counts: bool
    reads: bool

    def __call__(self, tx: Transaction, evidence: Evidence) -> Verdict | None:
        seen: list[object] = [self.salt, tx.session, *(evidence[need] for need in self.needs)]
        seen += [evidence.get(kind) for kind in self.wants]
        if tx.stage is Stage.CONNECT:
            seen[1] = (tx.session.client_address, tx.session.client_port, tx.session.listener)
        if tx.envelope is not None:
            seen += [tx.envelope.reverse_path, tx.envelope.recipient, sorted(tx.envelope.parameters.items())]
        if tx.message is not None:
            seen += [tx.message.size, tx.message.digest]
            if self.reads:
                seen.append(tx.message.content)
            if self.counts:
                seen.append(tx.envelope.recipients)
            seen += [(tx.message.header(name), tx.message.headers(name)) for name in self.names]
        answers = ANSWERS[self.stage]
        answer = answers[zlib.crc32(repr(seen).encode()) % len(answers)]
        if self.failing and answer is not None:
            raise RuntimeError("a whim")
        return answer


@st.composite
def whims(draw: st.DrawFn) -> Whim:
    stage = draw(st.sampled_from([*Stage, Stage.END_OF_DATA]))
    failing = draw(st.sampled_from([True, False, False, False, False]))
    needs = draw(st.lists(st.sampled_from(NEEDS[stage]), unique=True)) if stage in NEEDS else []
    wants = draw(st.lists(st.sampled_from(NEEDS[stage]), unique=True)) if stage in NEEDS else []
    names = draw(st.lists(st.sampled_from(["Subject", "List-Id", "X-Not-There", "FROM"]), max_size=3))
    return Whim(
        stage,
        tuple(needs),
        tuple(wants),
        tuple(names),
        draw(st.integers(0, 1000)),
        draw(st.sampled_from([True, True, False])),
        failing,
        draw(st.booleans()),
        # How a policy failed is no opinion, and not recalled.
        not failing and draw(st.booleans()),
    )


def setting(number: int, whim: Whim) -> PolicySetting:
    def function(tx: Transaction, evidence: Evidence) -> Verdict | None:
        return whim(tx, evidence)

    function.__name__ = f"whim_{number}"
    policy = Policy(function, whim.stage, whim.needs, whim.wants)
    return PolicySetting(policy, enforced=whim.enforced, fingerprint=Fingerprint(f"version-{number}"))


def answering(kind: type[Finding], found: Outcome, at: Stage) -> Filter:
    class Answering(Filter):
        name, finds, stage = kind.__name__.lower(), kind, at

        async def find(self, tx: Transaction) -> Finding:
            if isinstance(found, Unavailable):
                raise FilterError(found.cause)
            if isinstance(found, Skipped):
                raise TooLarge(found.cause)
            return found

    return Answering()


@st.composite
def sources(draw: st.DrawFn) -> list[FilterSetting]:
    meanings = st.sampled_from(["tempfail", "accept", "reject"])
    return [
        FilterSetting(
            answering(kind, draw(st.sampled_from([found for found in FOUND if is_of(found, kind)])), at),
            unavailable=draw(meanings),
            skipped=draw(meanings),
        )
        for kind, at in (
            (Listings, Stage.CONNECT),
            (VirusReport, Stage.END_OF_DATA),
            (SpamReport, Stage.END_OF_DATA),
        )
    ]


def is_of(found: Outcome, kind: type[Finding]) -> bool:
    return isinstance(found, kind | Unavailable | Skipped)


RECIPIENTS = ["u1@our.example", "u2@our.example", "gone@our.example", "x@victim.example", "postmaster"]
letters = st.tuples(
    st.sampled_from(["s@a.example", "", "jo.e@b.example"]),
    st.sampled_from(["", " SIZE=100", " BODY=8BITMIME", " PRDR"]),
    st.lists(st.sampled_from(RECIPIENTS), min_size=1, max_size=3, unique=True),
    st.sampled_from(["Subject: one\r\nList-Id: a\r\nList-ID: b\r\n", "Subject: =?utf-8?q?=C3=BC?=\r\n", ""]),
)
Letter = tuple[str, str, list[str], str]


@settings(deadline=None, max_examples=max(settings.default.max_examples // 20, 100))
@given(
    st.lists(whims(), min_size=1, max_size=5),
    sources(),
    st.sampled_from(["EHLO c.example", "HELO other.example"]),
    st.lists(letters, min_size=1, max_size=3),
    st.sampled_from(["rcpt", "rcpt", "connect"]),
)
def test_the_settings_that_made_a_record_judge_it_the_same(
    policies: list[Whim], filters: list[FilterSetting], helo: str, sent: list[Letter], speak: str
):
    asyncio.run(converse(policies, filters, helo, sent, speak))


async def converse(
    policies: Sequence[Whim], filters: Sequence[FilterSetting], helo: str, sent: Sequence[Letter], speak: str
) -> None:
    settings_ = [setting(number, whim) for number, whim in enumerate(policies)]
    async with FakeMTA({"RCPT TO:<gone@our.example>": say(b"550 5.1.1 unknown\r\n")}) as mta:
        with tempfile.TemporaryDirectory() as directory:
            running = RunningGateway(
                Path(directory), [destination(mta.address)], settings_, filters, speak=speak
            )
            await running.start()
            try:
                await talk(running.port, helo, sent)
            finally:
                await running.stop()
    assert running.records
    replay = Replay(running.service.profiles, running.service.router)
    for record in running.records:
        await assert_unchanged(replay, decode(encode(record)))


async def talk(port: int, helo: str, sent: Sequence[Letter]) -> None:
    async with Client(port) as client:
        assert client.banner is not None
        if client.banner.code != 220 or (await client.ask(helo)).code != 250:
            return
        for sender, parameters, recipients, header in sent:
            if helo.startswith("HELO"):
                parameters = ""
            if (await client.ask(f"MAIL FROM:<{sender}>{parameters}")).code != 250:
                continue
            replies = [await client.ask(f"RCPT TO:<{recipient}>") for recipient in recipients]
            accepted = [reply for reply in replies if reply.code == 250]
            if accepted:
                reply = await client.data(f"{header}\r\nHello\r\n".encode())
                if reply.code == 353:
                    await client.replies(len(accepted) + 1)
            else:
                await client.ask("RSET")


async def assert_unchanged(replay: Replay, record: Record) -> None:
    replayed = await replay.judge(record)
    assert replayed.kind is not Kind.FLIP, (record, replayed)
    if any(doubt.enforced for doubt in replayed.doubts):
        # Whoever takes a reply for each recipient may have had others, and nobody else may.
        assert record.answers_for_each
        causes = {doubt.cause for doubt in replayed.doubts if doubt.enforced}
        unknown = {"envelope.recipients", "message.content"}
        assert causes & unknown
        # Where one policy is in doubt, later ones are asked that were not then, nor what they want to know.
        assert all(cause.endswith("no filter was asked for it") for cause in causes - unknown)
        return
    assert replayed.kind is not Kind.UNDETERMINED, (record, replayed)
    for fate in replayed.fates:
        if record.verdict != "accepted" and replayed.kind is Kind.UNCHANGED:
            assert (fate.outcome.reason, fate.outcome.policy) == (record.reason, record.policy)
