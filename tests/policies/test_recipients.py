"""`recipients`: the rule that keeps this from being an open relay."""

import pytest

from policies import Route, Stage
from policies.recipients import recipients
from policies.testing import Judge, transaction


@pytest.mark.parametrize("domain", ["example.com", ".example.com", "*"])
def test_a_recipient_with_a_route_is_taken(judge: Judge, domain: str):
    assert judge(recipients, transaction(stage=Stage.RCPT), Route(domain)) is None


@pytest.mark.parametrize("recipient", ["nobody@victim.example", "nobody%victim.example@[127.0.0.1]"])
def test_one_without_is_refused_by_name(judge: Judge, recipient: str):
    verdict = judge(recipients, transaction(stage=Stage.RCPT, recipient=recipient), Route())
    assert verdict is not None
    assert verdict.reason == "relay-denied"
    assert verdict.detail == f"no [[relay]] entry for {recipient}"
    assert str(verdict.reply) == "550 5.7.1 Relaying to this recipient is not permitted"
