"""`blocklist`: the weights of all lists together against the operator's bound."""

import pytest

from policies import Listings, Stage
from policies.blocklist import blocklist
from policies.testing import Judge, session, transaction

CLIENT = transaction(stage=Stage.CONNECT, session=session(client_address="198.51.100.7"))
ZONES = {"zen.example.net": ("127.0.0.2", "127.0.0.4"), "bl.example.org": ("127.0.0.3",)}


@pytest.mark.parametrize(
    ("total", "options", "is_refused"),
    [
        (0.0, {}, False),
        (2.99, {}, False),
        (3.0, {}, True),
        (-4.0, {}, False),
        (1.0, {"reject_weight": 1.0}, True),
        (3.0, {"reject_weight": 3.1}, False),
    ],
)
def test_the_weight_decides(judge: Judge, total: float, options: dict[str, float], is_refused: bool):
    assert (judge(blocklist, CLIENT, Listings(total, ZONES), **options) is not None) is is_refused


def test_the_record_says_which_list_answered_what(judge: Judge):
    verdict = judge(blocklist, CLIENT, Listings(7.0, ZONES))
    assert verdict is not None
    assert verdict.reason == "dns-blocklisted"
    assert verdict.detail == "weight 7: zen.example.net=127.0.0.2,127.0.0.4 bl.example.org=127.0.0.3"
    assert str(verdict.reply) == "550 5.7.1 Refused: your address is on a block list"
