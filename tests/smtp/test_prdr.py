"""What is said after the end of data to a client that asked for a reply for each recipient."""

import pytest

from gateway.smtp.prdr import block
from gateway.smtp.reply import Reply

TAKEN = Reply.of(250, "2.0.0", "Ok: queued")
REFUSED = Reply.of(550, "5.7.1", "No")
OTHERWISE_REFUSED = Reply.of(550, "5.7.1", "No (ref 7K3F-Q2MD)")
DEFERRED = Reply.of(451, "4.7.1", "Later")


@pytest.mark.parametrize("reply", [TAKEN, REFUSED, DEFERRED])
def test_one_fate_is_one_reply(reply: Reply):
    assert list(block([reply] * 3)) == [reply]


@pytest.mark.parametrize(
    ("replies", "last_code"),
    [
        ([TAKEN, REFUSED], 250),
        ([DEFERRED, TAKEN], 250),
        ([DEFERRED, REFUSED], 450),
        ([REFUSED, OTHERWISE_REFUSED], 550),
    ],
)
def test_several_fates_are_a_block(replies: list[Reply], last_code: int):
    begin, *each, last = block(replies)
    assert (begin.code, begin.status) == (353, None)
    assert each == replies
    assert last.code == last_code
