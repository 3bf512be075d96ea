"""Profiles: other settings for some recipients (`[[profile]]`), resolved when the recipient is named.

What is asked and what may be asked are the same for everybody; a profile has policies with options of
its own over the same filters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.pipeline import Pipeline
from gateway.smtp.address import Path
from gateway.smtp.mailboxes import match_mailbox


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One `[[profile]]`, or the settings of everybody else, who are on no list.

    `overrides_early` is true where it changes a policy of a stage before RCPT: what those stages came
    to by the general settings is then judged again.
    """

    pipeline: Pipeline
    recipients: tuple[str, ...] = ()
    overrides_early: bool = False


@dataclass(frozen=True, slots=True)
class Profiles:
    """The general settings and the exceptions, in configured order."""

    general: Profile
    special: Sequence[Profile] = field(default=())

    def find(self, recipient: Path) -> tuple[Profile, str | None]:
        """The first profile that names the recipient, and the entry that does; else the general one."""
        for profile in self.special:
            entry = match_mailbox(profile.recipients, recipient)
            if entry is not None:
                return profile, entry
        return self.general, None
