"""What pytest has for the tests of policies: `judge` and `eml`.

pytest loads it wherever Sluicegate is installed, also for projects that have nothing to do with it. So
it imports nothing of ours before one of the two is asked for, and adds nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from filters.evidence import Finding
    from gateway.smtp.message import Message
    from gateway.smtp.transaction import Transaction
    from policies import Policy, Verdict
    from policies.testing import Judge, ReadMessage


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Asks a policy as the gateway would: `judge(POLICY, TRANSACTION, FINDING..., OPTION=VALUE...)`.

    Options are written as in the configuration file; a file that they name is looked for beside the
    test. The test fails where the gateway would not have loaded or asked the policy, or not have taken
    its verdict.
    """
    directory = request.path.parent

    def ask(policy: Policy, tx: Transaction, /, *findings: Finding, **options: object) -> Verdict | None:
        return _judge(directory, policy, tx, findings, options)

    return ask


@pytest.fixture
def eml(request: pytest.FixtureRequest) -> ReadMessage:
    """Reads a message from a file beside the test: `eml("invoice.eml")`."""
    from gateway.smtp.content import normalized
    from policies.testing import message

    def read(name: str, /) -> Message:
        return message(content=normalized((request.path.parent / name).read_bytes()))

    return read


def _judge(
    directory: Path,
    policy: Policy,
    tx: Transaction,
    findings: tuple[Finding, ...],
    options: dict[str, object],
) -> Verdict | None:
    from filters.evidence import Evidence
    from gateway.assembly import read_policy_options
    from gateway.config import ConfigError
    from gateway.plugins.review import review

    for problem in review(policy):
        pytest.fail(problem, pytrace=False)
    _check_question(policy, tx, findings)
    try:
        values = read_policy_options(policy, options, directory)
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)
    verdict = policy(tx, Evidence(findings), **values)
    _check_verdict(policy, verdict)
    return verdict


def _check_question(policy: Policy, tx: Transaction, findings: tuple[Finding, ...]) -> None:
    """Fail where the gateway would not have put this question to this policy."""
    if tx.stage is not policy.stage:
        what = f"is asked at {policy.stage.value}, and this transaction is at {tx.stage.value}"
        pytest.fail(f"policy {policy.name!r} {what}", pytrace=False)
    given = {type(finding): finding for finding in findings}
    for kind in policy.needs:
        if kind not in given:
            what = f"needs {kind.__name__}, and without it the gateway does not ask"
            pytest.fail(f"policy {policy.name!r} {what}", pytrace=False)
    for kind in given:
        if kind not in (*policy.needs, *policy.wants):
            what = f"is not given {kind.__name__}, which is not among its needs"
            pytest.fail(f"policy {policy.name!r} {what}", pytrace=False)


def _check_verdict(policy: Policy, verdict: object) -> None:
    """Fail for what the gateway would have called a `policy-error`."""
    from policies import Verdict

    if verdict is None:
        return
    if not isinstance(verdict, Verdict):
        pytest.fail(f"policy {policy.name!r} returned {verdict!r}, not a verdict or None", pytrace=False)
    try:
        verdict.check_stage(policy.stage)
    except ValueError as error:
        pytest.fail(f"policy {policy.name!r}: {error}", pytrace=False)
