"""A short soak with a fixed seed; `make proofs` has the long one."""

from pathlib import Path

from tests.proofs.soak import KINDS, Plan, Soak


async def test_sessions_of_every_kind_break_no_promise(tmp_path: Path) -> None:
    result = await Soak(Plan(sessions=300, seed=7, reloads=1, kills=1), tmp_path).run()
    assert not result.violations
    assert len(result.ledger.visits) == 300
    assert len({visit.kind for visit in result.ledger.visits}) > len(KINDS) * 0.7
    assert result.messages > 150
