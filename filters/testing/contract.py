"""What every filter owes the gateway, whatever its daemon does: a whole answer or an exception.

For filters whose daemon listens on a port or a Unix socket. A test class says how the filter is built
and what a good dialogue looks like, from the daemon's side, and inherits the rest:

    class TestReputation(FilterContract):
        finding = Reputation(17)

        def build(self, address):
            return ReputationServer(address=address)

        def converse(self, talk):
            talk.read_until(b"\\n")
            talk.say(b"17\\n")

The tests are plain functions; each runs a loop of its own, ends within LONGEST seconds, and fails if the
filter has left a task or a socket behind.
"""

import asyncio
import functools
import gc
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from filters.base import Filter, FilterError
from filters.evidence import Finding
from filters.testing.server import (
    FLOOD,
    Behaviour,
    Conversation,
    FakeServer,
    Nobody,
    close_after,
    cut_off,
    deaf,
    flood,
    hang,
    mute,
    reset_after,
    say_early,
    trickle,
)
from filters.testing.transactions import at_end_of_data
from gateway.smtp.transaction import Transaction

LONGEST = 60.0
_MAX_TEXT = 500
_OPEN_FILES = "/proc/self/fd"

# What no filter may take for an answer.
BROKEN: dict[str, Behaviour] = {
    "closes-at-once": mute,
    "closes-while-being-sent-to": close_after(5),
    "resets-while-being-sent-to": reset_after(5),
    "octets": say_early(bytes(range(256)) * 4),
    "http": say_early(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "smtp": say_early(b"220 mail.example.net ESMTP\r\n"),
    "line-without-end": say_early(b"x" * 1_000_000),
    "newlines": say_early(b"\r\n" * 1000),
    "endless-line": flood(b"x"),
    "endless-lines": flood(b"x: y\r\n"),
    "endless-zeros": flood(b"\0"),
}
# What only ends when the gateway's patience does.
SILENT: dict[str, Behaviour] = {"hangs": hang, "deaf": deaf, "trickles": trickle}

SMALL = b"Subject: small\r\n\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"0123456789" * 40_000
# More than lies in the buffers of two sockets.
HUGE = LARGE * 20
TRACE = b"Received: from a\r\n\tby b; today\r\n"

each_broken = pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
each_silent = pytest.mark.parametrize("behaviour", SILENT.values(), ids=SILENT.keys())


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test as a plain function, which fails if a task is left when it is over."""

    async def bounded(self: "FilterContract", *arguments: Any, **named: Any) -> None:
        async with asyncio.timeout(LONGEST):
            await test(self, *arguments, **named)
            for each in self.built:
                await each.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"

    @functools.wraps(test)
    def run(self: "FilterContract", *arguments: Any, **named: Any) -> None:
        asyncio.run(bounded(self, *arguments, **named))

    return run


class FilterContract:
    """For every filter that asks a daemon.

    `finding` is what is found when the daemon behaves as `converse` has it. `unix_sockets` says whether
    `build` takes "unix:/path" and `several` whether it takes a list of addresses, as a filter with a
    `filters.backend.Pool` does.
    """

    finding: Finding
    unix_sockets = True
    several = True

    def build(self, address: Any) -> Filter:
        """The filter for the daemon at `address`, "host:port", or at the addresses of a list."""
        raise NotImplementedError

    def converse(self, talk: Conversation) -> None:
        """Read a whole question of the filter and answer it, so that it finds `finding`."""
        raise NotImplementedError

    def transaction(self, content: bytes = SMALL, trace: bytes = b"") -> Transaction:
        """What the filter is asked about."""
        return at_end_of_data(content, trace)

    # The machinery

    @pytest.fixture(autouse=True)
    def _nothing_is_left_open(self) -> Iterator[None]:
        self.built: list[Filter] = []
        before = _sockets()
        # What was there before the test is not looked through behind it.
        gc.freeze()
        yield
        gc.collect()
        gc.unfreeze()
        assert _sockets() == before, "a socket is left open"

    def at(self, address: str | list[str]) -> Filter:
        """A filter that is closed when the test is over."""
        found = self.build(address)
        self.built.append(found)
        return found

    def daemon(self, behaviour: Behaviour | None = None, *, unix: str | None = None) -> FakeServer:
        """A daemon with this behaviour; without, a good one."""
        return FakeServer(behaviour or self.converse, unix=unix)

    async def whole_answer(self) -> bytes:
        """All that the good daemon says to one question."""
        async with self.daemon() as good:
            await self.at(good.address).find(self.transaction())
            return bytes(good.last.said)

    async def fails(self, asked: Awaitable[object], address: str) -> None:
        """The failure is one that an operator can read, and names the daemon."""
        with pytest.raises(FilterError) as caught:
            await asked
        text = str(caught.value)
        assert address in text
        assert text.isprintable()
        assert len(text) < _MAX_TEXT

    # What is said about itself

    def test_it_says_what_it_is(self) -> None:
        """A name for its section, and the type of its finding."""
        assert self.build("127.0.0.1:1").name
        assert isinstance(self.finding, self.build("127.0.0.1:1").finds)

    def test_equal_transactions_are_equal_subjects(self) -> None:
        """What a finding depends on can be compared, and is not the transaction's identity."""
        subjects = [self.build("127.0.0.1:1").subject(self.transaction()) for _ in range(2)]
        assert hash(subjects[0]) == hash(subjects[1])
        assert subjects[0] == subjects[1]

    # A daemon that behaves

    @in_a_loop
    async def test_a_good_answer_is_understood(self) -> None:
        """The finding, and it comes again."""
        async with self.daemon() as good:
            asked = self.at(good.address)
            for _ in range(2):
                assert await asked.find(self.transaction()) == self.finding

    @in_a_loop
    async def test_questions_at_the_same_time_are_answered(self) -> None:
        """One instance serves all sessions."""
        async with self.daemon() as good:
            asked = self.at(good.address)
            found = await asyncio.gather(*(asked.find(self.transaction()) for _ in range(10)))
        assert found == [self.finding] * 10

    @in_a_loop
    async def test_a_unix_socket_serves_as_well(self, tmp_path: Any) -> None:
        """Where the filter takes one."""
        async with self.daemon(unix=str(tmp_path / "s") if self.unix_sockets else None) as good:
            assert await self.at(good.address).find(self.transaction()) == self.finding

    # One that does not

    @in_a_loop
    async def test_a_refused_connection_is_an_error(self) -> None:
        """Nobody listens."""
        with Nobody() as nobody:
            await self.fails(self.at(nobody.address).find(self.transaction()), nobody.address)

    @each_broken
    @in_a_loop
    async def test_a_broken_daemon_is_an_error(self, behaviour: Behaviour) -> None:
        """It closes, dies, talks another protocol, or never stops. It is asked once."""
        async with self.daemon(behaviour) as broken:
            await self.fails(self.at(broken.address).find(self.transaction()), broken.address)
            assert broken.connections == 1
            assert len(broken.last.said) < FLOOD

    @in_a_loop
    async def test_an_answer_that_breaks_off_is_an_error(self) -> None:
        """Behind each octet of it."""
        answer = await self.whole_answer()
        async with self.daemon() as broken:
            for length in range(len(answer)):
                broken.behaviour = cut_off(self.converse, length)
                asked = self.at(broken.address)
                await self.fails(asked.find(self.transaction()), broken.address)

    @pytest.mark.parametrize("junk", [b"\0", b"\xff", b"x", b"0", b"\r\n"], ids=repr)
    @in_a_loop
    async def test_an_answer_that_goes_astray_and_never_ends_is_an_error(self, junk: bytes) -> None:
        """It begins like a good one; what follows is bounded by the filter."""
        length = len(await self.whole_answer()) // 2
        async with self.daemon(cut_off(self.converse, length, flood(junk))) as broken:
            await self.fails(self.at(broken.address).find(self.transaction()), broken.address)
            assert len(broken.last.said) < FLOOD

    @in_a_loop
    async def test_a_daemon_that_is_back_is_believed(self) -> None:
        """A failure is forgotten."""
        async with self.daemon(mute) as daemon:
            asked = self.at(daemon.address)
            await self.fails(asked.find(self.transaction()), daemon.address)
            daemon.behaviour = self.converse
            assert await asked.find(self.transaction()) == self.finding

    # One that keeps the gateway waiting

    async def is_let_go(self, asked: Awaitable[object], daemon: FakeServer) -> None:
        """Cancelled once it is connected, the question ends as cancelled and its connection is closed."""
        question = asyncio.ensure_future(asked)
        await daemon.wait_for_connections(1)
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        if daemon.behaviour is deaf:
            daemon.last.wait_until_left()
        assert await daemon.last.has_left()

    @each_silent
    @in_a_loop
    async def test_cancelling_closes_the_connection(self, behaviour: Behaviour) -> None:
        """Whatever it waits for."""
        async with self.daemon(behaviour) as daemon:
            await self.is_let_go(self.at(daemon.address).find(self.transaction()), daemon)

    @pytest.mark.parametrize("part", [0, 0.5, 1], ids=["before-it", "in-the-middle", "before-the-last-octet"])
    @in_a_loop
    async def test_cancelling_within_an_answer_closes_the_connection(self, part: float) -> None:
        """It has read the question and gone silent."""
        said = int((len(await self.whole_answer()) - 1) * part)
        async with self.daemon() as daemon:
            went_silent = asyncio.Event()
            loop = asyncio.get_running_loop()

            def silence(talk: Conversation) -> None:
                loop.call_soon_threadsafe(went_silent.set)
                hang(talk)

            daemon.behaviour = cut_off(self.converse, said, silence)
            question = asyncio.ensure_future(self.at(daemon.address).find(self.transaction()))
            await went_silent.wait()
            await self.is_let_go(question, daemon)

    # Several

    @each_broken
    @in_a_loop
    async def test_another_address_is_asked(self, behaviour: Behaviour) -> None:
        """Once one has failed, and first from then on."""
        async with self.daemon(behaviour) as broken, self.daemon() as good:
            if self.several:
                asked = self.at([broken.address, good.address])
                for _ in range(3):
                    assert await asked.find(self.transaction()) == self.finding
                assert broken.connections == 1
                assert good.connections == 3

    @in_a_loop
    async def test_every_address_is_named_when_all_fail(self) -> None:
        """An operator wants to know of each."""
        with Nobody() as nobody:
            async with self.daemon(mute) as broken:
                if self.several:
                    found = self.at([nobody.address, broken.address]).find(self.transaction())
                    await self.fails(found, f"{nobody.address}: connection refused; {broken.address}: ")


class ScannerContract(FilterContract):
    """For a filter that sends the message; `converse` keeps what it was sent in `talk.content`.

    `build` lets messages of 10 MB through. `early_answers_count` says whether an answer may be believed that
    is given before the whole message was read; of a scanner that says "clean" it may not.
    """

    early_answers_count = False

    @pytest.mark.parametrize("content", [b"", b"\r\n", b"x", LARGE], ids=["empty", "blank", "one", "large"])
    @pytest.mark.parametrize("trace", [b"", TRACE], ids=["bare", "traced"])
    @in_a_loop
    async def test_the_daemon_is_sent_what_will_be_relayed(self, content: bytes, trace: bytes) -> None:
        """The trace fields on top, then the content, octet for octet."""
        async with self.daemon() as good:
            await self.at(good.address).find(self.transaction(content, trace))
            # Compared before it is asserted: to show how megabytes differ takes pytest minutes.
            is_whole = good.last.content == trace + content
            assert is_whole, f"{len(good.last.content)} octets of {len(trace + content)}, or other ones"

    @each_broken
    @in_a_loop
    async def test_a_daemon_that_breaks_while_being_sent_to_is_an_error(self, behaviour: Behaviour) -> None:
        """With a message that it takes a while to send."""
        async with self.daemon(behaviour) as broken:
            await self.fails(self.at(broken.address).find(self.transaction(LARGE)), broken.address)
            assert broken.connections == 1

    @in_a_loop
    async def test_an_answer_to_half_a_message(self) -> None:
        """It was not given about the message."""
        answer = await self.whole_answer()
        async with self.daemon(say_early(answer, after=5)) as hasty:
            asked = self.at(hasty.address).find(self.transaction(HUGE))
            if self.early_answers_count:
                assert await asked == self.finding
            else:
                await self.fails(asked, hasty.address)

    @each_silent
    @in_a_loop
    async def test_cancelling_while_sending_closes_the_connection(self, behaviour: Behaviour) -> None:
        """More than the sockets' buffers take."""
        async with self.daemon(behaviour) as daemon:
            await self.is_let_go(self.at(daemon.address).find(self.transaction(HUGE)), daemon)


class ProbeContract(FilterContract):
    """For a filter with a `probe`; `converse` answers that as well."""

    @in_a_loop
    async def test_probing_a_good_daemon_says_where_it_is(self) -> None:
        """A text for people."""
        async with self.daemon() as good:
            text = await self.at(good.address).probe()
            assert text.startswith(f"{good.address}: ")
            assert text.isprintable()

    @each_broken
    @in_a_loop
    async def test_probing_a_broken_daemon_is_an_error(self, behaviour: Behaviour) -> None:
        """As `find` has it."""
        async with self.daemon(behaviour) as broken:
            await self.fails(self.at(broken.address).probe(), broken.address)

    @in_a_loop
    async def test_probing_where_nobody_is_is_an_error(self) -> None:
        """Nobody listens."""
        with Nobody() as nobody:
            await self.fails(self.at(nobody.address).probe(), nobody.address)

    @in_a_loop
    async def test_cancelling_a_probe_closes_the_connection(self) -> None:
        """The same as for a question."""
        async with self.daemon(hang) as daemon:
            await self.is_let_go(self.at(daemon.address).probe(), daemon)


def _sockets() -> int:
    """How many this process has open."""
    count = 0
    for name in os.listdir(_OPEN_FILES):
        try:
            count += os.readlink(f"{_OPEN_FILES}/{name}").startswith("socket:")
        except FileNotFoundError:
            continue  # the listing's own
    return count
