"""Chunks in, one DATA out (RFC 3030): the same message, the same judgement, and never a command."""

import contextlib
import hashlib
import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gateway.proxy.stream
from filters.evidence import VirusReport
from gateway.proxy.chunking import ChunkedMessage
from gateway.proxy.replies import NO_MAIL
from gateway.smtp.content import BareNewline, normalized, stuffed
from gateway.spool import Store
from policies.virus import virus
from tests.client import Answer, Client
from tests.fakes.mta import EXTENSIONS, FakeMTA, say
from tests.proxy.conftest import GatewayStarter
from tests.proxy.running import RunningGateway, Scanner
from tests.waiting import eventually

CORPUS = {path.stem: path.read_bytes() for path in (Path(__file__).parents[1] / "corpus").glob("*.eml")}
U1 = "u1@our.example"
ENVELOPE = b"MAIL FROM:<s@a.example>\r\nRCPT TO:<u1@our.example>\r\n"
OPENING = b"EHLO c.example\r\n" + ENVELOPE
MESSAGE = b"Subject: t\r\n\r\nHello\r\n"
SMUGGLED = b"RSET\r\nMAIL FROM:<smug@a.example>\r\nRCPT TO:<u2@our.example>\r\nNOOP\r\n"


def bdat(octets: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


def in_chunks(pieces: list[bytes]) -> bytes:
    return b"".join(bdat(piece, last=number == len(pieces)) for number, piece in enumerate(pieces, 1))


async def converse(gateway: RunningGateway, *segments: bytes) -> list[str]:
    """Say this and QUIT; the beginning of every reply between the greeting and the goodbye."""
    async with Client(gateway.port) as client:
        for segment in (*segments, b"QUIT\r\n"):
            await client.send(segment)
        said = []
        while (answer := await client.reply()).code != 221:
            said.append(" ".join(str(answer).split(" ")[:2]))
        return said


def relayed(mta: FakeMTA, number: int = 0) -> bytes:
    """The message below the fields we put on top."""
    content = mta.messages[number].content
    end = re.compile(rb"^X-Sluicegate-Reference: [^\r]*\r\n", re.MULTILINE).search(content).end()
    return content[end:].removeprefix(b"X-Mailbox-Line: ")


async def test_chunks_make_one_message_and_go_on_as_data(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.extensions = (*EXTENSIONS, "CHUNKING", "BINARYMIME")
    scanned = []

    async def look(tx):
        scanned.append(b"".join(tx.message.content.chunks()))
        return VirusReport()

    gateway = await start_gateway(policies=[virus], filters=[Scanner(look)])
    async with Client(gateway.port) as client:
        hello = await client.ask("EHLO c.example")
        assert "250-CHUNKING" in hello.lines
        assert "BINARYMIME" not in hello.text
        assert (await client.ask("MAIL FROM:<s@a.example> BODY=BINARYMIME")).code == 501
        await client.again(U1)
        client.say(bdat(MESSAGE[:7]))
        assert str(await client.reply()) == "250 2.0.0 7 octets received"
        client.say(bdat(MESSAGE[7:]))
        assert str(await client.reply()) == f"250 2.0.0 {len(MESSAGE) - 7} octets received"
        assert not scanned
        client.say(bdat(b"", last=True))
        assert str(await client.reply()) == "250 2.0.0 Ok: queued as 1"
    assert scanned == [MESSAGE]
    assert relayed(mta) == MESSAGE
    assert mta.heard("DATA", "BDAT") == ["DATA"]
    record = gateway.records[-1]
    assert (record.verdict, record.spoken) == ("accepted", "end-of-data")
    assert record.message.digest == hashlib.sha256(MESSAGE).hexdigest()


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
async def test_the_corpus_passes_byte_for_byte(start_gateway: GatewayStarter, mta: FakeMTA, content: bytes):
    gateway = await start_gateway()
    half = len(content) // 2
    said = await converse(gateway, OPENING, in_chunks([content[:half], content[half:]]))
    assert said[-1] == "250 2.0.0"
    assert relayed(mta) == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")


@pytest.mark.parametrize("size", [1, 7, 4093, 65_536])
async def test_segments_of_any_size_make_the_same_message(
    start_gateway: GatewayStarter, mta: FakeMTA, size: int
):
    content = b"Subject: x\r\n\r\n" + b".\r\n..dot\r\nQUIT\r\n" * 50
    whole = OPENING + in_chunks([content[:100], b"", content[100:101], content[101:]]) + b"QUIT\r\n"
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        for at in range(0, len(whole), size):
            await client.send(whole[at : at + size])
        assert [answer.code for answer in await client.replies(8)] == [250] * 7 + [221]
    assert relayed(mta) == content


async def test_a_large_message_passes(start_gateway: GatewayStarter, mta: FakeMTA):
    content = b"Subject: x\r\n\r\n" + (b"a" * 70 + b"\r\n") * 40_000
    pieces = [content[at : at + 300_000] for at in range(0, len(content), 300_000)]
    gateway = await start_gateway()
    said = await converse(gateway, OPENING, in_chunks(pieces))
    assert said[-len(pieces) :] == ["250 2.0.0"] * len(pieces)
    assert relayed(mta) == content


async def test_several_messages_in_one_connection_keep_apart(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        client.say(OPENING, bdat(MESSAGE, last=True), ENVELOPE, b"DATA\r\n")
        assert [answer.code for answer in await client.replies(7)] == [250] * 6 + [354]
        client.say(MESSAGE, b".\r\n", ENVELOPE, bdat(MESSAGE), bdat(b"more\r\n", last=True))
        assert [answer.code for answer in await client.replies(5)] == [250] * 5
    assert [relayed(mta, number) for number in range(3)] == [MESSAGE, MESSAGE, MESSAGE + b"more\r\n"]


# What stands in a chunk is content


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: t\r\n\r\na\r\n.\r\nMAIL FROM:<smug@a.example>\r\n",
        b".\r\n",
        b".\r\n.\r\n..\r\n",
        b"a\r\n.",
        b"no end",
        b"",
    ],
)
async def test_a_dot_line_is_content(start_gateway: GatewayStarter, mta: FakeMTA, content: bytes):
    gateway = await start_gateway()
    for pieces in ([content], [content[:4], content[4:]], [content, b""]):
        assert (await converse(gateway, OPENING, in_chunks(pieces)))[-1] == "250 2.0.0"
    expected = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    assert [relayed(mta, number) for number in range(3)] == [expected] * 3
    assert not any("smug" in command for command in mta.commands)


BARE = [b"a\nb\r\n", b"a\rb\r\n", b"a\n", b"a\r", b"\n.\n", b"a\r\n\r", b"a\r\r\n", b"\n.\r\n" + SMUGGLED]


@pytest.mark.parametrize("content", BARE)
async def test_a_bare_newline_is_refused_at_the_end(
    start_gateway: GatewayStarter, mta: FakeMTA, content: bytes
):
    gateway = await start_gateway()
    for at in range(len(content) + 1):
        pieces = [content[:at], content[at:]]
        assert (await converse(gateway, OPENING, in_chunks(pieces)))[-2:] == ["250 2.0.0", "550 5.6.11"]
    assert not mta.messages
    assert {record.reason for record in gateway.records} == {"bare-newline"}


@pytest.mark.parametrize("content", BARE)
async def test_or_rewritten_before_anybody_scans(start_gateway: GatewayStarter, mta: FakeMTA, content: bytes):
    gateway = await start_gateway(bare_newline=BareNewline.NORMALIZE)
    for at in range(len(content) + 1):
        pieces = [content[:at], content[at:]]
        assert (await converse(gateway, OPENING, in_chunks(pieces)))[-1] == "250 2.0.0"
    assert {relayed(mta, number) for number in range(len(mta.messages))} == {normalized(content)}


@pytest.mark.parametrize("content", [b"\0.\r\n", b"a\r\n\0\0.\0\r\nb\r\n", b"a\r\n\0."])
async def test_a_dot_hidden_behind_nuls_is_refused(
    start_gateway: GatewayStarter, mta: FakeMTA, content: bytes
):
    gateway = await start_gateway()
    for at in range(len(content) + 1):
        pieces = [content[:at], content[at:]]
        assert (await converse(gateway, OPENING, in_chunks(pieces)))[-1] == "550 5.6.11"
    assert not mta.messages


# A chunk is never a command


@pytest.mark.parametrize(
    ("before", "reply"),
    [
        (b"", "503 5.5.1"),
        (b"EHLO c.example\r\n", "503 5.5.1"),
        (b"EHLO c.example\r\nMAIL FROM:<s@a.example>\r\n", "554 5.5.1"),
        (OPENING + b"RSET\r\n", "503 5.5.1"),
        (OPENING + b"EHLO c.example\r\n", "503 5.5.1"),
        (OPENING + bdat(MESSAGE, last=True), "503 5.5.1"),
    ],
)
async def test_a_chunk_that_nobody_wants_is_taken_and_refused(
    start_gateway: GatewayStarter, mta: FakeMTA, before: bytes, reply: str
):
    gateway = await start_gateway()
    said = await converse(gateway, before, bdat(SMUGGLED), bdat(SMUGGLED, last=True), b"NOOP\r\n")
    assert said[-3:] == [reply, "503 5.5.1", "250 2.0.0"]
    assert not any("smug" in command for command in mta.commands)


async def test_a_chunk_that_nobody_wants_is_kept_nowhere(start_gateway: GatewayStarter):
    gateway = await start_gateway()
    message = ChunkedMessage(gateway.service, NO_MAIL)
    message.spool.append(SMUGGLED)
    assert (message.spool.size, b"".join(message.spool.chunks())) == (len(SMUGGLED), b"")


async def test_chunks_behind_refused_recipients_are_refused(start_gateway: GatewayStarter, mta: FakeMTA):
    mta.script["RCPT"] = [say("550 5.1.1 Nobody")]
    gateway = await start_gateway()
    said = await converse(
        gateway, OPENING, bdat(SMUGGLED), b"RCPT TO:<u2@our.example>\r\n", bdat(b"x", last=True)
    )
    assert said[-4:] == ["550 5.1.1", "554 5.5.1", "503 5.5.1", "503 5.5.1"]
    # Nothing may come of a message whose beginning was refused, but of the next one.
    assert (await converse(gateway, OPENING, bdat(b"x"), b"RSET\r\n", ENVELOPE, bdat(MESSAGE, last=True)))[
        -1
    ] == "250 2.0.0"
    assert [relayed(mta, 0)] == [MESSAGE]


UNUSABLE = [
    *(b"BDAT", b"BDAT ", b"BDAT abc", b"BDAT -1", b"BDAT 1 2", b"BDAT 20 LAST x", b"BDAT 2147483648"),
    *(b"BDAT " + b"9" * 30, b"BDAT\t20", b"BDAT 20\tLAST", b"bdat 20 LAST\r", b"BDAT 20\0", b" BDAT 20 LAST"),
    *(b"BDAT20", b"BDAT 20" + b" " * 3000 + b"LAST", b"BDAT 0x14", b"BDAT \xc2\xb2"),
]


@pytest.mark.parametrize("line", UNUSABLE)
@pytest.mark.parametrize(
    "before", [b"", OPENING, OPENING + bdat(b"Subject: t\r\n")], ids=["first", "RCPT", "BDAT"]
)
async def test_behind_an_unusable_size_nothing_is_read_any_more(
    start_gateway: GatewayStarter, mta: FakeMTA, line: bytes, before: bytes
):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.send(before)
        await client.replies(before.count(b"EHLO") * 3 + before.count(b"BDAT"))
        await client.send(line + b"\r\n")
        answer = await client.reply()
        assert (answer.code, answer.status) in [(501, "5.5.4"), (500, "5.5.2")]
        assert await client.is_closed()
    await gateway.no_client()
    assert not mta.messages
    assert [record.verdict for record in gateway.records] == (["aborted"] if before else [])


@pytest.mark.parametrize("command", [b"DATA", b"RCPT TO:<u2@our.example>", b"MAIL FROM:<s@a.example>"])
async def test_between_chunks_the_message_only_goes_on(
    start_gateway: GatewayStarter, mta: FakeMTA, command: bytes
):
    gateway = await start_gateway()
    said = await converse(
        gateway, OPENING, bdat(MESSAGE[:5]), command + b"\r\n", b"NOOP\r\n", bdat(MESSAGE[5:], last=True)
    )
    assert said[-4:] == ["250 2.0.0", "503 5.5.1", "250 2.0.0", "250 2.0.0"]
    assert relayed(mta) == MESSAGE
    assert len(mta.messages[0].recipients) == 1


@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO c.example\r\n", b"HELO c.example\r\n"])
async def test_a_message_begun_in_chunks_can_be_given_up(
    start_gateway: GatewayStarter, mta: FakeMTA, end: bytes
):
    gateway = await start_gateway()
    said = await converse(
        gateway, OPENING, bdat(b"old"), end, bdat(b"y", last=True), ENVELOPE, bdat(MESSAGE, last=True)
    )
    assert [reply[:3] for reply in said[-5:]] == ["250", "503", "250", "250", "250"]
    assert [relayed(mta)] == [MESSAGE]
    assert [(record.verdict, record.reason) for record in gateway.records] == [
        ("aborted", "client-reset"),
        ("accepted", "accepted"),
    ]


async def test_what_was_given_up_takes_no_room(start_gateway: GatewayStarter, tmp_path: Path):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        await client.send(bdat(b"RSET\r\n" * 50_000))
        await client.reply()
        assert open_files(tmp_path)
        await client.ask("RSET")
        assert not open_files(tmp_path)


def open_files(directory: Path) -> list[str]:
    """This process's files in there, those without a name included."""
    names = []
    for link in Path("/proc/self/fd").iterdir():
        # Others come and go meanwhile.
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(link))
    return [name for name in names if name.startswith(str(directory))]


