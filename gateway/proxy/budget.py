"""How much nonsense one client may talk before it is hung up on.

Errors without a delivered message in between are answered more and more slowly, then not at all; so
are commands that bring no mail forward. Whoever delivers mail starts afresh.
"""

from gateway.smtp.reply import Reply

MAX_ERRORS = 20
MAX_IDLE_COMMANDS = 100
# Errors that cost nothing, then the first delay in seconds, doubled with each further one up to the longest.
_FREE_ERRORS = 5
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 1.0

# Commands that a client needs few of.
_IDLE_VERBS = frozenset({"NOOP", "RSET", "VRFY", "EXPN", "HELP", "HELO", "EHLO", "STARTTLS", "AUTH"})

TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "Too many errors, closing the connection")
TOO_MANY_COMMANDS = Reply.of(421, "4.7.0", "Too many commands without mail, closing the connection")


class Budget:
    """One connection's account."""

    def __init__(self) -> None:
        self._errors = 0
        self._idle_commands = 0
        self._owes_delay = False

    @property
    def exhausted(self) -> Reply | None:
        """The last words to a client that has used up what it had."""
        if self._errors >= MAX_ERRORS:
            return TOO_MANY_ERRORS
        return TOO_MANY_COMMANDS if self._idle_commands >= MAX_IDLE_COMMANDS else None

    def take_delay(self) -> float:
        """Seconds to wait before the reply to an error is sent; 0 if there was none."""
        beyond = self._errors - _FREE_ERRORS if self._owes_delay else 0
        self._owes_delay = False
        return 0.0 if beyond <= 0 else min(_FIRST_DELAY * 2.0 ** (beyond - 1), _LONGEST_DELAY)

    def note_command(self, verb: str) -> None:
        """Count a command."""
        if verb in _IDLE_VERBS:
            self._idle_commands += 1

    def note_error(self) -> None:
        """Count a refusal of whatever kind."""
        self._errors += 1
        self._owes_delay = True

    def note_mail(self) -> None:
        """A message was delivered: forgive."""
        self._errors = self._idle_commands = 0
