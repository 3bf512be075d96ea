"""The envelope: reverse-path, forward-paths, and what ESMTP says about them (RFC 5321 section 2.3.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.smtp.address import Path


@dataclass(frozen=True, slots=True)
class Envelope:
    """`recipients` are the accepted forward-paths; `recipient` is the one in question at RCPT.

    `parameters` are MAIL's, by upper-case keyword; a keyword without value maps to `None`. In the same
    way `recipient_parameters` are those of the RCPT in question.
    """

    reverse_path: Path
    recipients: tuple[Path, ...] = ()
    recipient: Path | None = None
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    recipient_parameters: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def is_internationalized(self) -> bool:
        """Whether the client said that this message may need SMTPUTF8 all the way (RFC 6531)."""
        return "SMTPUTF8" in self.parameters
