"""A visitor of the soak: a client that keeps account of what it was told."""

import contextlib
import re
from collections.abc import Sequence
from typing import Self

from tests.client import Answer
from tests.proofs.ledger import Sent, Visit
from tests.proofs.visitor import CutOff, Letter, Visitor

_REPLY = re.compile(r"[2-5][0-9]{2}[ -][\x20-\x7e]*")


class SentAway(Exception):
    """The worker finishes: 421 4.3.2, which may come at any time while a configuration is reloaded."""


class Guest(Visitor):
    """One connection of a visit. Replies are held against RFC 5321 section 4.2 as they come."""

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit.port, visit.source, visit.take_port())
        self.visit = visit

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def line(self) -> str:
        line = await super().line()
        assert _REPLY.fullmatch(line), f"no reply: {line!r}"
        return line

    async def reply(self) -> Answer:
        answer = await super().reply()
        if answer.reference:
            self.visit.references.append(answer.reference)
        if answer.code == 421 and "Shutting down" in answer.text:
            raise SentAway
        return answer

    async def want(self, code: int, command: str) -> Answer:
        """Say a command whose reply is certain."""
        answer = await self.ask(command)
        assert answer.code == code, f"{command!r}: {answer}, not {code}"
        return answer

    async def hello(self) -> None:
        """Banner and EHLO."""
        answer = await self.reply()
        assert answer.code == 220, answer
        await self.want(250, "EHLO c.example")

    async def mail(self, sender: str, parameters: str = "") -> None:
        """MAIL."""
        self.visit.mails.add(sender)
        await self.want(250, f"MAIL FROM:<{sender}>{parameters}")

    async def envelope(self, letter: Letter) -> list[Answer]:
        """MAIL and RCPTs; the replies to RCPT."""
        await self.mail(letter.sender)
        return [await self.ask(f"RCPT TO:<{recipient}>") for recipient in letter.recipients]

    async def content(self, letter: Letter, *, may_be_taken: bool = False) -> Answer:
        """DATA and the content; the decisive reply."""
        answer = await self.ask("DATA")
        if answer.code != 354:
            return answer
        sent = self.send_note(letter, may_be_taken=may_be_taken)
        await self.send(letter.stuffed + b".\r\n")
        sent.answer = await self.reply()
        return sent.answer

    def send_note(self, letter: Letter, *, may_be_taken: bool = False) -> Sent:
        """Enter into the books that this content is about to be sent."""
        sent = Sent(letter, may_be_taken=may_be_taken)
        self.visit.sent.append(sent)
        return sent

    async def post(self, letter: Letter, code: int = 250) -> Answer:
        """A whole transaction, all of whose recipients are good."""
        for answer in await self.envelope(letter):
            assert answer.code == 250, answer
        answer = await self.content(letter)
        assert answer.code == code, answer
        return answer

    async def bye(self) -> None:
        """QUIT."""
        await self.want(221, "QUIT")

    async def everything(self, at_least: int = 0) -> list[Answer]:
        """All replies up to the end of the connection. Raises CutOff if that comes too early."""
        answers = []
        with contextlib.suppress(CutOff):
            while True:
                answers.append(await self.reply())
        if len(answers) < at_least:
            raise CutOff
        return answers

    def pipeline(self, commands: Sequence[bytes]) -> None:
        """Many commands in one segment (RFC 2920)."""
        self.say(b"\r\n".join(commands) + b"\r\n")

    async def says_no_more(self) -> bool:
        """Whether the connection ends; what a TLS server says last is no reply and does not count."""
        with contextlib.suppress(ConnectionError):
            await self.rest()
        return True
