"""How much nonsense one client may talk before it is hung up on.

Errors without a delivered message in between are answered more and more slowly, then not at all; so
are commands that bring no mail forward. Being put off is no error, and is ended only where somebody
provokes it without end. Whoever delivers mail starts afresh.
"""

from gateway.smtp.reply import Reply

MAX_ERRORS = 20
MAX_IDLE_COMMANDS = 100
# Several times the recipients that one transaction may have: each of them may be deferred, and those
# beyond the limit are (RFC 5321 section 4.5.3.1.10).
MAX_DEFERRALS = 5000
# Errors that cost nothing, then the first delay in seconds, doubled with each further one up to the longest.
_FREE_ERRORS = 5
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 1.0
# Being put off costs a turn of the event loop from then on, so that others are served in between.
_FREE_DEFERRALS, _DEFERRAL_DELAY = 100, 0.001

# Commands that a client needs few of.
_IDLE_VERBS = frozenset({"NOOP", "RSET", "VRFY", "EXPN", "HELP", "HELO", "EHLO", "STARTTLS", "AUTH"})

TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "Too many errors, closing the connection")
TOO_MANY_DEFERRALS = Reply.of(421, "4.7.0", "Too many temporary refusals, closing the connection")
TOO_MANY_COMMANDS = Reply.of(421, "4.7.0", "Too many commands without mail, closing the connection")


class Budget:
    """One connection's account."""

    __slots__ = ("_deferrals", "_delay", "_errors", "_idle_commands")

    def __init__(self) -> None:
        self._errors = 0
        self._deferrals = 0
        self._idle_commands = 0
        self._delay = 0.0

    @property
    def exhausted(self) -> Reply | None:
        """The last words to a client that has used up what it had."""
        if self._errors >= MAX_ERRORS:
            return TOO_MANY_ERRORS
        if self._deferrals >= MAX_DEFERRALS:
            return TOO_MANY_DEFERRALS
        return TOO_MANY_COMMANDS if self._idle_commands >= MAX_IDLE_COMMANDS else None

    def take_delay(self) -> float:
        """Seconds to wait before the last reply is sent; 0 if that was no refusal."""
        delay, self._delay = self._delay, 0.0
        return delay

    def note_command(self, verb: str) -> None:
        """Count a command."""
        if verb in _IDLE_VERBS:
            self.note_idleness()

    def note_idleness(self) -> None:
        """Count what brings no mail forward."""
        self._idle_commands += 1

    def note_reply(self, reply: Reply) -> None:
        """Count a refusal; other replies cost nothing."""
        if reply.is_permanent:
            self._errors += 1
            if self._errors > _FREE_ERRORS:
                self._delay = min(_FIRST_DELAY * 2.0 ** (self._errors - _FREE_ERRORS - 1), _LONGEST_DELAY)
        elif not reply.is_positive and reply.code >= 400:
            # Nobody's mistake: the sender shall come again, and not be hung up on for that.
            self._deferrals += 1
            if self._deferrals > _FREE_DEFERRALS:
                self._delay = _DEFERRAL_DELAY

    def note_mail(self) -> None:
        """A message was delivered: forgive."""
        self._delay = 0.0
        self._errors = self._deferrals = self._idle_commands = 0
