"""One MTA connection as libmilter's threads know it: step by step, never two at a time.

Octets are taken apart and gathered here, in those threads. The event loop is asked only where somebody has
to be: at a stage with policies, for each recipient, and at the end of the message.
"""

from collections.abc import Coroutine, Sequence
from dataclasses import replace

import structlog

from gateway.hearing import malformed, overloaded, too_big
from gateway.milter.changes import Field
from gateway.milter.conversation import Beginning, Conversation
from gateway.milter.crossing import Crossing, NoAnswer
from gateway.milter.macros import Macros, says_esmtp, session_of, with_security
from gateway.milter.transaction import GO_ON, Answer, Submission
from gateway.recorder import JOURNAL_FULL
from gateway.service import Service
from gateway.smtp.command import CommandError, parse_mail, parse_rcpt, parse_size
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage
from gateway.spool import Spool
from policies.verdict import Verdict

# Octets that an MTA sends of a body at once.
_CHUNK = 65_535
_TRY_AGAIN = Answer(Reply.of(451, "4.3.0", "Temporary failure, please try again later"))
_LEAVING = Answer(Reply.of(421, "4.3.2", "Shutting down, please try again later"))

_log = structlog.get_logger()


class Link:
    """Each step returns what the MTA is to hear; a step that it takes no reply to is answered at the next.

    `keeps_blanks` says that the MTA gives header values with the white space before them.
    """

    def __init__(self, service: Service, crossing: Crossing, keeps_blanks: bool) -> None:
        self.is_leaving = False
        self.keeps_blanks = keeps_blanks
        self._service = service
        self._crossing = crossing
        self._conversation = Conversation(service)
        self._session: Session | None = None
        self._failure: Answer | None = None
        self._is_judged_early = False
        self._is_in_transaction = False
        self._beginning: Beginning | None = None
        self._fields: list[Field] = []
        self._spool: Spool | None = None
        self._message: Message | None = None

    @property
    def is_in_transaction(self) -> bool:
        """Whether MAIL was answered with yes, and what it began is not over."""
        return self._is_in_transaction

    # Who the client is

    def connect(self, name: str, address: tuple[str, int] | None, macros: Macros) -> Answer:
        """A client has connected to the MTA."""
        self._session = session_of(self._service.listener, name, address, macros)
        return self._judge(Stage.CONNECT, self._conversation.connect(self._session))

    def helo(self, name: str, macros: Macros) -> Answer:
        """HELO or EHLO; which of them is not told."""
        self._session = replace(with_security(self._known, macros), helo_name=name)
        return self._judge(Stage.HELO, self._conversation.helo(self._session))

    def _judge(self, stage: Stage, judging: Coroutine[object, object, Answer]) -> Answer:
        """Ask where the answer is to be spoken now; else have it found out meanwhile, if anybody cares."""
        if self._service.pipeline.has_policies(stage):
            self._is_judged_early = True
            if self._service.speak == "connect":
                return self._crossing.ask(judging)
            self._crossing.tell(judging)
        else:
            judging.close()
        return GO_ON

    # The transaction

    def mail(self, arguments: Sequence[bytes], macros: Macros) -> Answer:
        """MAIL: the reverse-path, and the parameters behind it."""
        if self.is_leaving:
            return _LEAVING
        if self._session is None:
            # What went wrong at connect was not said there.
            return self._failure or _TRY_AGAIN
        if self._session.helo_name is None:
            # Who says nothing is judged by that: no stage is skipped.
            greeted = self.helo("", macros)
            if greeted is not GO_ON:
                return greeted
        if self._service.recorder.is_full:
            return Answer(JOURNAL_FULL)
        self._failure = None
        session = with_security(self._session, macros)
        address, *parameters = arguments
        argument = b" ".join([self._path(_bare(address)), *parameters])
        try:
            reverse_path, declared = parse_mail(b"FROM:" + argument)
            size = parse_size(declared)
        except CommandError as error:
            return self._refuse(Stage.MAIL, session, None, malformed(error, argument))
        envelope = Envelope(reverse_path, parameters=declared)
        session = replace(session, esmtp=says_esmtp(declared, macros))
        if size is not None and size > self._service.max_message_size:
            return self._refuse(Stage.MAIL, session, envelope, too_big(f"SIZE={size}"))
        self._session = session
        return self._begin((session, envelope))

    def _begin(self, beginning: Beginning) -> Answer:
        self._beginning = None
        answer = GO_ON
        if self._service.speak == "connect":
            answer = self._crossing.ask(self._conversation.mail(beginning))
        elif self._service.pipeline.has_policies(Stage.MAIL):
            self._crossing.tell(self._conversation.mail(beginning))
        else:
            # Nobody has anything to find out before the first recipient is named.
            self._beginning = beginning
        self._is_in_transaction = answer is GO_ON
        return answer

    def rcpt(self, arguments: Sequence[bytes]) -> Answer:
        """RCPT: the forward-path, and the parameters behind it."""
        if self._failure is not None:
            return self._failure
        address = _bare(arguments[0])
        argument = b" ".join([self._path(address), *arguments[1:]])
        try:
            recipient, parameters = parse_rcpt(b"TO:" + argument)
        except CommandError as error:
            envelope = self._beginning[1] if self._beginning else None
            return self._refuse(Stage.RCPT, self._known, envelope, malformed(error, argument))
        beginning, self._beginning = self._beginning, None
        # What the MTA knows is what the client gave, but for a source route.
        known_as = str(recipient) if b"@" in address else address.decode("utf-8")
        return self._crossing.ask(self._conversation.rcpt(recipient, parameters, known_as, beginning))

    def _path(self, address: bytes) -> bytes:
        """The path as a client would have to give it: in brackets, and with the domain that the MTA adds."""
        mta = self._known.mta
        if address and b"@" not in address and mta is not None and mta.name:
            address += b"@" + mta.name.encode("utf-8")
        return b"<%s>" % address

    def _refuse(self, stage: Stage, session: Session, envelope: Envelope | None, verdict: Verdict) -> Answer:
        return self._crossing.ask(self._conversation.refuse(stage, session, envelope, verdict))

    def data(self) -> Answer:
        """DATA: whether there is room for the message."""
        answer = self._failure or self._room()
        # Some MTAs say nothing more of a transaction whose DATA was refused.
        self._is_in_transaction = answer is GO_ON
        return answer

    def _room(self) -> Answer:
        if self._service.recorder.is_full:
            return Answer(JOURNAL_FULL)
        full = self._service.store.refusal()
        if not full:
            return GO_ON
        return self._crossing.ask(self._conversation.refuse_content(overloaded("4.3.1", full)))

    # The message

    def header(self, name: str, value: bytes) -> None:
        """One header field, folds as LF."""
        value = value.replace(b"\n", b"\r\n")
        self._fields.append((name, value if self.keeps_blanks else b" " + value))

    def end_of_header(self) -> None:
        """The header section is complete: the message begins with what the MTA has of it."""
        self._spool = Spool(self._service.store, self._service.max_message_size)
        section = b"".join(b"%s:%s\r\n" % (name.encode("utf-8"), value) for name, value in self._fields)
        self._spool.append(section + b"\r\n")
        self._message = Message(self._spool)

    def body(self, chunk: bytes) -> bool:
        """A piece of the body; false if no more of it is of use."""
        spool = self._open_spool()
        spool.append(chunk)
        if spool.overflowed or spool.failure or self._failure:
            return False
        # Where this is all there is, there is nothing to be spared.
        return spool.size < _CHUNK or not self._is_refused_by_header

    def _open_spool(self) -> Spool:
        if self._spool is None:
            # Without a header there may be no end of one either.
            self.end_of_header()
        assert self._spool is not None
        return self._spool

    @property
    def _is_refused_by_header(self) -> bool:
        message = self._message
        return message is not None and (message.is_all_header or message.is_looping(self._service.hostname))

    def end_of_message(self, macros: Macros) -> Answer:
        """The decisive answer."""
        spool = self._open_spool()
        assert self._message is not None
        submission = Submission(self._message, spool, tuple(self._fields), macros("i"))
        # From here on the content is the conversation's, to be closed there.
        self._spool = None
        try:
            if self._failure is not None:
                spool.close()
                return self._failure
            return self._crossing.ask(self._conversation.end_of_message(submission))
        finally:
            self._forget()

    # Ends

    def abort(self) -> None:
        """The MTA gave the transaction up, if there is one: it says so between two as well."""
        is_known = self._is_in_transaction and self._beginning is None
        self._forget()
        if is_known:
            self._crossing.tell(self._conversation.abort())

    def close(self) -> None:
        """The MTA's connection is over; of a transaction that was open it has said so before."""
        self._forget()
        if self._is_judged_early:
            self._crossing.tell(self._conversation.close())

    def fail(self, error: Exception) -> Answer:
        """A step broke, or nobody answered in time: nothing of the transaction is to pass."""
        self._failure = _TRY_AGAIN
        if self._session is None:
            _log.error("a connection of an MTA cannot be understood", exc_info=error)
            return _TRY_AGAIN
        try:
            self._crossing.tell(self._conversation.fail(self._session, error))
        except NoAnswer:
            _log.error("a failure has no record", exc_info=error)
        return _TRY_AGAIN

    def _forget(self) -> None:
        if self._spool is not None:
            self._spool.close()
        self._spool = self._message = self._beginning = None
        self._fields = []
        self._is_in_transaction = False

    @property
    def _known(self) -> Session:
        if self._session is None:
            raise ValueError("the MTA did not say who is connected")
        return self._session


def _bare(address: bytes) -> bytes:
    return address.removeprefix(b"<").removesuffix(b">")
