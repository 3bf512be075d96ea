"""What is seen in a policy's code before it is asked: certain mistakes, and nothing else."""

import importlib
from pathlib import Path

import pytest

from gateway.modules import Modules
from gateway.plugins import POLICIES, PluginError, discover
from gateway.review import can_discard, review
from gateway.sources import Source
from policies import Policy

HEAD = """\
import policies
from policies import *
from helper import WEIGHT, drop


@policy(at=Stage.{stage}, needs=[{needs}], wants=[{wants}])
def mine(tx, evidence, *, limit: int = 1):
"""
HELPER = """\
from policies import discard

WEIGHT = 1


def drop(reason):
    return inner(reason)


def inner(reason):
    return [discard(reason) for _ in range(1)][0]
"""
LINE = HEAD.count("\n") + 1


def sources(
    body: str, stage: str = "END_OF_DATA", needs: str = "SpamReport", wants: str = ""
) -> list[Source]:
    text = HEAD.format(stage=stage, needs=needs, wants=wants)
    text += "".join(f"    {line}\n" for line in body.splitlines())
    return [Source("/nowhere/helper.py", HELPER.encode()), Source("/nowhere/mine.py", text.encode())]


def loaded(body: str, **settings: str) -> Policy:
    return discover(sources(body, **settings)).policies["mine"].load()


@pytest.mark.parametrize(
    ("body", "settings", "problem"),
    [
        ("evidence[VirusReport]", {}, "asks for VirusReport, which is not among its needs"),
        ("evidence[policies.VirusReport]", {}, "asks for VirusReport, which is not among its needs"),
        ("evidence.get(VirusReport)", {}, "asks for VirusReport, which is not among its wants"),
        ("[evidence[Listings] for _ in ()]", {}, "asks for Listings, which is not among its needs"),
        (
            "tx.message.size",
            {"stage": "RCPT"},
            "reads tx.message, which is there at end-of-data and not at rcpt",
        ),
        (
            "if limit:\n    return tx.message.header('X')",
            {"stage": "CONNECT"},
            "reads tx.message, which is there at end-of-data and not at connect",
        ),
        (
            "tx.envelope.reverse_path",
            {"stage": "HELO"},
            "reads tx.envelope, which is there at mail or rcpt or end-of-data and not at helo",
        ),
        (
            "tx.envelope.recipient.domain",
            {},
            "reads tx.envelope.recipient, which is there at rcpt and not at end-of-data",
        ),
        ("tx.massage", {}, "no transaction has 'massage'; did you mean 'message'?"),
        ("tx.envelope.sender", {}, "no envelope has 'sender'; there are is_internationalized, "),
        ("tx.session.helo", {}, "no session has 'helo'; did you mean 'helo_name'?"),
        ("def inner():\n    return tx.massage", {}, "no transaction has 'massage'; did you mean 'message'?"),
    ],
)
def test_a_certain_mistake_is_refused_with_its_line(body: str, settings: dict[str, str], problem: str):
    with pytest.raises(PluginError) as refusal:
        loaded(body, **settings)
    line = LINE + body.count("\n")
    assert str(refusal.value).startswith(f"/nowhere/mine.py:{line}: policy 'mine': {problem}")


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        ("evidence[SpamReport]", {}),
        ("evidence.get(VirusReport)", {"wants": "VirusReport"}),
        ("evidence[VirusReport]", {"wants": "VirusReport"}),
        ("evidence.get(kind) if (kind := VirusReport) else 0", {}),
        ("VirusReport in evidence", {}),
        ("for VirusReport in ():\n    evidence[VirusReport]", {}),
        ("evidence = {}\nevidence[VirusReport]", {}),
        ("other = {}\nother[VirusReport]", {}),
        ("tx.message.size if tx.message else 0", {"stage": "RCPT"}),
        ("assert tx.envelope is not None\ntx.envelope.reverse_path", {"stage": "HELO"}),
        ("tx = limit\ntx.massage", {}),
        ("(lambda tx: tx.massage)", {}),
        ("[tx.massage for tx in ()]", {}),
        ("tx.envelope.recipient", {}),
        ("tx.envelope.recipient.domain", {"stage": "RCPT", "needs": "Route"}),
        ("tx.message.header('X').lower()", {}),
        ("tx.session.tls.version", {"stage": "CONNECT", "needs": "Listings"}),
    ],
)
def test_of_what_is_not_certain_nothing_is_said(body: str, settings: dict[str, str]):
    assert isinstance(loaded(body, **settings), Policy)


def test_all_mistakes_are_found_in_the_order_of_lines():
    module = Modules(sources("tx.massage\nevidence[VirusReport]\ntx.session.x"))
    module.install()
    mine = module.load(sources("tx.massage\nevidence[VirusReport]\ntx.session.x")[1]).mine
    lines = [problem.partition(": ")[0] for problem in review(mine)]
    assert lines == [f"/nowhere/mine.py:{LINE + number}" for number in range(3)]


def test_what_is_installed_is_reviewed_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "far_away.py").write_text(
        "from policies import Stage, policy\n@policy(at=Stage.MAIL)\n"
        "def far(tx, evidence):\n    return tx.message.size\n"
    )
    info = tmp_path / "far_away-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{POLICIES}]\nfar = far_away:far\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(PluginError, match=r"far_away\.py:4: policy 'far': reads tx\.message"):
        discover().policies["far"].load()


def test_a_function_without_source_is_not_reviewed():
    namespace: dict[str, Policy] = {}
    text = "from policies import *\n@policy(at=Stage.MAIL)\ndef mine(tx, evidence): return tx.massage\n"
    exec(text, namespace)
    assert list(review(namespace["mine"])) == []


# Who can discard


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return None", False),
        ("return reject('x')", False),
        ("return discard('x')", True),
        ("return policies.discard('x')", True),
        ("return drop('x')", True),
        ("return (lambda: discard('x'))()", True),
        ("return discarded", False),
        ("'discard'", False),
    ],
)
def test_who_can_discard(body: str, expected: bool):
    assert can_discard(loaded(body)) is expected


def test_no_policy_that_is_built_in_can_discard_or_is_wrong():
    for found in discover().policies.values():
        assert not can_discard(found.load())
        assert list(review(found.load())) == []
