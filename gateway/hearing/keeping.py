"""The copy of a message that policies want kept, under the reference the message goes by."""

import contextlib
from collections.abc import Iterable

import structlog

from gateway.casefile import CaseFile, Judgement
from gateway.quarantine.store import CannotKeep, Quarantine, entry_for
from gateway.recorder import Event
from gateway.smtp.address import Path
from policies.verdict import Decision

_log = structlog.get_logger()


class Keeping:
    """Whether a message, or a copy of it, is kept is said by the case file and the judgement."""

    def __init__(self, quarantine: Quarantine, case: CaseFile, reference: str) -> None:
        self._quarantine = quarantine
        self._case = case
        self._reference = reference

    @property
    def is_copy_wanted(self) -> bool:
        """Whether a policy wants one kept of what goes on, is refused or is thrown away."""
        return bool(self._case.copies)

    async def keep(
        self,
        event: Event,
        judgement: Judgement | None,
        recipients: Iterable[Path],
        content: Iterable[bytes],
    ) -> None:
        """Put it into the quarantine; `recipients` are whom it would have reached. Raises CannotKeep."""
        entry = entry_for(event, self._reference, judgement, recipients)
        await self._quarantine.keep(entry, content)

    def is_refusal_kept(self, refusal: Judgement) -> bool:
        """Whether a copy is wanted of what is refused for good; what is only put off comes again."""
        return self.is_copy_wanted and refusal.verdict.decision is Decision.REJECT

    async def keep_refused(
        self,
        event: Event,
        judgement: Judgement,
        recipients: Iterable[Path],
        content: Iterable[bytes],
    ) -> None:
        """Keep the copy of what all are refused, if it can be: it is refused all the same."""
        try:
            await self.keep(event, judgement, recipients, content)
        except CannotKeep as error:
            _log.error("no copy of a refused message", reference=self._reference, error=str(error))

    def forget_copy(self) -> None:
        """The message comes again, and so would its copy."""
        if self.is_copy_wanted:
            with contextlib.suppress(OSError):  # one copy too many harms nobody
                self.forget()

    def forget(self) -> None:
        """Nothing of this message stays. Raises OSError."""
        self._quarantine.delete(self._reference)
