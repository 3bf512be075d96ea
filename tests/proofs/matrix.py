"""The kill matrix: every state of a session, and everybody who can be killed in it."""

import asyncio
import itertools

from tests.proofs.promises import (
    Outcome,
    assert_copies,
    assert_delivered,
    assert_nothing_left,
    assert_recorded,
)
from tests.proofs.scene import Scene, Victim
from tests.proofs.states import STATES, Sender, State, Step, reach
from tests.proofs.visitor import Letter, letter
from tests.waiting import eventually

# How soon after a kill a message must get through, in seconds; most of it is for a loaded machine.
LIVELY = 20.0
_RECIPIENTS = ("u1@our.example", "u2@our.example")
_LINE = b"..a line that begins with dots, and has eight bits: \xc3\xa9\r\n"

_numbers = itertools.count(1)


Case = tuple[Victim, State]

# Whose death costs a new process and little else come first.
_GENTLE = (Victim.CLIENT_FIN, Victim.CLIENT_RST, Victim.SCANNERS, Victim.DOWNSTREAM)
_HARD = (Victim.JOURNAL, Victim.WORKER, Victim.SUPERVISOR)


def all_cases() -> list[Case]:
    """The whole matrix."""
    return list(itertools.product((*_GENTLE, *_HARD), STATES))


def some_cases() -> list[Case]:
    """Something of every row and column: all that are quick, and of the rest one in each state."""
    turns = {state: number % len(_HARD) for number, state in enumerate(STATES)}
    return [(who, state) for who, state in all_cases() if who in _GENTLE or _HARD[turns[state]] is who]


async def run_case(scene: Scene, victim: Victim, state: State) -> Outcome:
    """Kill somebody in some state, have the sender do what senders do, and assert what must hold."""
    await scene.prepare()
    first = _sender(scene, _letter(state.size), tls=state.tls)
    try:
        await reach(state, first, scene)
        await _kill(scene, victim, state, first)
    finally:
        scene.around.gates.open_all()
        scene.let_worker_go_on()
    answer = await first.finish() if not victim.is_client else None
    _assert_truthful(scene, first)
    await scene.recover(victim)
    await assert_recorded(scene, first, victim, state)
    if first.answer is None or first.answer.code != 250:
        await _deliver(scene, first.letter)
    await _deliver(scene, _letter())
    outcome = Outcome(
        state, victim, answer or first.answer, assert_delivered(scene.around.mailbox, first.letter)
    )
    assert_copies(outcome)
    await assert_nothing_left(scene)
    return outcome


async def _kill(scene: Scene, victim: Victim, state: State, sender: Sender) -> None:
    if not victim.is_client:
        await scene.kill(victim)
        return
    sender.vanish(reset=victim is Victim.CLIENT_RST)
    await sender.leave()
    if sender.at >= Step.MAIL and sender.answer is None and not state.is_ambiguous:
        # The gateway must have noticed before the gates open, or it is another case.
        await eventually(lambda: scene.gateway.records_of(sender.source))


def _assert_truthful(scene: Scene, sender: Sender) -> None:
    """Whatever was said 250 to is delivered already, before anything is started again."""
    if sender.answer is not None and sender.answer.code == 250:
        assert_delivered(scene.around.mailbox, sender.letter)


async def _deliver(scene: Scene, message: Letter) -> None:
    """Send it again and again, as a sender's queue does, until it is taken."""
    async with asyncio.timeout(LIVELY):
        while (answer := await _sender(scene, message).finish()) is None or answer.code != 250:
            assert answer is None or answer.code < 500, f"refused for good: {answer}"
            await asyncio.sleep(0.02)


def _sender(scene: Scene, message: Letter, *, tls: bool = False) -> Sender:
    number = next(_numbers)
    return Sender(scene, message, f"127.40.{number >> 8}.{number & 255}", tls=tls)


def _letter(size: int = 200) -> Letter:
    identity = f"<{next(_numbers)}.kill@a.example>"
    body = _LINE * (size // len(_LINE) + 1)
    return letter(identity, body, *_RECIPIENTS)
