"""What was scanned is what is relayed, byte for byte, apart from header fields on top."""

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filters.evidence import RspamdReport, SpamReport, VirusReport
from gateway.smtp.content import BareNewline, stuffed
from policies import Stage, mark, policy
from policies.spam import spam
from policies.virus import virus
from tests.client import Answer, Client
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import (
    HOSTNAME,
    RspamdScanner,
    RunningGateway,
    Scanner,
    SpamScanner,
    answers,
)

CORPUS = {path.stem: path.read_bytes() for path in (Path(__file__).parents[1] / "corpus").glob("*.eml")}
U1 = "u1@our.example"
END = b"\r\n.\r\n"


async def relay(gateway: RunningGateway, content: bytes) -> Answer:
    """Send content as a correct client does: dots stuffed, ended in a CRLF."""
    async with Client(gateway.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        await client.send(b"".join(stuffed([content])))
        return await client.reply()


def split(relayed: bytes) -> tuple[list[str], bytes]:
    """The names of the fields we put on top, and the rest. Ours end with the reference.

    A mailbox line is made a field by what stands directly before it.
    """
    end = re.compile(rb"^X-Sluicegate-Reference: [^\r]*\r\n", re.MULTILINE).search(relayed).end()
    names = re.findall(rb"^([!-9;-~]+):", relayed[:end], re.MULTILINE)
    return [name.decode() for name in names], relayed[end:].removeprefix(b"X-Mailbox-Line: ")


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
async def test_the_corpus_passes_byte_for_byte(start_gateway: GatewayStarter, mta: FakeMTA, content: bytes):
    gateway = await start_gateway()
    answer = await relay(gateway, content)

    assert answer.code == 250
    ours, rest = split(mta.messages[0].content)
    assert ours == ["Received", "X-Sluicegate-Reference"]
    # Content that does not end in a CRLF cannot be sent over SMTP; the client added one.
    sent = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert rest == sent
    record = gateway.records[0]
    assert record.message.size == len(sent)
    assert record.message.digest == hashlib.sha256(sent).hexdigest()


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b".", b"..", b".x", b"...", b"From: x", b"X-Spam-Flag : NO", b" folded"]),
        st.binary(max_size=60).map(lambda octets: re.sub(rb"[\r\n]", b"", octets)),
    ).filter(lambda line: not re.fullmatch(rb"\0+\.\0*", line)),
    max_size=12,
)


