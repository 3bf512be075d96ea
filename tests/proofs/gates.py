"""Places in another process where it stops until it is let go on.

A gate is two files in a directory that both processes know, so it survives whoever is killed: one
says that the gate is shut, the other that somebody stands before it.
"""

from pathlib import Path

from tests.waiting import eventually, soon

# Longer than any case holds a gate, shorter than the gateway's own deadlines.
_LONGEST = 30.0


class Gates:
    """All gates in one directory, by name. They are open until shut."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def shut(self, name: str) -> None:
        """From now on whoever comes there stops."""
        self._reached(name).unlink(missing_ok=True)
        self._shut(name).touch()

    def open_all(self) -> None:
        """Let everybody go on."""
        for file in self._directory.glob("*.shut"):
            file.unlink()

    async def wait_until_reached(self, name: str) -> None:
        """Return when somebody stands before a gate that is shut."""
        await eventually(self._reached(name).exists)

    def open(self, name: str) -> None:
        """Let those before this gate go on."""
        self._shut(name).unlink()

    def pass_through(self, name: str) -> None:
        """For the process with the gate: stop here while it is shut."""
        if self._shut(name).exists():
            self._reached(name).touch()
            soon(lambda: not self._shut(name).exists(), _LONGEST)

    def _shut(self, name: str) -> Path:
        return self._directory / f"{name}.shut"

    def _reached(self, name: str) -> Path:
        return self._directory / f"{name}.reached"
