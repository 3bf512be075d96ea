"""What a policy's failure means: by its section, and by a profile's where that says something else."""

import asyncio
from pathlib import Path

import pytest

from gateway.assembly import Assembly, assemble
from gateway.casefile import CaseFile
from gateway.config import parse
from gateway.smtp.address import parse_address
from policies.testing import transaction

POLICY = """
from policies import Stage, policy

@policy(at=Stage.END_OF_DATA)
def breaks(tx, evidence, *, word: str = ""):
    raise ValueError(word)
"""
CONFIGURATION = """
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["our.example"]
address = ["127.0.0.1:10025"]
[policies]
directory = "{directory}"
order = ["breaks"]
[policies.breaks]
on_error = "reject"
[[profile]]
recipients = ["lax@our.example"]
[profile.policies.breaks]
on_error = "accept"
[[profile]]
recipients = ["other@our.example"]
[profile.policies.breaks]
word = "x"
"""


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    (tmp_path / "breaks.py").write_text(POLICY)
    return assemble(parse(tmp_path / "x.toml", CONFIGURATION.format(directory=tmp_path).encode()))


@pytest.mark.parametrize(("recipient", "decision"), [("any", "reject"), ("other", "reject"), ("lax", None)])
async def test_a_profile_may_say_what_a_failure_means(assembly: Assembly, recipient: str, decision):
    profile, _ = assembly.profiles.find(parse_address(f"{recipient}@our.example"))
    case = CaseFile()
    await profile.pipeline.judge(transaction(), case, asyncio.get_running_loop().time() + 10)
    assert (case.deferral and case.deferral.verdict.decision.value) == decision
    assert set(case.unscanned) == (set() if decision else {"breaks"})
