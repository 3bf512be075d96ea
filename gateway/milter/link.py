"""One MTA connection as libmilter's threads know it: step by step, never two at a time.

Octets are taken apart and gathered here, in those threads. The event loop is asked only where somebody has
to be: at a stage with policies, for each recipient, and at the end of the message.
"""

from collections.abc import Coroutine, Sequence
from dataclasses import replace

import structlog

from gateway.hearing.refusals import malformed, overloaded, too_big
from gateway.hearing.service import Service
from gateway.milter.conversation import Beginning, Conversation
from gateway.milter.crossing import Crossing, NoAnswer
from gateway.milter.gathering import Gathering
from gateway.milter.macros import Macros, address_meant, says_esmtp, session_of, with_security, without_route
from gateway.milter.transaction import GO_ON, Answer
from gateway.recorder import JOURNAL_FULL
from gateway.smtp.command import CommandError, parse_mail, parse_rcpt, parse_size
from gateway.smtp.envelope import Envelope
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage
from policies.verdict import Verdict

_TRY_AGAIN = Answer(Reply.of(451, "4.3.0", "Temporary failure, please try again later"))
_LEAVING = Answer(Reply.of(421, "4.3.2", "Shutting down, please try again later"))

_log = structlog.get_logger()


class Link:
    """Each step returns what the MTA is to hear; a step that it takes no reply to is answered at the next.

    `keeps_blanks` says that the MTA gives header values with the white space before them.
    """

    def __init__(self, service: Service, crossing: Crossing, keeps_blanks: bool) -> None:
        self.is_leaving = False
        # Set while a step is carried out, up to its last word.
        self.is_answering = False
        self.keeps_blanks = keeps_blanks
        self._service = service
        self._crossing = crossing
        self._conversation = Conversation(service)
        self._session: Session | None = None
        self._failure: Answer | None = None
        self._is_judged_early = False
        self._is_in_transaction = False
        self._beginning: Beginning | None = None
        self._gathering: Gathering | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing has begun that is to come to an end."""
        return not (self._is_in_transaction or self.is_answering)

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
        argument = self._argument(arguments, macros("{mail_addr}"))
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

    def rcpt(self, arguments: Sequence[bytes], macros: Macros) -> Answer:
        """RCPT: the forward-path, and the parameters behind it."""
        if self._failure is not None:
            return self._failure
        argument = self._argument(arguments, macros("{rcpt_addr}"))
        try:
            recipient, parameters = parse_rcpt(b"TO:" + argument)
        except CommandError as error:
            envelope = self._beginning[1] if self._beginning else None
            return self._refuse(Stage.RCPT, self._known, envelope, malformed(error, argument))
        beginning, self._beginning = self._beginning, None
        known_as = without_route(_bare(arguments[0])).decode("utf-8")
        return self._crossing.ask(self._conversation.rcpt(recipient, parameters, known_as, beginning))

    def _argument(self, arguments: Sequence[bytes], known_as: str | None) -> bytes:
        """What stands behind MAIL FROM or RCPT TO, the path as the MTA takes it."""
        address, *parameters = arguments
        return b" ".join([b"<%s>" % address_meant(_bare(address), known_as, self._known.mta), *parameters])

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

    @property
    def _gathered(self) -> Gathering:
        if self._gathering is None:
            self._gathering = Gathering(self._service, self.keeps_blanks)
        return self._gathering

    def header(self, name: str, value: bytes) -> None:
        """One header field, folds as LF."""
        self._gathered.header(name, value)

    def end_of_header(self) -> None:
        """The header section is complete."""
        self._gathered.end_of_header()

    def body(self, chunk: bytes) -> bool:
        """A piece of the body; false if no more of it is of use."""
        return self._gathered.body(chunk) and self._failure is None

    def end_of_message(self, macros: Macros) -> Answer:
        """The decisive answer."""
        if self._failure is not None:
            self._forget()
            return self._failure
        # From here on the content is the conversation's, to be closed on the loop.
        submission = self._gathered.submit(macros("i"))
        self._gathering = None
        self._forget()
        try:
            return self._crossing.ask(self._conversation.end_of_message(submission))
        except NoAnswer:
            # Whether the loop has come to it nobody knows.
            self._crossing.tell(self._conversation.let_go(submission))
            raise

    # Ends

    def abort(self) -> None:
        """The MTA gave the transaction up, if there is one: it says so between two as well."""
        is_known = self._is_in_transaction and self._beginning is None
        self._forget()
        if is_known:
            self._crossing.tell(self._conversation.abort())

    def close(self) -> None:
        """The MTA's connection is over, and so is a transaction that it has not given up before."""
        self.abort()
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
        """Nothing of the transaction is open any more."""
        if self._gathering is not None:
            self._gathering.drop()
        self._gathering = self._beginning = None
        self._is_in_transaction = False

    @property
    def _known(self) -> Session:
        if self._session is None:
            raise ValueError("the MTA did not say who is connected")
        return self._session


def _bare(address: bytes) -> bytes:
    return address.removeprefix(b"<").removesuffix(b">")
