"""What a milter said to one step, read packet by packet and judged as strictly as Postfix does."""

import enum
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.fakes.milter_protocol import (
    Answer,
    Command,
    Modification,
    Negotiated,
    ProtocolError,
    ReplaceBody,
    SMTPReply,
    Steps,
    modification,
)


class Decision(enum.Enum):
    """What a step led to."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    DISCARD = "discard"
    SKIP = "no more steps of this kind"
    SHUTDOWN = "shutdown"
    CONN_FAIL = "connection failure"
    NO_REPLY = "no reply was to be given"
    NOT_SENT = "the step was not sent"


SESSION = (Command.CONNECT, Command.HELO)
_DECISIONS = {
    Answer.CONTINUE: Decision.CONTINUE,
    Answer.ACCEPT: Decision.ACCEPT,
    Answer.REJECT: Decision.REJECT,
    Answer.TEMPFAIL: Decision.TEMPFAIL,
    Answer.DISCARD: Decision.DISCARD,
    Answer.SKIP: Decision.SKIP,
    Answer.SHUTDOWN: Decision.SHUTDOWN,
    Answer.CONN_FAIL: Decision.CONN_FAIL,
}
_GOES_ON = {Decision.CONTINUE, Decision.SKIP, Decision.NO_REPLY, Decision.NOT_SENT}
# What Postfix tells the client where the milter set no text.
_REPLIES = {
    Decision.REJECT: SMTPReply(550, "5.7.1", ("Command rejected",)),
    Decision.TEMPFAIL: SMTPReply(451, "4.7.1", ("Service unavailable - try again later",)),
    Decision.SHUTDOWN: SMTPReply(421, "4.7.0", ("Service unavailable",)),
    Decision.CONN_FAIL: SMTPReply(451, "4.7.1", ("Service unavailable - try again later",)),
}


@dataclass(frozen=True, kw_only=True)
class Response:
    """All that the milter said to one step.

    `set_reply` is the text it set, `modifications` are those of the end of a message, in order, and
    `progress` counts how often it asked for patience.
    """

    decision: Decision
    set_reply: SMTPReply | None = None
    modifications: tuple[Modification, ...] = ()
    progress: int = 0

    @property
    def reply(self) -> SMTPReply:
        """What the client hears; AssertionError where it hears nothing of the milter."""
        reply = self.set_reply or _REPLIES.get(self.decision)
        assert reply is not None, f"no reply of the milter's: {self.decision}"
        return reply

    @property
    def goes_on(self) -> bool:
        """Whether the next step may follow: continue, skip, no reply due, or nothing sent."""
        return self.decision in _GOES_ON

    @property
    def is_continue(self) -> bool:
        """Whether the milter said so; see `goes_on` for steps without a reply."""
        return self.decision is Decision.CONTINUE

    @property
    def is_accept(self) -> bool:
        return self.decision is Decision.ACCEPT

    @property
    def is_reject(self) -> bool:
        """For good, with a text set or without."""
        return self.decision is Decision.REJECT

    @property
    def is_tempfail(self) -> bool:
        """For now, with a text set or without."""
        return self.decision is Decision.TEMPFAIL

    @property
    def is_discard(self) -> bool:
        return self.decision is Decision.DISCARD

    @property
    def ends_session(self) -> bool:
        """Whether no step of any kind may follow on this connection, whatever the step was."""
        return self.decision in (Decision.SHUTDOWN, Decision.CONN_FAIL)


NOT_SENT = Response(decision=Decision.NOT_SENT)
NO_REPLY = Response(decision=Decision.NO_REPLY)


async def read_response(
    read: Callable[[], Awaitable[tuple[bytes, bytes]]], command: Command, negotiated: Negotiated
) -> Response:
    """The response to a step, from `read`, which gives one packet after the other.

    Raises ProtocolError for what was not negotiated or does not belong to this step.
    """
    said: list[Modification | None] = []
    while True:
        answer, data = _known(*await read())
        change = modification(answer, data, negotiated.actions)
        if change is not None and command is not Command.BODYEOB:
            raise ProtocolError(f"{answer} in answer to {command}")
        if change is None and answer is not Answer.PROGRESS:
            break
        said.append(change)
    _check_chunks(said)
    decision, reply = _decided(answer, data)
    _check(decision, command, negotiated.steps)
    changes = tuple(change for change in said if change is not None)
    return Response(decision=decision, set_reply=reply, modifications=changes, progress=said.count(None))


def _known(octet: bytes, data: bytes) -> tuple[Answer, bytes]:
    try:
        answer = Answer(octet)
    except ValueError as error:
        raise ProtocolError(f"an answer {octet!r}") from error
    if data and (answer in _DECISIONS or answer is Answer.PROGRESS):
        raise ProtocolError(f"{answer} with data {data!r}")
    return answer, data


def _decided(answer: Answer, data: bytes) -> tuple[Decision, SMTPReply | None]:
    if answer is not Answer.REPLYCODE:
        return _DECISIONS[answer], None
    reply = SMTPReply.of(data)
    return (Decision.REJECT if reply.code >= 500 else Decision.TEMPFAIL), reply


def _check(decision: Decision, command: Command, steps: Steps) -> None:
    if decision is Decision.SKIP and not steps & Steps.SKIP:
        raise ProtocolError("skip was not negotiated")
    if decision is Decision.DISCARD and command in SESSION:
        raise ProtocolError("there is no message yet that could be discarded")


def _check_chunks(said: Sequence[Modification | None]) -> None:
    """A body is replaced in one go: with Postfix anything between two chunks, even progress, ends it."""
    chunks = [number for number, each in enumerate(said) if isinstance(each, ReplaceBody)]
    if chunks and chunks[-1] - chunks[0] + 1 != len(chunks):
        raise ProtocolError("something came between the chunks of the body")
