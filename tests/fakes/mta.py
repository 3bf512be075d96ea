"""A downstream MTA that does what a test orders, and keeps every octet it was given.

Without orders it is a strict, correct one: it knows command order, offers PIPELINING, 8BITMIME,
SIZE and XFORWARD, understands XCLIENT, and takes everything; where it is told to offer AUTH, it knows
one user. An order is an `Act` for a stage (`banner`, a verb, a whole command line, `content`, `end`,
`idle`); a list of acts is used up one at a time, then the MTA is correct again. `content` is asked as
soon as there are `CONTENT_STEP` octets of content, `end` after the end of data, `idle` once a message
was answered. With `lmtp` it speaks LMTP, and `end` is asked once for each recipient.
"""

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from filters.testing.server import PATIENCE, Conversation, FakeServer

END = b"\r\n.\r\n"
CONTENT_STEP = 65_536
EXTENSIONS = (
    "PIPELINING",
    "SIZE 52428800",
    "8BITMIME",
    "ENHANCEDSTATUSCODES",
    "XFORWARD NAME ADDR PORT PROTO HELO SOURCE",
)

USER, PASSWORD = "anna", "open sesame"
# By mechanism: what a correct MTA asks, and what it wants to hear.
_CHALLENGES = {"PLAIN": ("",), "LOGIN": ("Username:", "Password:")}
_RIGHT = {"PLAIN": [f"\0{USER}\0{PASSWORD}"], "LOGIN": [USER, PASSWORD]}

# What any receiver, however lenient, could take for an end of data.
_ANY_END = re.compile(rb"(?:^|(?<=[\r\n]))\x00*\.[\x00\r]*[\r\n]")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class Hangup(Exception):
    """The MTA ends the conversation here."""


@dataclass
class Attempt:
    """One mail transaction as the MTA saw it.

    `raw` is everything behind the reply to DATA, `user` who had logged in.
    """

    mail: str
    user: str | None = None
    recipients: list[str] = field(default_factory=list)
    xforward: list[str] = field(default_factory=list)
    xclient: list[str] = field(default_factory=list)
    greeting: str = ""
    raw: bytes = b""
    has_ended: bool = False
    accepted: bool = False

    @property
    def content(self) -> bytes:
        """The message, dots unstuffed."""
        assert self.has_ended
        return (b"\r\n" + self.raw[:-3]).replace(b"\r\n.", b"\r\n")[2:]


Act = Callable[["Talk"], None]
Script = Mapping[str, Act | Sequence[Act]]


