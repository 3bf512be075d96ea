"""What a worker says about itself, read by somebody who does not trust it."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import bulletin
from gateway.bulletin import Bulletin
from policies import Stage
from policies.testing import session, transaction


@pytest.fixture
def board() -> int:
    return bulletin.share_memory()


def test_nothing_is_under_way_in_fresh_memory(board: int):
    assert bulletin.read(board) is None
    assert bulletin.read_traceback(board) == ""


def test_who_judges_whose_mail(board: int):
    client = session(client_address="203.0.113.7", helo_name="c.example", authenticated="anna")
    recipients = tuple(f"r{number}@our.example" for number in range(100))
    tx = transaction(session=client, reverse_path="s@a.example", recipients=recipients)
    Bulletin(board).post("spam", tx)
    notice = bulletin.read(board)
    assert notice is not None
    assert (notice.policy, notice.seconds >= 0) == ("spam", True)
    subject = notice.subject
    assert subject is not None
    assert (subject.stage, subject.reverse_path) == ("end-of-data", "s@a.example")
    assert (subject.client.address, subject.client.helo) == ("203.0.113.7", "c.example")
    assert subject.recipients == list(recipients[:20])


def test_at_rcpt_it_is_the_recipient_in_question(board: int):
    tx = transaction(stage=Stage.RCPT, recipients=("a@our.example",), recipient="b@our.example")
    Bulletin(board).post("greylist", tx)
    assert bulletin.read(board).subject.recipients == ["b@our.example"]


def test_before_mail_there_is_a_client_only(board: int):
    Bulletin(board).post("blocklist", transaction(stage=Stage.CONNECT))
    subject = bulletin.read(board).subject
    assert (subject.stage, subject.reverse_path, subject.recipients) == ("connect", None, [])


def test_the_next_one_takes_the_place_of_the_last_one(board: int):
    writer = Bulletin(board)
    writer.post("a-policy-with-a-long-name", transaction(reverse_path="long@a.example"))
    writer.clear()
    assert bulletin.read(board) is None
    writer.post("spam", transaction(reverse_path=""))
    notice = bulletin.read(board)
    assert (notice.policy, notice.subject.reverse_path) == ("spam", "<>")
    bulletin.clean(board)
    assert bulletin.read(board) is None


@pytest.mark.parametrize("helo", ["\udcff", "x" * 100_000])
def test_what_cannot_be_said_leaves_the_policy(board: int, helo: str):
    Bulletin(board).post("spam", transaction(session=session(helo_name=helo)))
    notice = bulletin.read(board)
    assert (notice.policy, notice.subject) == ("spam", None)


def test_a_long_name_is_cut(board: int):
    Bulletin(board).post("n" * 1000, transaction())
    assert bulletin.read(board).policy == "n" * 192


@given(st.binary(max_size=400))
def test_nonsense_is_read_without_harm(octets: bytes):
    board = bulletin.share_memory()
    try:
        Bulletin(board).post("spam", transaction())
        os.pwrite(board, b"\1" + octets, 0)
        bulletin.read(board)
    finally:
        os.close(board)