async def test_any_content_passes_byte_for_byte(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    contents: list[bytes] = []

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(LINES)
    def collect(lines: list[bytes]) -> None:
        contents.append(b"X: y\r\n\r\n" + b"".join(line + b"\r\n" for line in lines))

    collect()
    async with Client(gateway.port) as client:
        await client.ask("EHLO c.example")
        for content in contents:
            await client.again(U1)
            await client.ask("DATA")
            await client.send(b"".join(stuffed([content])))
            assert (await client.reply()).code == 250
    assert [split(message.content)[1] for message in mta.messages] == contents


@pytest.mark.parametrize("size", [1, 4093, 65_536])
async def test_pieces_of_any_size_make_the_same_message(
    start_gateway: GatewayStarter, mta: FakeMTA, size: int
):
    content = b"Subject: x\r\n\r\n" + b"..dot\r\n.\r\n" * 50 + b"end.\r\n"
    whole = b"EHLO c\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<u1@our.example>\r\nDATA\r\n"
    whole += b"".join(stuffed([content])) + b"QUIT\r\n"
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        for at in range(0, len(whole), size):
            await client.send(whole[at : at + size])
        assert [answer.code for answer in await client.replies(6)] == [250, 250, 250, 354, 250, 221]
    assert split(mta.messages[0].content)[1] == content


@pytest.mark.parametrize("edge", [4096, 8192, 16_384, 65_536, 131_072])
@pytest.mark.parametrize("shift", [-3, -2, -1, 0, 1])
async def test_dots_at_the_edges_of_buffers(
    start_gateway: GatewayStarter, mta: FakeMTA, edge: int, shift: int
):
    filler = b"Subject: x\r\n\r\n" + b"a" * (edge + shift - 16)
    content = filler + b"\r\n.\r\n..dot\r\n" + b"b" * edge + b"\r\n.\r\n"
    gateway = await start_gateway()
    assert (await relay(gateway, content)).code == 250
    assert split(mta.messages[0].content)[1] == content


@policy(at=Stage.END_OF_DATA)
def label(tx, evidence):
    """A field of the operator's own."""
    return mark("X-Label", "a b")


async def test_our_fields_stand_on_top_in_their_order(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(
        policies=[label, spam, virus],
        filters=[
            SpamScanner(answers(SpamReport(6.25, 5.0, ("RULE_A", "RULE_B")))),
            Scanner(answers(VirusReport())),
        ],
    )
    answer = await relay(gateway, b"Subject: x\r\n\r\nHello\r\n")
    assert answer.code == 250
    content = mta.messages[0].content
    names = re.findall(rb"^([!-9;-~]+):", content.partition(b"Subject")[0], re.MULTILINE)
    assert [name.decode() for name in names] == [
        "Received",
        "X-Spam-Flag",
        "X-Spam-Score",
        "X-Spam-Status",
        "X-Virus-Scanned",
        "X-Sluicegate-Reference",
        "X-Label",
    ]
    assert b"\r\nX-Spam-Flag: YES\r\n" in content
    assert b"\r\nX-Spam-Status: Yes, score=6.2 required=5.0 tests=RULE_A RULE_B\r\n" in content
    assert b"\r\nX-Sluicegate-Reference: " + gateway.records[0].reference.encode() + b"\r\n" in content
    assert max(map(len, content.split(b"\r\n"))) <= 78


RSPAMD = RspamdReport(9.75, 15.0, "add header", ("R_A", "R_B"))


@pytest.mark.parametrize(
    ("reports", "fields"),
    [
        (
            [RSPAMD],
            [b"X-Spam-Flag: YES", b"X-Spam-Score: 9.8", b"X-Spam-Status: Yes, score=9.8 tests=R_A R_B"],
        ),
        (
            [RspamdReport(1.0, 15.0, "no action")],
            [b"X-Spam-Score: 1.0", b"X-Spam-Status: No, score=1.0 tests=none"],
        ),
        (
            [SpamReport(4.25, 5.0, ("RULE_A",)), RSPAMD],
            [
                b"X-Spam-Score: 4.2",
                b"X-Spam-Status: No, score=4.2 required=5.0 tests=RULE_A",
                b"X-Sluicegate-Rspamd: add header, score=9.8 required=15.0",
            ],
        ),
    ],
)
async def test_each_scanner_is_quoted_with_its_own_score(
    start_gateway: GatewayStarter,
    mta: FakeMTA,
    reports: list[SpamReport | RspamdReport],
    fields: list[bytes],
):
    filters = [
        (SpamScanner if isinstance(report, SpamReport) else RspamdScanner)(answers(report))
        for report in reports
    ]
    gateway = await start_gateway(policies=[spam], filters=filters)
    assert (await relay(gateway, b"Subject: x\r\n\r\nHello\r\n")).code == 250
    block = mta.messages[0].content.partition(b"Subject")[0]
    lines = block.replace(b"\r\n\t", b" ").split(b"\r\n")
    assert [line for line in lines if line.startswith((b"X-Spam", b"X-Sluicegate-Rspamd"))] == fields


async def test_what_a_scanner_says_cannot_become_a_header_field(start_gateway: GatewayStarter, mta: FakeMTA):
    rules = ("RULE\r\nBcc: v@victim.example", "\xe9", "x" * 2000)
    gateway = await start_gateway(
        policies=[spam], filters=[SpamScanner(answers(SpamReport(1.0, 5.0, rules)))]
    )
    assert (await relay(gateway, b"Subject: x\r\n\r\nHello\r\n")).code == 250
    ours, rest = split(mta.messages[0].content)
    assert ours == ["Received", "X-Spam-Score", "X-Spam-Status", "X-Sluicegate-Reference"]
    assert rest == b"Subject: x\r\n\r\nHello\r\n"
    assert max(map(len, mta.messages[0].content.split(b"\r\n"))) <= 998


async def test_what_rspamd_would_do_cannot_become_a_header_field(start_gateway: GatewayStarter, mta: FakeMTA):
    action = "reject\r\nBcc: v@victim.example \xe9" + "x" * 2000
    gateway = await start_gateway(
        policies=[spam],
        filters=[
            SpamScanner(answers(SpamReport(1.0))),
            RspamdScanner(answers(RspamdReport(1.0, action=action))),
        ],
    )
    assert (await relay(gateway, b"Subject: x\r\n\r\nHello\r\n")).code == 250
    ours, _ = split(mta.messages[0].content)
    assert ours == [
        "Received",
        "X-Spam-Score",
        "X-Spam-Status",
        "X-Sluicegate-Rspamd",
        "X-Sluicegate-Reference",
    ]


FORGED = [
    b"X-Spam-Flag: NO\r\n",
    b"x-SPAM-flag:NO\r\n",
    b"X-Spam-Flag : NO\r\n",
    b"X-Spam-Flag\t:NO\r\n",
    b"X-Spam-Status: No,\r\n score=-100\r\n\tand more\r\n",
    b"X-Virus-Scanned: clean\r\n",
    b"X-Sluicegate-Unscanned: nothing\r\n",
    b"X-Sluicegate-Reference: AAAA-AAAA\r\n",
    b"X-Sluicegate-Verdict: clean\r\n",
    b"Authentication-Results: mx.our.example; dkim=pass header.d=bank.example\r\n",
    b"Authentication-Results: (comment) MX.Our.Example 1;\r\n spf=pass\r\n",
    b'Authentication-Results: "mx.our.example"; spf=pass\r\n',
]
KEPT = [
    b"Authentication-Results: mx.other.example; dkim=pass\r\n",
    b"ARC-Authentication-Results: i=1; mx.our.example; dkim=pass\r\n",
    b"X-Spam-Flags: not ours\r\n",
    b"Received: from x by y; Mon, 01 Jan 2024 00:00:00 +0000\r\n",
    b"X-Spam-Flag\x00: NO\r\n",
]


@pytest.mark.parametrize("field", FORGED)
async def test_a_forged_field_is_taken_out(start_gateway: GatewayStarter, mta: FakeMTA, field: bytes):
    gateway = await start_gateway()
    content = field + b"Subject: x\r\n" + field + b"To: y\r\n\r\n" + field + b"end\r\n"
    assert (await relay(gateway, content)).code == 250
    assert split(mta.messages[0].content)[1] == b"Subject: x\r\nTo: y\r\n\r\n" + field + b"end\r\n"


@pytest.mark.parametrize("field", KEPT)
async def test_a_field_of_somebody_else_is_kept(start_gateway: GatewayStarter, mta: FakeMTA, field: bytes):
    gateway = await start_gateway()
    content = b"Subject: x\r\n" + field + b"\r\nend\r\n"
    assert (await relay(gateway, content)).code == 250
    assert split(mta.messages[0].content)[1] == content


async def test_received_says_who_came_from_where(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1, helo="EHLO x)(y;z[203.0.113.1]")
        await client.data(b"Subject: x\r\n\r\n")
    field = mta.messages[0].content.partition(b"X-Sluicegate")[0].decode()
    assert field.startswith(
        "Received: from x??y?z[203.0.113.1] (unknown [127.0.0.1])\r\n"
        f"\tby {HOSTNAME} (Sluicegate) with ESMTP id {gateway.records[0].reference}\r\n"
        "\tfor <u1@our.example>;\r\n\t"
    )


# Other spellings of the end of data

HEADER = (
    b"From: <s@a.example>\r\nTo: <u1@our.example>\r\nSubject: t\r\nMessage-ID: <1@a.example>\r\n"
    b"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\n\r\nbody"
)
SMUGGLED = (
    b"MAIL FROM:<smug@a.example>\r\nRCPT TO:<u2@our.example>\r\nDATA\r\nSubject: SMUGGLED\r\n\r\nx\r\n.\r\n"
)
BARE = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\n",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\n",
    b"\r\n.\r\r\n",
    b"\n\n.\r\n",
    b"a" * 1002 + b"\n.\r\n",
    b"a" * 65_536 + b"\r\n.\n",
]
NO_END = [b"\r\n.\x00\r\n", b"\r\n. \r\n", b"\r\n.\t\r\n", b"\r\n.\x0b\r\n", b"\r\n.\x0c\r\n", b"\r\n..\r\n"]


async def send_raw(gateway: RunningGateway, octets: bytes) -> list[Answer]:
    """DATA, these octets, QUIT; every reply behind 354."""
    async with Client(gateway.port) as client:
        await client.open(U1)
        await client.ask("DATA")
        client.say(octets, b"QUIT\r\n")
        answers = [await client.reply()]
        while answers[-1].code != 221:
            answers.append(await client.reply())
        return answers


@pytest.mark.parametrize("end", BARE)
async def test_a_bare_newline_is_refused_at_the_true_end(
    start_gateway: GatewayStarter, mta: FakeMTA, end: bytes
):
    gateway = await start_gateway()
    answers = await send_raw(gateway, HEADER + end + SMUGGLED)
    assert [str(answer)[:10] for answer in answers] == ["550 5.6.11", "221 2.0.0 "]
    assert not mta.messages
    assert [record.reason for record in gateway.records] == ["bare-newline"]
    assert not any("smug" in command for command in mta.commands)


@pytest.mark.parametrize("end", BARE)
async def test_a_bare_newline_is_rewritten_before_anybody_scans(
    start_gateway: GatewayStarter, mta: FakeMTA, end: bytes
):
    gateway = await start_gateway(bare_newline=BareNewline.NORMALIZE)
    answers = await send_raw(gateway, HEADER + end + SMUGGLED)
    assert [answer.code for answer in answers] == [250, 221]
    (message,) = mta.messages
    assert message.mail == "MAIL FROM:<s@a.example>"
    assert b"MAIL FROM:<smug@a.example>\r\n" in message.content
    assert not mta.suspicions()
    scanned = split(message.content)[1]
    assert gateway.records[0].message.digest == hashlib.sha256(scanned).hexdigest()


@pytest.mark.parametrize("end", NO_END)
async def test_what_only_looks_like_an_end_is_content(
    start_gateway: GatewayStarter, mta: FakeMTA, end: bytes
):
    gateway = await start_gateway()
    answers = await send_raw(gateway, HEADER + end + SMUGGLED)
    assert [answer.code for answer in answers] == [250, 221]
    (message,) = mta.messages
    assert b"\r\nMAIL FROM:<smug@a.example>\r\n" in message.content
    assert not any("smug" in command for command in mta.commands)


async def test_a_true_end_behind_a_stray_cr_is_one(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    answers = await send_raw(gateway, HEADER + b"\r\r\n.\r\n" + SMUGGLED)
    # What follows are commands of the client's own, judged as such.
    assert [answer.code for answer in answers] == [550, 250, 250, 354, 250, 221]
    assert [message.mail for message in mta.messages] == ["MAIL FROM:<smug@a.example>"]


# Size


async def test_what_is_too_big_is_read_to_its_end_and_kept_nowhere(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway(max_message_size=100_000)
    content = (b"a" * 899 + b"\r\n") * 1166 + b".\nHELP\r\nHELP"
    answers = await send_raw(gateway, content + END)
    assert [str(answer)[:9] for answer in answers] == ["552 5.3.4", "221 2.0.0"]
    (record,) = gateway.records
    assert (record.verdict, record.reason, record.stage) == ("rejected", "message-too-big", "end-of-data")
    assert not mta.heard("DATA")


async def test_the_largest_message_passes(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(max_message_size=300_000)
    content = b"Subject: x\r\n\r\n" + b"a" * (300_000 - 16) + b"\r\n"
    assert (await relay(gateway, content)).code == 250
    assert split(mta.messages[0].content)[1] == content


async def test_what_is_scanned_of_a_mailbox_line_is_what_is_relayed(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    """Behind our Received field a bare mailbox line would end the header, for us and the downstream."""
    content = b"From ida@example.org Mon Nov 23 06:00:00 2026\r\nSubject: t\r\n\r\nb\r\n"
    scanned: list[bytes] = []

    async def look(tx):
        scanned.append(tx.trace + b"".join(tx.message.content.chunks()))
        return VirusReport()

    gateway = await start_gateway(policies=[virus], filters=[Scanner(look)])
    assert (await relay(gateway, content)).code == 250
    relayed = mta.messages[0].content
    assert relayed.endswith(b"\r\nX-Mailbox-Line: " + content)
    assert scanned[0].endswith(b"\r\nX-Mailbox-Line: " + content)


async def test_a_header_without_end_is_refused(start_gateway: GatewayStarter, mta: FakeMTA):
    """A forged field behind everything that anybody looks at is no way around."""
    gateway = await start_gateway()
    padding = b"X-Padding: " + b"a" * 1000 + b"\r\n"
    answer = await relay(gateway, padding * 1100 + b"X-Spam-Flag: NO\r\n\r\nb\r\n")
    assert (answer.code, answer.status) == (552, "5.3.4")
    assert gateway.records[0].reason == "header-too-big"
    assert not mta.messages


@pytest.mark.parametrize("count", [500, 501])
async def test_more_forged_fields_than_anybody_needs_are_refused(
    start_gateway: GatewayStarter, mta: FakeMTA, count: int
):
    gateway = await start_gateway()
    answer = await relay(gateway, b"X-Spam-Flag: NO\r\n" * count + b"Subject: x\r\n\r\nb\r\n")
    if count == 500:
        assert answer.code == 250
        assert split(mta.messages[0].content)[1] == b"Subject: x\r\n\r\nb\r\n"
    else:
        assert (answer.code, answer.status) == (552, "5.3.4")
        assert gateway.records[0].reason == "header-too-big"
        assert not mta.messages
