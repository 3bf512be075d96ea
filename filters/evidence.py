"""Evidence: what filters found, keyed by what kind of finding it is.

A policy asks for `evidence[SpamReport]`, not for SpamAssassin, so it survives a change of scanner
and mypy knows the fields. Failure is evidence, too: a filter that could not answer leaves an
`Unavailable`, one that would not look leaves a `Skipped`, and neither is ever mistaken for "clean".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class Finding:
    """Base of everything a filter can find. Subclasses are frozen dataclasses of plain values."""


@dataclass(frozen=True, slots=True)
class SpamReport(Finding):
    """A content scanner's opinion: points, the scanner's own threshold, the rules that matched."""

    score: float
    threshold: float = 5.0
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RspamdReport(Finding):
    """Rspamd's opinion: points, its threshold for "reject", the action it would take, what matched.

    `action` is one of "no action", "greylist", "add header", "rewrite subject", "soft reject", "reject", or
    one of the operator's own. `rules` are the names of symbols, the weightiest first.
    """

    score: float
    threshold: float = 15.0
    action: str = "no action"
    rules: tuple[str, ...] = ()

    @property
    def is_suspicious(self) -> bool:
        """Whether Rspamd would have the message marked, or refused."""
        return self.action in {"add header", "rewrite subject", "reject"} or self.score >= self.threshold


@dataclass(frozen=True, slots=True)
class VirusReport(Finding):
    """A virus scanner's answer: the signature that matched, or `None` for a scanned, clean message."""

    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Listings(Finding):
    """Where a client is listed: zone to the addresses the zone answered with, and the sum of weights."""

    total: float = 0.0
    zones: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route(Finding):
    """Whether the recipient's domain is relayed: the `domains` entry that matched it, or `None`."""

    domain: str | None = None


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """A file that a message brings along, or one within another: `a.zip/b/c.doc`.

    `declared_type` is what the message calls it, `None` for one from an archive; `true_type` the media
    type by content, or `None`. `digest` is SHA-256 in hexadecimal, `None` for a file that was not seen
    whole, whose `size` is then what its archive says. `depth` counts the files around it. `macros` are
    the names of telling functions in it, or just "macros".
    """

    name: str
    declared_type: str | None = None
    true_type: str | None = None
    size: int = 0
    digest: str | None = None
    depth: int = 0
    is_encrypted: bool = False
    is_archive: bool = False
    macros: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachments(Finding):
    """What a message brings along: files, those in archives included, links, and what is wrong.

    A file is followed by those it holds. `defects` are slugs; where a limit was reached, like
    "too-deep" or "time-out", there is more than `files` says.
    """

    files: tuple[AttachedFile, ...] = ()
    urls: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A filter was asked and did not answer as its protocol demands."""

    filter: str
    cause: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A filter would not look at this message, for example because of its size."""

    filter: str
    cause: str


Outcome = Finding | Unavailable | Skipped


class MissingEvidence(KeyError):
    """A policy asked for evidence that it did not declare in `needs`."""

    def __str__(self) -> str:
        return str(self.args[0])


F = TypeVar("F", bound=Finding)


class Evidence:
    """The findings a policy asked for, by type."""

    __slots__ = ("_findings",)

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        self._findings: dict[type[Finding], Finding] = {type(finding): finding for finding in findings}

    def __getitem__(self, kind: type[F]) -> F:
        finding = self._findings.get(kind)
        if not isinstance(finding, kind):
            raise MissingEvidence(f"{kind.__name__} is not among the policy's needs, or not there")
        return finding

    def get(self, kind: type[F]) -> F | None:
        """The finding, or `None` where nobody found it: what is in `wants` need not be there."""
        finding = self._findings.get(kind)
        return finding if isinstance(finding, kind) else None

    def __contains__(self, kind: type[Finding]) -> bool:
        return kind in self._findings
