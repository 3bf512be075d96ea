"""How far a worker looks, as it is told on its command line, and what it found out, as it says it."""

from dataclasses import dataclass, field

# How a worker says that it can do nothing but compute.
CONFINED = "confined by seccomp"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds for one message. Sizes are octets; `memory` is the worker's whole address space."""

    max_unpacked: int
    max_ratio: int
    max_files: int
    max_depth: int
    memory: int


class LimitReachedError(Exception):
    """Nothing more of this message is looked at; the text is the defect."""


@dataclass(slots=True)
class File:
    """One file under way; the fields are those of `filters.evidence.AttachedFile`."""

    name: str
    declared_type: str | None
    depth: int
    true_type: str | None = None
    size: int = 0
    digest: str | None = None
    is_encrypted: bool = False
    is_archive: bool = False
    macros: dict[str, None] = field(default_factory=dict)
