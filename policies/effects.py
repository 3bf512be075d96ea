"""What a verdict has done to a message that is not refused, one class for each kind of change.

Plain values that check themselves when they are built, so that a slip in a policy is a
`policy-error` and never a forged header field or a recipient that is none.
"""

import re
from dataclasses import dataclass

from gateway.smtp.address import Path

_FIELD_NAME = re.compile(r"[!-9;-~]+")
_FIELD_VALUE = re.compile(r"[ -~\t]*")


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A field on top of the message. `value` is one line of printable ASCII."""

    name: str
    value: str

    def __post_init__(self) -> None:
        if not _FIELD_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a header field name")
        if not _FIELD_VALUE.fullmatch(self.value):
            raise ValueError(f"value of {self.name} is not one line of printable ASCII")


@dataclass(frozen=True, slots=True)
class SubjectPrefix:
    """Words before what the Subject field says, and a blank between them. Up to 60 characters."""

    prefix: str

    def __post_init__(self) -> None:
        if not self.prefix.strip() or not self.prefix.isprintable() or len(self.prefix) > 60:
            raise ValueError(f"subject prefix {self.prefix!r} is not 1 to 60 printable characters")


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy in quarantine, while the message itself goes on; `reason` is why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """Another forward-path instead of the recipient in question or, at the end of data, of all."""

    address: Path


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """One more forward-path."""

    address: Path


Effect = HeaderField | SubjectPrefix | Copy | Redirect | AddRecipient