class Talk:
    """One connection. An act may `say`, read on, `raise Hangup`, or look at what came before."""

    def __init__(self, conversation: Conversation, mta: "FakeMTA") -> None:
        self.conversation = conversation
        self.commands: list[str] = []
        self.attempt: Attempt | None = None
        self.user: str | None = None
        self._mta = mta
        self._buffer = b""
        self._identity: list[str] = []
        self._impersonated: list[str] = []
        self._greeting = ""
        sock = conversation.socket
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, *replies: str | bytes) -> None:
        """Send replies in one segment."""
        octets = b"".join(r if isinstance(r, bytes) else r.encode("latin-1") + b"\r\n" for r in replies)
        self.conversation.say(octets)

    def serve(self) -> None:
        """From the banner to the end."""
        with contextlib.suppress(Hangup, EOFError):
            self._do("banner", lambda talk: talk.say("220 mta.test ESMTP"))
            while True:
                line = self._read_line()
                self.commands.append(line)
                self._mta.note(line)
                self._answer(line)

    def _answer(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        usual: Callable[[str], None] = getattr(self, f"_{verb.lower()}", self._unknown)
        stage = line if line in self._mta.script else verb
        self._do(stage, lambda _: usual(line))
        if verb == "QUIT":
            raise Hangup

    def _do(self, stage: str, usual: Act) -> None:
        (self._mta.order(stage) or usual)(self)

    # What a correct MTA does

    def _ehlo(self, line: str) -> None:
        self._greet(line, is_known=not self._mta.lmtp)

    def _lhlo(self, line: str) -> None:
        self._greet(line, is_known=self._mta.lmtp)

    def _greet(self, line: str, is_known: bool) -> None:
        if not is_known:
            self._unknown(line)
            return
        self._greeting = line
        lines = ["mta.test", *self._mta.extensions]
        self.say(*(f"250{' ' if n == len(lines) else '-'}{text}" for n, text in enumerate(lines, 1)))

    def _helo(self, line: str) -> None:
        if self._mta.lmtp:
            self._unknown(line)
            return
        self._greeting = line
        self.say("250 mta.test")

    def _xforward(self, line: str) -> None:
        self._identity.append(line)
        self.say("250 2.0.0 Ok")

    def _auth(self, line: str) -> None:
        mechanism, *said = line.split(" ")[1:]
        for challenge in _CHALLENGES[mechanism][len(said) :]:
            said.append(self.challenge(challenge))
            if said[-1] == "*":
                self.say("501 5.7.0 Authentication aborted")
                return
        if [base64.b64decode(each).decode() for each in said] == _RIGHT[mechanism]:
            self.user = USER
            self.say("235 2.7.0 Authentication successful")
        else:
            self.say("535 5.7.8 Error: authentication failed")

    def _xclient(self, line: str) -> None:
        # As after connect: who comes now has not greeted yet.
        self._impersonated = [line] if self._greeting else [*self._impersonated, line]
        self._greeting = ""
        self._identity = []
        self.say("220 mta.test ESMTP")

    def _mail(self, line: str) -> None:
        if not self._greeting:
            self.say("503 5.5.1 Error: send HELO/EHLO first")
            return
        if self.attempt is not None:
            self.say("503 5.5.1 Error: nested MAIL command")
            return
        self.attempt = Attempt(
            line,
            self.user,
            xforward=self._identity,
            xclient=self._impersonated,
            greeting=self._greeting,
        )
        self._identity = []
        self._mta.attempts.append(self.attempt)
        self.say("250 2.1.0 Ok")

    def _rcpt(self, line: str) -> None:
        if self.attempt is None:
            self.say("503 5.5.1 Error: need MAIL command")
            return
        self.attempt.recipients.append(line)
        self.say("250 2.1.5 Ok")

    def _data(self, line: str) -> None:
        if self.attempt is None or not self.attempt.recipients:
            self.say("554 5.5.1 Error: no valid recipients")
            return
        self.take_content("354 End data with <CR><LF>.<CR><LF>")

    def _rset(self, line: str) -> None:
        self.attempt = None
        self.say("250 2.0.0 Ok")

    def _noop(self, line: str) -> None:
        self.say("250 2.0.0 Ok")

    def _quit(self, line: str) -> None:
        self.say("221 2.0.0 Bye")

    def _unknown(self, line: str) -> None:
        self.say("502 5.5.2 Error: command not recognized")

    def challenge(self, text: str) -> str:
        """Go on with an AUTH exchange; the client's answer."""
        self.say(f"334 {base64.b64encode(text.encode()).decode()}")
        answer = self._read_line()
        self._mta.note(answer)
        return answer

    def take_content(self, go_ahead: str) -> None:
        """Ask for the content, read it to its end, answer."""
        self.say(go_ahead)
        self._read_content()
        assert self.attempt is not None
        for _ in self.attempt.recipients if self._mta.lmtp else [None]:
            self._do("end", lambda _: self.accept())
        self.attempt = None
        self._do("idle", lambda _: None)

    def accept(self, reply: str | None = None) -> None:
        """Take the message, and say so."""
        self.take()
        self.say(reply or f"250 2.0.0 Ok: queued as {len(self._mta.messages):X}")

    def take(self) -> None:
        """Take the message, and say nothing yet."""
        assert self.attempt is not None
        self._mta.keep(self.attempt)

    def _read_content(self) -> None:
        attempt = self.attempt
        assert attempt is not None
        # The CRLF of DATA is part of an end of data that follows at once.
        search_from, octets, asked = 0, bytearray(b"\r\n" + self._buffer), False
        self._buffer = b""
        while (end := octets.find(END, max(0, search_from - len(END)))) < 0:
            search_from = len(octets)
            attempt.raw = bytes(octets[2:])
            if len(attempt.raw) >= CONTENT_STEP and not asked:
                asked = True
                self._do("content", lambda _: None)
            octets += self._receive()
        attempt.raw = bytes(octets[2 : end + len(END)])
        attempt.has_ended = True
        self._buffer = bytes(octets[end + len(END) :])

    # Octets in

    def _read_line(self) -> str:
        while b"\n" not in self._buffer:
            self._buffer += self._receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        if self._buffer and "PIPELINING" not in self._mta.extensions:
            self._mta.complaints.append(f"not asked for yet: {self._buffer!r}")
        return line.removesuffix(b"\r").decode("latin-1")

    def _receive(self) -> bytes:
        octets = self.conversation.read()
        if not octets:
            # No client of an MTA has reason to close only its half.
            self.conversation.left.set()
            raise EOFError
        return octets

    def ignore(self) -> None:
        """Read until the peer leaves, whatever it says."""
        while True:
            self._receive()


# Acts


def say(*replies: str | bytes) -> Act:
    """Answer this; text gets its CRLF, bytes go as they are."""
    return lambda talk: talk.say(*replies)


def drop(talk: Talk) -> None:
    """Close without a word."""
    raise Hangup


def reset(talk: Talk) -> None:
    """Close with an RST."""
    talk.conversation.reset()
    raise Hangup


def hang(talk: Talk) -> None:
    """Read everything, say nothing any more."""
    talk.ignore()


def deaf(talk: Talk) -> None:
    """Read nothing any more, keep the connection."""
    talk.conversation.stopped.wait()
    raise Hangup


def say_and_drop(*replies: str | bytes) -> Act:
    """Answer this and close."""

    def act(talk: Talk) -> None:
        talk.say(*replies)
        raise Hangup

    return act


def say_and_finish(*replies: str | bytes) -> Act:
    """Answer this, say nothing more, and read on until the peer leaves, as a polite MTA closes."""

    def act(talk: Talk) -> None:
        talk.say(*replies)
        talk.conversation.socket.shutdown(socket.SHUT_WR)
        hang(talk)

    return act


def say_and_stop(*replies: str | bytes) -> Act:
    """Answer this and read nothing any more."""

    def act(talk: Talk) -> None:
        talk.say(*replies)
        deaf(talk)

    return act


def endless(line: bytes) -> Act:
    """Repeat this until nobody listens."""

    def act(talk: Talk) -> None:
        while not talk.conversation.left.is_set() and not talk.conversation.stopped.is_set():
            talk.say(line * 1000)
        raise Hangup

    return act


def correctly(talk: Talk) -> None:
    """What a correct MTA says to the command; for lists of acts."""
    line = talk.commands[-1]
    getattr(talk, f"_{line.partition(' ')[0].lower()}")(line)


def accept(reply: str) -> Act:
    """At `end`: take the message with these words."""
    return lambda talk: talk.accept(reply)


class Gate:
    """An act that waits until the test opens it, then does as told. `reached` is set on the way in."""

    def __init__(self, then: Act) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._then = then

    def __call__(self, talk: Talk) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE), "nobody opened the gate"
        self._then(talk)

    def open(self) -> None:
        """Go on."""
        self._open.set()


