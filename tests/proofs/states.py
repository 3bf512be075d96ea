"""How far a sender has come when somebody is killed: every state of RFC 5321 section 3, and those behind it.

A state is reached by what has been said, by octets that a worker has provably read, by gates in the
fakes, and by a worker that is stopped; never by waiting for a while.
"""

import enum
from dataclasses import dataclass

from tests.client import Answer
from tests.proofs.scene import Scene
from tests.proofs.visitor import CutOff, Letter, Visitor
from tests.waiting import eventually


class Step(enum.IntEnum):
    """The course of a session, in order."""

    NOTHING = 0
    CONNECT = 1
    BANNER = 2
    HELLO = 3
    ENCRYPT = 4
    MAIL = 5
    RCPT = 6
    DATA = 7
    HEADER = 8
    BODY = 9
    DOT = 10
    END = 11
    ANSWER = 12
    QUIT = 13


@dataclass(frozen=True)
class State:
    """`hold` is the gate shut before the session begins; `size` is of the body, in octets."""

    name: str
    after: Step
    hold: str = ""
    size: int = 200
    tls: bool = False
    is_stopped: bool = False

    @property
    def is_ambiguous(self) -> bool:
        """Whether the downstream has the end of data, and the client no reply (RFC 1047)."""
        return self.hold.startswith(("end", "taken"))


_IN_MEMORY, _IN_A_FILE, _MORE_THAN_BUFFERS = 200, 300_000, 5_000_000

STATES = (
    State("before the banner", Step.CONNECT, is_stopped=True),
    State("after the banner", Step.BANNER),
    State("after EHLO", Step.HELLO),
    State("after STARTTLS", Step.ENCRYPT, tls=True),
    State("after MAIL", Step.MAIL),
    State("after RCPT", Step.RCPT),
    State("after 354", Step.DATA),
    State("in the header section", Step.HEADER),
    State("in the body", Step.BODY),
    State("in the body, TLS", Step.BODY, tls=True),
    State("in the body, in a file", Step.BODY, size=_IN_A_FILE),
    State("in the end of data", Step.DOT),
    State("scanners look", Step.END, hold="clamd"),
    State("scanners look, TLS", Step.END, hold="clamd", tls=True),
    State("content goes downstream", Step.END, hold="content", size=_MORE_THAN_BUFFERS),
    State("downstream has the end", Step.END, hold="end"),
    State("downstream took it, says nothing yet", Step.END, hold="taken"),
    State("downstream said 250, we not", Step.END, hold="end", is_stopped=True),
    State("after 250", Step.ANSWER),
    State("after QUIT", Step.QUIT),
)


class Refused(Exception):
    """A reply that ends the attempt."""


class Sender:
    """One attempt to deliver a letter. `answer` is what it came to; None if nothing was said."""

    def __init__(self, scene: Scene, letter: Letter, source: str, *, tls: bool = False) -> None:
        self.source = source
        self.letter = letter
        self.at = Step.NOTHING
        self.answer: Answer | None = None
        self._trust = scene.around.trust if tls else None
        self._visitor = Visitor(scene.gateway.port, source)
        head, _, _ = letter.stuffed.partition(b"\r\n\r\n")
        self._cuts = (len(head) // 2, len(letter.stuffed) - 10)

    async def go(self, to: Step) -> None:
        """On to this step. Raises Refused or CutOff where there is no way on."""
        while self.at < to:
            step = Step(self.at + 1)
            await getattr(self, f"_{step.name.lower()}")()
            self.at = step

    async def finish(self) -> Answer | None:
        """On to the end, whatever that is; the decisive reply."""
        try:
            await self.go(Step.QUIT)
        except (Refused, CutOff, OSError):
            pass
        finally:
            await self.leave()
        return self.answer

    async def leave(self) -> None:
        """Close, if there is anything to close."""
        if self.at >= Step.CONNECT:
            await self._visitor.__aexit__()

    @property
    def port(self) -> int:
        """The client's own."""
        return self._visitor.port

    def vanish(self, *, reset: bool) -> None:
        """What a kernel does for a client that is killed: FIN, or RST if there was something unread."""
        if reset:
            self._visitor.reset()
        else:
            self._visitor.close()

    # The steps

    async def _connect(self) -> None:
        await self._visitor.__aenter__()

    async def _banner(self) -> None:
        self._want(await self._visitor.greeting(), 220)

    async def _hello(self) -> None:
        self._want(await self._visitor.ask("EHLO c.example"), 250)

    async def _encrypt(self) -> None:
        if self._trust:
            self._want(await self._visitor.ask("STARTTLS"), 220)
            await self._visitor.start_tls(self._trust)
            await self._hello()

    async def _mail(self) -> None:
        self._want(await self._visitor.ask(f"MAIL FROM:<{self.letter.sender}>"), 250)

    async def _rcpt(self) -> None:
        for recipient in self.letter.recipients:
            self._want(await self._visitor.ask(f"RCPT TO:<{recipient}>"), 250)

    async def _data(self) -> None:
        self._want(await self._visitor.ask("DATA"), 354)

    async def _header(self) -> None:
        await self._visitor.send(self.letter.stuffed[: self._cuts[0]])

    async def _body(self) -> None:
        await self._visitor.send(self.letter.stuffed[self._cuts[0] : self._cuts[1]])

    async def _dot(self) -> None:
        await self._visitor.send(self.letter.stuffed[self._cuts[1] :] + b".")

    async def _end(self) -> None:
        await self._visitor.send(b"\r\n")

    async def _answer(self) -> None:
        self.answer = await self._visitor.reply()
        self._want(self.answer, 250)

    async def _quit(self) -> None:
        self._visitor.say(b"QUIT\r\n")
        await self._visitor.reply()

    def _want(self, answer: Answer, code: int) -> None:
        if answer.code != code:
            self.answer = answer
            raise Refused


async def reach(state: State, sender: Sender, scene: Scene) -> None:
    """Bring a session into this state."""
    if state.hold:
        scene.around.gates.shut(state.hold)
    if state.after is Step.CONNECT:
        scene.stop_worker()
    await sender.go(state.after)
    if state.after is not Step.CONNECT:
        await eventually(lambda: not scene.gateway.unread(sender.port))
    if state.size == _IN_A_FILE:
        await eventually(scene.gateway.content_files)
    if state.hold:
        await scene.around.gates.wait_until_reached(state.hold)
    if state.hold and state.is_stopped:
        await _let_the_downstream_answer(scene)


async def _let_the_downstream_answer(scene: Scene) -> None:
    """Its 250 is on the way to a worker that cannot read it."""
    scene.stop_worker()
    scene.around.gates.shut("end answered")
    scene.around.gates.open("end")
    await scene.around.gates.wait_until_reached("end answered")
