"""What must hold whoever was killed, wherever: asserted after every case of the kill matrix.

- No loss: whom the client heard 250 for, the downstream has, whole, for exactly these recipients; and
  it has it at that very moment, not only later.
- No false 250, which is the same read backwards: a message that was refused or cut off is there only
  if it was sent again.
- A duplicate only where RFC 1047 leaves no way: the downstream had the end of data, and the client
  no 250.
- Nothing half, and nothing in it that any receiver could take for another end of data.
- Every reply with a reference has its record. A transaction has exactly one record of what became
  of it, unless its worker was killed before it could say anything: then it has none.
- Nothing is left: no content on disk, no process too many.
"""

from dataclasses import dataclass

from gateway.journal.record import Record
from tests.client import Answer
from tests.proofs.mailbox import Mailbox
from tests.proofs.scene import Scene, Victim
from tests.proofs.states import Sender, State, Step
from tests.proofs.visitor import Letter
from tests.waiting import eventually

_OUR_FIELDS = ("Received:", "X-Spam-", "X-Virus-Scanned:", "X-Sluicegate-", "\t")


@dataclass(frozen=True)
class Outcome:
    """One case: what the first attempt came to, and how many copies there are in the end."""

    state: State
    victim: Victim
    first: Answer | None
    copies: int

    def __str__(self) -> str:
        said = str(self.first.code) if self.first else "-"
        return f"{said:>3}, {self.copies}"


def assert_delivered(mailbox: Mailbox, letter: Letter) -> int:
    """The copies of a message, of which there is at least one, and each is whole."""
    copies = mailbox.messages(letter.identity)
    assert copies, f"{letter.identity} was accepted and is lost"
    for copy in copies:
        assert copy.digest == letter.digest, f"{letter.identity} is not what was sent"
        assert [_path(line) for line in copy.recipients] == list(letter.recipients)
        assert _path(copy.mail) == letter.sender
        assert all(line.startswith(_OUR_FIELDS) for line in copy.block.splitlines()), copy.block
    return len(copies)


def assert_copies(outcome: Outcome) -> None:
    """One, or two where nobody can tell."""
    is_told = outcome.first is not None and outcome.first.code == 250
    most = 2 if outcome.state.is_ambiguous and not is_told else 1
    assert 1 <= outcome.copies <= most, f"{outcome.copies} copies"


async def assert_recorded(scene: Scene, sender: Sender, victim: Victim, state: State) -> None:
    """The first attempt has the records it must have, and no others."""
    due = _records_due(sender, victim)
    await eventually(lambda: len(scene.gateway.records_of(sender.source)) >= due)
    records = scene.gateway.records_of(sender.source)
    assert len(records) == due, [(record.verdict, record.reason) for record in records]
    for record in records:
        _assert_fits(record, sender, victim, state)


async def assert_nothing_left(scene: Scene) -> None:
    """No content on disk, one worker, one journal; nothing suspicious at the downstream."""
    await eventually(lambda: not scene.gateway.content_files())
    await eventually(lambda: len(scene.gateway.children()) == 2)
    assert not scene.around.mailbox.suspicions()
    assert not [line for line in scene.around.mailbox.commands() if not line.startswith("MAIL FROM:<")]
    assert "Traceback" not in scene.gateway.log


def _records_due(sender: Sender, victim: Victim) -> int:
    is_answered = sender.answer is not None and (sender.answer.code == 250 or sender.answer.reference)
    if is_answered:
        return 1
    return 1 if sender.at >= Step.MAIL and victim is not Victim.WORKER else 0


def _assert_fits(record: Record, sender: Sender, victim: Victim, state: State) -> None:
    answer = sender.answer
    if answer is not None and answer.code == 250:
        assert record.verdict == "accepted"
    elif answer is not None and answer.reference:
        assert record.reference == answer.reference
        assert record.verdict == ("rejected" if answer.code >= 500 else "tempfailed")
        assert record.verdict == "tempfailed", "a fault of ours or of the downstream is for a while"
    elif victim.is_client and state.is_ambiguous:
        assert record.verdict == "accepted"
        # A worker that was stopped cannot know that the client went before it spoke.
        assert state.is_stopped or "may send the message again" in record.detail
    else:
        assert record.verdict == "aborted"


def _path(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]
