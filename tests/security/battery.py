"""What is true after every attack: raw octets in, all replies out, and one look at everything at the end.

A `Battery` is a gateway in front of a correct MTA. A test says whatever it likes through it; `check`
then asserts that nobody was told anything false, nothing went downstream that no client said, every
refusal has its record, and that the next client is served.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filters.testing.server import Conversation
from gateway.journal.record import Record, decode, encode
from tests.client import Answer, Client
from tests.fakes.mta import Attempt, FakeMTA
from tests.proxy.running import RunningGateway, check_promises
from tests.waiting import eventually

ENVELOPE = b"MAIL FROM:<s@a.example>\r\nRCPT TO:<u1@our.example>\r\n"
START = b"EHLO c.example\r\n" + ENVELOPE + b"DATA\r\n"
END = b"\r\n.\r\n"
MESSAGE = b"Subject: x\r\n\r\nHello\r\n"

_REPLY_LINE = re.compile(rb"[2-5]\d\d[ -][ -~]*\r\n")
_LAST_CHUNK = re.compile(rb"(?im)^BDAT +\d+ +LAST")
_TAKEN = re.compile(r"250 2\.0\.0 Ok: queued as ")
_OUR_FIELDS = re.compile(
    rb"\AReceived: .*?^X-Sluicegate-Reference: [^\r]*\r\n"
    rb"(?:X-Label:[^\r]*\r\n(?:\t[^\r]*\r\n)*)?(?:X-Mailbox-Line: )?",
    re.MULTILINE | re.DOTALL,
)
# What a client is never told.
_INSIDE = re.compile(r"Traceback|Error: \(|Exception|/tmp/|\.py\b")


@dataclass
class Battery:
    """`heard` is what all clients were told, but for `has_lost_replies`.

    Where a message `has_forgeries`, what is relayed is not what was received. `takes_nothing` where a
    policy refuses whatever comes.
    """

    gateway: RunningGateway
    mta: FakeMTA
    heard: list[Answer] = field(default_factory=list)
    has_lost_replies: bool = False
    has_forgeries: bool = False
    takes_nothing: bool = False
    last_chunks: int = 0

    async def talk(self, *segments: bytes, hang_up: bool = False) -> list[Answer]:
        """Say each in one go, and hear everything up to the end, which the gateway makes or we do."""
        self.last_chunks += len(_LAST_CHUNK.findall(b"".join(segments)))
        async with Client(self.gateway.port, greet=False) as client:
            for segment in segments:
                await client.send(segment)
            if hang_up:
                client.half_close()
            banner, *answers = read_replies(await client.rest())
        assert banner.code == 220
        self.heard += answers
        return answers

    async def codes(self, *segments: bytes, hang_up: bool = False) -> list[int]:
        """The codes of what `talk` hears."""
        return [answer.code for answer in await self.talk(*segments, hang_up=hang_up)]

    async def check(self) -> None:
        """What holds whatever was said."""
        await self.gateway.no_client()
        check_promises(self.gateway, self.mta)
        self._check_replies()
        self._check_deliveries()
        self._check_records()
        assert not _nameless_files(self.gateway.service.store.directory)
        await self._check_that_the_next_is_served()
        await self._check_that_nothing_is_left_over()

    def _check_replies(self) -> None:
        """Refusals and records belong together one to one, and say nothing about our inside."""
        assert not [answer for answer in self.heard if _INSIDE.search(answer.text)]
        spoken = sorted(answer.reference for answer in self.heard if answer.reference)
        refused = sorted(r.reference for r in self._records("rejected", "tempfailed"))
        assert spoken == refused or (self.has_lost_replies and set(spoken) <= set(refused))

    def _check_deliveries(self) -> None:
        """Whoever was told that a message was taken: the downstream has it, whole, for these people."""
        told = sum(_TAKEN.match(answer.text) is not None for answer in self.heard)
        accepted = self._records("accepted")
        assert told == len(accepted) == len(self.mta.messages) or (
            self.has_lost_replies and told <= len(accepted) <= len(self.mta.messages)
        )
        for record, message in zip(accepted, self.mta.messages, strict=not self.has_lost_replies):
            _assert_is_for_the_same(record, message)
            if not self.has_forgeries:
                assert record.message is not None
                assert record.message.digest in _digests(content_of(message))
        # No end of data but for a message that a client ended.
        asked = sum(answer.code == 354 for answer in self.heard) + self.last_chunks
        assert self.has_lost_replies or sum(each.has_ended for each in self.mta.attempts) <= asked

    def _check_records(self) -> None:
        """Each is one line, and what was judged is all that was said downstream."""
        for record in self.gateway.records:
            line = encode(record)
            assert line.count(b"\n") == 1
            assert decode(line[:-1]).reference == record.reference
        senders = [record.reverse_path for record in self.gateway.records if record.reverse_path]
        for attempt in self.mta.attempts:
            assert any(attempt.mail.startswith(f"MAIL FROM:<{each.removeprefix('<>')}>") for each in senders)

    async def _check_that_the_next_is_served(self) -> None:
        async with Client(self.gateway.port) as client:
            answer = await client.deliver(MESSAGE, "u1@our.example")
        assert answer.code == (550 if self.takes_nothing else 250)
        assert self.takes_nothing or self.mta.messages[-1].content.endswith(MESSAGE)

    async def _check_that_nothing_is_left_over(self) -> None:
        """Stopping closes what is kept for the next message; what else is open has been forgotten."""
        await self.gateway.stop()
        await eventually(lambda: all(map(_is_over, self.mta.conversations)))

    def _records(self, *verdicts: str) -> list[Record]:
        return [record for record in self.gateway.records if record.verdict in verdicts]


def read_replies(octets: bytes) -> list[Answer]:
    """All replies in what the gateway said. Fails on anything that is none."""
    answers: list[Answer] = []
    lines: list[str] = []
    for line in octets.splitlines(keepends=True):
        assert _REPLY_LINE.fullmatch(line), line
        assert len(line) <= 512, "RFC 5321 section 4.5.3.1.5"
        lines.append(line.decode("ascii").removesuffix("\r\n"))
        if lines[-1][3] == " ":
            assert len({each[:3] for each in lines}) == 1, lines
            answers.append(Answer(int(lines[0][:3]), tuple(lines)))
            lines = []
    assert not lines
    return answers


def content_of(message: Attempt) -> bytes:
    """What the downstream got below the fields that we put on top."""
    ours = _OUR_FIELDS.match(message.content)
    assert ours is not None
    return message.content[ours.end() :]


def _is_over(conversation: Conversation) -> bool:
    return conversation.left.is_set() or conversation.socket.fileno() < 0


def _nameless_files(directory: Path) -> list[str]:
    """Content that nobody needs any more, and that was not given back."""
    descriptors = Path("/proc/self/fd").iterdir()
    opened = [os.readlink(each) for each in descriptors if each.is_symlink()]
    return [name for name in opened if name.startswith(f"{directory}/")]


def _digests(content: bytes) -> Iterator[str]:
    """Above content that begins with white space stands an empty line of ours."""
    yield hashlib.sha256(content).hexdigest()
    if content.startswith((b"\r\n ", b"\r\n\t")):
        yield hashlib.sha256(content[2:]).hexdigest()


def _assert_is_for_the_same(record: Record, message: Attempt) -> None:
    sender = (record.reverse_path or "").removeprefix("<>")
    assert message.mail.startswith(f"MAIL FROM:<{sender}>")
    for line, recipient in zip(message.recipients, record.recipients, strict=True):
        assert line.startswith(f"RCPT TO:<{recipient}>")
