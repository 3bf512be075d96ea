"""What the gateway's processes use, looked up in /proc every few seconds (proc(5))."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.proofs.daemons import Gateway


@dataclass(frozen=True)
class Sample:
    """One look at one process: MiB resident and MiB proportional, descriptors and threads."""

    progress: float
    resident: float
    proportional: float
    descriptors: int
    threads: int


@dataclass
class Samples:
    """All looks at all processes of a role, by process."""

    of: dict[int, list[Sample]] = field(default_factory=dict)
    roles: dict[int, str] = field(default_factory=dict)

    def look(self, gateway: Gateway, progress: float) -> None:
        """Sample whatever runs now."""
        for role in ("smtp", "journal"):
            for pid in gateway.children(role):
                self._add(pid, role, progress)
        self._add(gateway.pid, "supervisor", progress)

    def _add(self, pid: int, role: str, progress: float) -> None:
        sample = look_at(pid, progress)
        if sample is not None:
            self.roles[pid] = role
            self.of.setdefault(pid, []).append(sample)


def look_at(pid: int, progress: float = 0.0) -> Sample | None:
    """One sample, or None if the process is gone."""
    process = Path(f"/proc/{pid}")
    try:
        rollup = (process / "smaps_rollup").read_text()
        status = (process / "status").read_text()
        descriptors = len(list((process / "fd").iterdir()))
    except OSError:
        return None
    return Sample(
        progress, _mib(rollup, "Rss"), _mib(rollup, "Pss"), descriptors, int(_field(status, "Threads"))
    )


def _mib(text: str, name: str) -> float:
    return int(_field(text, name)) / 1024


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    assert found is not None
    return found[1]