class FakeMTA(FakeServer):
    """The MTA. `attempts` has every MAIL, `messages` what was accepted, `commands` every line."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        extensions: Sequence[str] = EXTENSIONS,
        unix: str | None = None,
        lmtp: bool = False,
    ) -> None:
        super().__init__(self._converse, unix=unix)
        self.lmtp = lmtp
        self.script = {
            stage: list(acts) if isinstance(acts, Sequence) else acts
            for stage, acts in (script or {}).items()
        }
        self.extensions = tuple(extensions)
        self.attempts: list[Attempt] = []
        self.messages: list[Attempt] = []
        self.commands: list[str] = []
        self.complaints: list[str] = []
        self._lock = threading.Lock()

    def order(self, stage: str) -> Act | None:
        """What to do at this stage instead of the usual."""
        with self._lock:
            acts = self.script.get(stage)
            if isinstance(acts, list):
                return acts.pop(0) if acts else None
            return acts

    def note(self, line: str) -> None:
        """Remember a command."""
        with self._lock:
            self.commands.append(line)

    def keep(self, attempt: Attempt) -> None:
        """Remember a message: from here on it is delivered."""
        with self._lock:
            if not attempt.accepted:
                self.messages.append(attempt)
            attempt.accepted = True

    def heard(self, *verbs: str) -> list[str]:
        """The commands with these verbs, in order."""
        return [line for line in self.commands if line.partition(" ")[0].upper() in verbs]

    def suspicions(self) -> list[str]:
        """What a lenient receiver could misunderstand in any content, and what a strict one minds."""
        return [*self.complaints, *(each for attempt in self.attempts for each in suspicions(attempt))]

    def _converse(self, conversation: Conversation) -> None:
        Talk(conversation, self).serve()


def suspicions(attempt: Attempt) -> list[str]:
    """What a lenient receiver could misunderstand in one content, and what a strict one minds."""
    found = [f"bare {bare[0]!r} at {bare.start()}" for bare in _BARE.finditer(attempt.raw)]
    if not attempt.has_ended:
        # Cut anywhere; a CR at the very end is no bare one.
        return [each for each in found if not each.endswith(f"at {len(attempt.raw) - 1}")]
    ends = [end.end() for end in _ANY_END.finditer(attempt.raw)]
    if ends != [len(attempt.raw)]:
        # Two matches may share the final CRLF: CR and LF each end a line for somebody lenient.
        found += [f"another end of data at {end}" for end in ends if end < len(attempt.raw) - 1]
    return found
