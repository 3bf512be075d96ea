"""The fake daemons as processes of their own: `python -m tests.proofs.fakes KIND DIRECTORY PORT...`.

KIND is `mta`, `scanners` (clamd and spamd, so two ports) or `names`. Nobody gives orders to them
while they run. What the MTA shall do to a message stands in its reverse-path, what a scanner shall
do in the message itself, so the order is where the harm is done, and the same whenever it is sent
again. They end when their standard input does.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from filters.testing.server import Behaviour, Conversation, Fake, FakeServer, hang, mute
from tests.fakes import clamd, mta, spamd
from tests.fakes.mta import Act, FakeMTA, Talk
from tests.fakes.nameserver import FakeNameserver, Mischief
from tests.proofs.gates import Gates
from tests.proofs.mailbox import Mailbox

LISTED, SLUGGISH, BROKEN = 9, 8, 7
ZONE = "list.test"
_SLOWNESS = 0.2
_FATE = re.compile(r"<([a-z0-9]+)-at-([a-z]+)\.")
_ORDER = re.compile(rb"^X-(Clamd|Spamd): ([a-z]+)\r$", re.MULTILINE)
_REFUSED_MIDWAY = "<552-at-content."
_VERBS = {"EHLO", "HELO", "XFORWARD", "RCPT", "DATA", "RSET", "NOOP", "QUIT"}


# The MTA


def _slowly(talk: Talk) -> None:
    # No wait for anything: slowness is what was ordered.
    time.sleep(_SLOWNESS)
    _usual(talk)


def _taken_without_a_word(talk: Talk) -> None:
    talk.take()
    raise mta.Hangup


def _usual(talk: Talk) -> None:
    if talk.attempt is not None and talk.attempt.has_ended:
        talk.accept()
    elif talk.attempt is None or not talk.attempt.raw:
        mta.correctly(talk)


FATES: Mapping[str, Act] = {
    "451": mta.say("451 4.2.0 Mailbox busy"),
    "550": mta.say("550 5.7.1 Not here"),
    "552": mta.say("552 5.3.4 Too big"),
    "421": mta.say_and_drop("421 4.3.2 Going down"),
    "drop": mta.drop,
    "reset": mta.reset,
    "slow": _slowly,
    "nonsense": mta.say_and_drop(b"\xff\xfe no reply\r\n"),
    "eightbit": lambda talk: talk.accept("250 2.0.0 r\xe9ussi"),
    "lines": lambda talk: talk.accept("250-2.0.0 one\r\n250 2.0.0 two"),
    "surplus": lambda talk: talk.accept("250 2.0.0 Ok\r\n250 2.0.0 and another"),
    "taken": _taken_without_a_word,
}


class JournallingMTA(FakeMTA):
    """Takes what it is not told to refuse, and forgets it once it is in the mailbox."""

    def __init__(self, directory: Path) -> None:
        stages = ("MAIL", "RCPT", "DATA", "content", "end")
        super().__init__({**{stage: self._at(stage.lower()) for stage in stages}, "idle": _forget})
        self.mailbox = Mailbox(directory / "mailbox")
        self._gates = Gates(directory)

    def note(self, line: str) -> None:
        verb = line.partition(" ")[0]
        if verb not in _VERBS:
            self.mailbox.note_command(line)

    def keep(self, attempt: mta.Attempt) -> None:
        self.mailbox.keep(attempt)
        attempt.accepted, attempt.raw = True, b""
        self.messages.append(attempt)
        self._gates.pass_through("taken")

    def _at(self, stage: str) -> Act:
        def act(talk: Talk) -> None:
            if stage == "end" and talk.attempt is not None:
                self.mailbox.note(talk.attempt)
            self._gates.pass_through(stage)
            mail = talk.commands[-1] if talk.attempt is None else talk.attempt.mail
            fate = _FATE.search(mail)
            if fate is not None and fate[2] == stage:
                FATES[fate[1]](talk)
            elif fate is not None and fate[0] == _REFUSED_MIDWAY and stage == "end":
                pass  # it has been answered
            elif stage == "rcpt" and "nobody" in talk.commands[-1]:
                talk.say("550 5.1.1 No such user here")
            else:
                _usual(talk)
            self._gates.pass_through(f"{stage} answered")

        return act

    def _converse(self, conversation: Conversation) -> None:
        talk = Talk(conversation, self)
        talk.serve()
        if talk.attempt is not None and talk.attempt.raw:
            self.mailbox.note(talk.attempt)
            talk.attempt.raw = b""
        _forget(talk)


def _forget(talk: Talk) -> None:
    """The fake's own memory is no part of the proof."""
    talk.conversation.received.clear()


# The scanners


def _scanner(gates: Gates, name: str, read: Callable[[Conversation], str], judge: Behaviour) -> Behaviour:
    def behave(talk: Conversation) -> None:
        read(talk)
        orders = {who.lower(): what for who, what in _ORDER.findall(talk.content[:4096])}
        gates.pass_through(name)
        _MISCHIEF.get(orders.get(name.encode(), b""), judge)(talk)
        talk.received.clear()
        talk.content = b""

    return behave


_MISCHIEF: Mapping[bytes, Behaviour] = {
    b"close": mute,
    b"hang": hang,
    b"reset": lambda talk: talk.reset(),
    b"garbage": lambda talk: talk.say(b"\x00\xffnothing that anybody says\r\n\r\n"),
    b"half": lambda talk: talk.say(b"stream: O"),
}


def _clamd_judges(talk: Conversation) -> None:
    is_found = clamd.EICAR in talk.content
    talk.say(f"stream: {clamd.EICAR_SIGNATURE} FOUND\0".encode() if is_found else b"stream: OK\0")


def _spamd_judges(talk: Conversation) -> None:
    is_spam = spamd.GTUBE in talk.content
    talk.say(spamd.symbols(1000.0, ["GTUBE"]) if is_spam else spamd.symbols(0.0, ["NO_RECEIVED"]))


# The name server


class _Zone(dict[str, list[str] | Mischief]):
    """A list that knows clients by the second octet of their address."""

    def get(self, name: str, otherwise: object = None) -> list[str] | Mischief | None:  # type: ignore[override]
        octets = name.split(".")
        known: dict[str, list[str] | Mischief] = {
            str(LISTED): ["127.0.0.2"],
            str(SLUGGISH): Mischief.SILENT,
            str(BROKEN): Mischief.SERVFAIL,
        }
        return known.get(octets[2])


def _fakes(kind: str, directory: Path) -> Iterator[Fake]:
    gates = Gates(directory)
    if kind == "mta":
        yield JournallingMTA(directory)
    elif kind == "names":
        yield FakeNameserver(_Zone())
    else:
        yield FakeServer(_scanner(gates, "clamd", clamd.read_request, _clamd_judges))
        yield FakeServer(_scanner(gates, "spamd", spamd.read_request, _spamd_judges))


def main() -> None:
    """Serve until standard input ends."""
    kind, directory, *ports = sys.argv[1:]
    for fake, port in zip(_fakes(kind, Path(directory)), ports, strict=True):
        if isinstance(fake, FakeServer):
            fake.port = int(port)
        fake.start()
        print(fake.address, flush=True)
    sys.stdin.read()
    # Conversations may hang on order; the threads go with the process.


if __name__ == "__main__":
    main()
