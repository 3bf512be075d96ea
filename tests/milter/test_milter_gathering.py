"""A message as it comes in: of a header section without end only so much is kept as shows that."""

from pathlib import Path

import pytest

from gateway.milter.gathering import Gathering
from gateway.smtp.header import MAX_FIELDS
from gateway.smtp.message import MAX_HEADER_SECTION
from tests.milter.lone import service


@pytest.fixture
def gathering(tmp_path: Path) -> Gathering:
    return Gathering(service(tmp_path), keeps_blanks=True)


@pytest.mark.parametrize(("more", "is_cut"), [(0, False), (1, True), (5000, True)])
def test_no_more_fields_are_kept_than_anybody_looks_at(gathering: Gathering, more: int, is_cut: bool):
    for _ in range(MAX_FIELDS + more):
        gathering.header("A", b"")
    submission = gathering.submit(None)
    assert (len(submission.fields), submission.is_cut) == (MAX_FIELDS, is_cut)
    assert submission.spool.size == len(b"A:\r\n") * MAX_FIELDS + 2
    submission.close()


@pytest.mark.parametrize(("last", "is_cut"), [(23, False), (24, True), (MAX_HEADER_SECTION, True)])
def test_no_more_octets_are_kept_than_anybody_looks_at(gathering: Gathering, last: int, is_cut: bool):
    size = MAX_HEADER_SECTION // 16
    for _ in range(15):
        gathering.header("A" * 10, b"x" * (size - 10))
    gathering.header("A" * 10, b"x" * (size - 10 - 24))
    gathering.header("B", b"x" * last)
    # Nothing slips in behind what was too much.
    gathering.header("C", b"")
    submission = gathering.submit(None)
    kept = [(name[0], len(name) + len(value)) for name, value in submission.fields]
    assert kept[:16] == [("A", size)] * 15 + [("A", size - 24)]
    assert sum(octets for _, octets in kept) <= MAX_HEADER_SECTION
    assert (len(kept), submission.is_cut) == (16 if is_cut else 17, True)
    submission.close()


def test_of_what_is_cut_no_body_is_wanted(gathering: Gathering):
    gathering.header("A", b"x" * MAX_HEADER_SECTION)
    gathering.end_of_header()
    assert not gathering.body(b"x")
    gathering.drop()
