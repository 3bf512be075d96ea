"""Invariant: each command has its reply in order, and 250 to a message means that the downstream took it."""

import asyncio
import itertools
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gateway.proxy.budget
from gateway.smtp.content import BareNewline
from tests.client import Answer
from tests.fakes.mta import Act, FakeMTA, say
from tests.proxy.running import RunningGateway, destination
from tests.security.battery import Battery

END = b"\r\n.\r\n"
COMMANDS = [
    *(
        b"EHLO c.example",
        b"HELO c.example",
        b"MAIL FROM:<s@a.example>",
        b"MAIL FROM:<> SIZE=10 BODY=8BITMIME",
    ),
    *(b"RCPT TO:<u1@our.example>", b"RCPT TO:<x@victim.example>", b"RCPT TO:<postmaster>", b"RSET", b"NOOP"),
    *(
        b"DATA",
        b"QUIT",
        b"VRFY x",
        b"HELP",
        b"STARTTLS",
        b"AUTH PLAIN x",
        b"BDAT 5 LAST",
        b"BDAT 3",
        b"BDAT x",
        b"EXPN x",
        b"",
    ),
]
# What gets somewhere, and more often than chance would.
WAYS = [
    [b"EHLO c.example", b"MAIL FROM:<s@a.example>", b"RCPT TO:<u1@our.example>", b"DATA"],
    [
        b"MAIL FROM:<s@a.example>",
        b"RCPT TO:<u1@our.example>",
        b"RCPT TO:<u2@our.example>",
        b"DATA",
        b"x: y",
        b"",
        b"z",
        b".",
    ],
    [b"Subject: x", b"", b"..", b".a", b"."],
    [b"."],
]
DAMAGE = [
    b"\r",
    b"\n",
    b"\0",
    b".",
    b"<",
    b">",
    b'"',
    b"\\",
    b"@",
    b":",
    b"%",
    b"!",
    b" ",
    b"\t",
    b"\x80",
    b"\xff",
]

_CHUNK = re.compile(rb"BDAT +(\d{1,9})(?: +LAST)?")

lines = st.one_of(
    st.sampled_from(COMMANDS).map(lambda line: [line]), st.sampled_from(WAYS), st.sampled_from(WAYS)
)
sessions = st.lists(lines, max_size=8).map(
    lambda ways: b"".join(line + b"\r\n" for way in ways for line in way)
)
damages = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 2]), st.sampled_from(DAMAGE)), max_size=4
)
cuts = st.lists(st.floats(0, 1), max_size=6)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway.proxy.budget, "_LONGEST_DELAY", 0.0)
        yield


@settings(deadline=None, max_examples=max(settings.default.max_examples // 20, 100))
@given(sessions, damages, cuts, st.sampled_from(BareNewline))
@example(b"EHLO c\r\n" + b"FOO\r\n" * 25, [], [0.5], BareNewline.REJECT)
@example(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<u1@our.example>\r\nDATA\r\n x\r\n", [], [], BareNewline.REJECT)
@example(b"GET / HTTP/1.1\r\nNOOP\r\n", [], [], BareNewline.REJECT)
def test_any_dialogue(
    session: bytes, damage: list[tuple[float, int, bytes]], cut: list[float], mode: BareNewline
):
    for where, taken, put in damage:
        at = int(where * len(session))
        session = session[:at] + put + session[at + taken :]
    # Ends a message where one is open, and are two commands that are none where not.
    session += END + b"QUIT\r\n"
    at = sorted({0, len(session), *(int(where * len(session)) for where in cut)})
    segments = [session[start:end] for start, end in itertools.pairwise(at)]
    asyncio.run(converse(session, segments, mode))


async def converse(session: bytes, segments: Sequence[bytes], mode: BareNewline) -> None:
    async with FakeMTA() as mta:
        with tempfile.TemporaryDirectory() as directory:
            running = RunningGateway(Path(directory), [destination(mta.address)], bare_newline=mode)
            await running.start()
            try:
                battery = Battery(running, mta)
                assert_in_order(session, await battery.talk(*segments))
                await battery.check()
            finally:
                await running.stop()


def assert_in_order(session: bytes, answers: Sequence[Answer]) -> None:
    """A reader of both sides, which knows where commands and content end, and what hangs up."""
    remaining = list(answers)
    while session and remaining:
        line, _, session = session.partition(b"\n")
        answer = remaining.pop(0)
        verb = line.removesuffix(b"\r").strip(b" ").upper()
        if answer.code in {221, 421}:
            assert verb == b"QUIT" or answer.code == 421
            session = b""
        elif answer.code == 354:
            assert verb == b"DATA"
            _, end, session = (b"\r\n" + session).partition(END)
            assert end
            assert remaining.pop(0).code in {250, 550}
        elif verb.startswith(b"BDAT"):
            # A chunk is taken whole; without a usable size there is nothing to go on with.
            chunk = _CHUNK.fullmatch(verb)
            session = session[int(chunk[1]) :] if chunk else b""
        if len(remaining) == 1 and remaining[0].code == 421:
            # Enough is enough.
            remaining.clear()
            session = b""
    assert (session, remaining) == (b"", [])


words = st.sampled_from(
    [
        *(
            b"250 2.0.0 Ok\r\n",
            b"250-a\r\n",
            b"250 b\r\n",
            b"354 go\r\n",
            b"550 5.1.1 no\r\n",
            b"451 4.3.0 later\r\n",
        ),
        *(b"421 bye\r\n", b"250", b" ", b"-", b"\r", b"\n", b"\0", b"\xff", b"999 x\r\n", b"25\r\n", b"\r\n"),
    ]
)
replies = st.one_of(st.none(), st.lists(words, min_size=1, max_size=4).map(b"".join))


@settings(deadline=None, max_examples=max(settings.default.max_examples // 40, 50))
@given(
    st.dictionaries(
        st.sampled_from(["banner", "MAIL", "RCPT", "DATA", "end", "RSET"]), replies.filter(bool), max_size=3
    )
)
def test_any_downstream(said: dict[str, bytes]):
    """It is believed when it says what it should where it should, and else the client may come again."""
    # Whoever says half a reply hangs up as well: to wait for the other half is another test's business.
    asyncio.run(relay_to({stage: say_all(octets) for stage, octets in said.items()}, said))


def say_all(octets: bytes) -> Act:
    def act(talk) -> None:
        say(octets)(talk)
        if not octets.endswith(b"\n") or re.search(rb"^\d\d\d-[^\n]*\n\Z", octets, re.MULTILINE):
            talk.conversation.reset()
            raise EOFError

    return act


async def relay_to(script: dict[str, Act], said: dict[str, bytes]) -> None:
    async with FakeMTA({stage: [act] for stage, act in script.items()}) as mta:
        with tempfile.TemporaryDirectory() as directory:
            running = RunningGateway(Path(directory), [destination(mta.address)], deadline=1.0)
            await running.start()
            try:
                session = b"EHLO c\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<u1@our.example>\r\nDATA\r\n"
                answers = await Battery(running, mta).talk(session, b"x: y\r\n.\r\nQUIT\r\n")
            finally:
                await running.stop()
    codes = [answer.code for answer in answers]
    taken = 354 in codes and codes[codes.index(354) + 1] == 250
    # Told that it was taken: by the whole of a reply to the end of data, and to nothing else.
    assert not taken or mta.messages or re.match(rb"(?:2\d\d-[^\n]*\n)*2\d\d(?![-\d])", said.get("end", b""))
    assert not taken or mta.attempts[-1].has_ended
    assert [record.verdict for record in running.records].count("accepted") == taken
