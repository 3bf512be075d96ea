"""A configuration with plugins of its own, and no daemons."""

from pathlib import Path

import pytest

SUBJECT = '''"""Refuse a word in the subject."""

from policies import Evidence, Stage, Transaction, Verdict, policy, reject


@policy(at=Stage.END_OF_DATA)
def subject(tx: Transaction, evidence: Evidence, *, word: str = "friday") -> Verdict | None:
    """Reject where `word` stands in the subject."""
    return reject("bad-subject", detail=word) if word in (tx.message.header("Subject") or "") else None
'''

HELO = '''"""Defer clients that claim to be us."""

from policies import Evidence, Stage, Transaction, Verdict, policy, tempfail


@policy(at=Stage.HELO)
def helo(tx: Transaction, evidence: Evidence, *, ours: list[str] = ["mx.test"]) -> Verdict | None:
    return tempfail("bad-helo") if tx.session.helo_name in ours else None
'''

WEATHER = '''"""A source that is down when the message says so."""

from dataclasses import dataclass

from filters import Filter, FilterError, Finding
from policies import Evidence, Stage, Transaction, Verdict, policy, reject


@dataclass(frozen=True, slots=True)
class Weather(Finding):
    degrees: float = 0.0


class Thermometer(Filter):
    name = "thermometer"
    finds = Weather

    def __init__(self, *, place: str, offset: float = 0.0) -> None:
        self._offset = offset

    async def find(self, tx: Transaction) -> Weather:
        if tx.message.header("X-Down"):
            raise FilterError("no answer from the roof")
        return Weather(float(tx.message.header("X-Degrees") or 20.0) + self._offset)


@policy(at=Stage.END_OF_DATA, needs=[Weather])
def frost(tx: Transaction, evidence: Evidence, *, below: float = 0.0) -> Verdict | None:
    return reject("too-cold") if evidence[Weather].degrees < below else None
'''

CONFIG = """
[gateway]
hostname = "mx.test"
state_directory = "{state}"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["our.example"]
address = ["127.0.0.1:10025"]
[filters.thermometer]
place = "roof"
[policies]
directory = "plugins"
order = ["helo", "recipients", "subject", "frost"]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with sluicegate.toml and plugins/ in it, to work in."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for name, text in {"subject": SUBJECT, "helo": HELO, "weather": WEATHER}.items():
        (plugins / f"{name}.py").write_text(text)
    (tmp_path / "sluicegate.toml").write_text(CONFIG.format(state=tmp_path / "state"))
    return tmp_path