async def test_empty_chunks_bring_no_mail(start_gateway: GatewayStarter):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        client.say(bdat(b"") * 200)
        replies = [await client.reply()]
        while replies[-1].code == 250:
            replies.append(await client.reply())
        assert (replies[-1].code, replies[-1].status) == (421, "4.7.0")
        assert await client.is_closed()


# Size, storage, disconnects, the end of the gateway


async def test_too_much_is_refused_once_and_taken_to_its_end(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(max_message_size=100_000)
    lines = b"RSET\r\n" * 10_000
    said = await converse(
        gateway, OPENING, bdat(lines), bdat(lines), bdat(lines), bdat(lines, last=True), b"NOOP\r\n"
    )
    assert said[-5:] == ["250 2.0.0", "552 5.3.4", "503 5.5.1", "503 5.5.1", "250 2.0.0"]
    (record,) = gateway.records
    assert (record.verdict, record.reason, record.stage) == ("rejected", "message-too-big", "end-of-data")
    assert not mta.heard("DATA")


async def test_the_largest_message_passes(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway(max_message_size=300_000)
    content = b"Subject: x\r\n\r\n" + b"a" * (300_000 - 16) + b"\r\n"
    said = await converse(gateway, OPENING, in_chunks([content[:150_000], content[150_000:]]))
    assert said[-1] == "250 2.0.0"
    assert relayed(mta) == content


async def test_content_that_outgrows_the_room_is_said_at_once(
    start_gateway: GatewayStarter, mta: FakeMTA, tmp_path: Path
):
    # Enough for what is begun, and not for all of it.
    gateway = await start_gateway(store=Store(tmp_path, octets=100_000))
    lines = b"RSET\r\n" * 30_000
    said = await converse(gateway, OPENING, bdat(lines), bdat(lines, last=True))
    assert said[-2:] == ["452 4.3.1", "503 5.5.1"]
    assert [record.reason for record in gateway.records] == ["storage-failed"]


async def test_a_full_journal_takes_no_chunk_and_no_half_message(start_gateway: GatewayStarter, mta: FakeMTA):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        gateway.journal.is_full = True
        client.say(bdat(b"first"))
        refusal = await client.reply()
        assert (refusal.code, refusal.status) == (452, "4.3.1")
        gateway.journal.is_full = False
        client.say(bdat(b"second", last=True))
        assert (await client.reply()).code == 503
    assert not mta.messages


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize(
    "said", [b"BDAT 1000\r\nSubject", bdat(b"Subject: t\r\n"), bdat(b"x") + b"BDAT 9 LAST\r\nx", b"BDAT 9 LA"]
)
async def test_a_client_that_vanishes_delivers_nothing(
    start_gateway: GatewayStarter, mta: FakeMTA, said: bytes, how: str
):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        client.say(said)
        await client.replies(said.count(b"BDAT") - 1 + said.startswith(b"BDAT 12\r"))
        client.reset() if how == "RST" else client.close()
        await gateway.no_client()
    (record,) = gateway.records
    assert (record.verdict, record.reason) == ("aborted", "client-disconnected")
    assert record.stage == ("rcpt" if said == b"BDAT 9 LA" else "end-of-data")
    assert not mta.heard("DATA")


async def test_a_client_that_falls_silent_in_a_chunk_is_let_go(
    start_gateway: GatewayStarter, mta: FakeMTA, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.stream, "CONTENT_TIMEOUT", 0.05)
    running = await start_gateway()
    async with Client(running.port) as client:
        await client.open(U1)
        client.say(b"BDAT 100\r\nQUIT\r\n")
        assert str(await client.reply()).startswith("421 4.4.2 ")
        assert await client.is_closed()
    assert (await running.record()).reason == "client-timeout"


async def test_everything_said_ahead_is_answered_to_a_half_closed_client(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        client.say(OPENING, in_chunks([MESSAGE[:9], MESSAGE[9:]]), b"QUIT\r\n")
        client.half_close()
        assert [answer.code for answer in await client.replies(6)] == [250] * 5 + [221]
    assert relayed(mta) == MESSAGE


async def test_a_chunk_under_way_is_finished_when_the_gateway_stops(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        client.say(b"BDAT %d LAST\r\n" % len(MESSAGE), MESSAGE[:5])
        await eventually(lambda: taken(gateway) == 5)
        for connection in list(gateway.server._connections):
            connection.drain()
        client.say(MESSAGE[5:])
        assert [(await client.reply()).code for _ in range(2)] == [250, 421]
    assert relayed(mta) == MESSAGE


async def test_a_message_between_two_chunks_that_does_not_go_on_is_given_up(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        client.say(bdat(MESSAGE))
        await client.reply()
        await gateway.server.drain(0.1)
        assert (await client.reply()).code == 421
    assert [(record.verdict, record.reason) for record in gateway.records] == [("aborted", "shutdown")]
    assert not mta.messages


async def test_a_chunk_that_does_not_end_is_cut_when_the_gateway_stops(
    start_gateway: GatewayStarter, mta: FakeMTA
):
    gateway = await start_gateway()
    async with Client(gateway.port) as client:
        await client.open(U1)
        client.say(b"BDAT 100 LAST\r\nQUIT\r\n")
        await eventually(lambda: taken(gateway) == 6)
        await gateway.server.drain(0.01)
        assert (await client.reply()).code == 421
    assert [(record.verdict, record.reason) for record in gateway.records] == [("aborted", "shutdown")]
    assert not mta.messages


def taken(gateway: RunningGateway) -> int:
    """Octets of content that have arrived on the one connection there is."""
    (connection,) = gateway.server._connections
    return 0 if connection._spool is None else connection._spool.size


# Invariants

SEGMENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"\0", b"\0.", b"RSET\r\n", b"BDAT 5 LAST\r\n"]
        ),
        st.binary(max_size=8),
    ),
    max_size=6,
)
MODES = st.sampled_from(BareNewline)


async def test_chunks_say_what_data_says(start_gateway: GatewayStarter, mta: FakeMTA):
    """Any message in any chunks, in any segments: as by DATA, dots stuffed, and as all at once."""
    running = {mode: await start_gateway(bare_newline=mode) for mode in BareNewline}
    cases: list[tuple[BareNewline, list[bytes], list[int]]] = []

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        MODES,
        st.lists(SEGMENTS.map(b"".join), min_size=1, max_size=4),
        st.lists(st.integers(0, 150), max_size=5),
    )
    def collect(mode: BareNewline, pieces: list[bytes], cuts: list[int]) -> None:
        cases.append((mode, pieces, cuts))

    collect()
    for mode, pieces, cuts in cases:
        outcomes = []
        wire, content = in_chunks(pieces), b"".join(pieces)
        for said, cut in ((wire, cuts), (wire, []), (by_data(content, mode), [])):
            outcomes.append(await outcome(running[mode], mta, said, cut))
        assert outcomes[0] == outcomes[1], (mode, pieces, cuts)
        assert outcomes[0][0][-1] == outcomes[2][0][-1], (mode, pieces)
        assert outcomes[0][1] == outcomes[2][1], (mode, pieces)


def by_data(content: bytes, mode: BareNewline) -> bytes:
    """DATA with this content. Without rewriting it must not end in half a line end."""
    if mode is BareNewline.NORMALIZE or content == normalized(content):
        return b"DATA\r\n" + b"".join(stuffed([normalized(content)]))
    return b"DATA\r\na\rb\r\n.\r\n"


async def outcome(
    gateway: RunningGateway, mta: FakeMTA, said: bytes, cuts: list[int]
) -> tuple[list[str], bytes | None]:
    """The replies up to the decisive one, without what differs each time, and what was delivered."""
    before = len(mta.messages)
    async with Client(gateway.port) as client:
        await client.open(U1)
        edges = [0, *sorted({min(cut, len(said)) for cut in cuts}), len(said)]
        for start, end in itertools.pairwise(edges):
            await client.send(said[start:end])
        client.say(b"QUIT\r\n")
        replies: list[Answer] = []
        while not replies or replies[-1].code != 221:
            replies.append(await client.reply())
    texts = [re.sub(r" \(ref .*|queued as .*", "", str(reply)) for reply in replies[:-1]]
    return texts, relayed(mta, before) if len(mta.messages) > before else None
