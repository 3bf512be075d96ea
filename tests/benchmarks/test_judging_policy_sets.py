"""Judging by what scanners said once: sets of policies, and ways to weigh."""

from pathlib import Path

import pytest

from benchmarks.archive import Sample, read
from benchmarks.judging import SETS, RspamdReports, SpamReports, agreements, half_of, judge
from benchmarks.scans import Cache, Scan
from filters.evidence import RspamdReport, SpamReport

# Folder, SpamAssassin's score, Rspamd's score and action.
MESSAGES = [
    ("easy-ham-1", 0.0, 3.0, "no action"),
    ("easy-ham-1", 5.5, 3.0, "no action"),
    ("hard-ham-1", 1.0, 16.0, "reject"),
    ("spam-1", 9.0, 7.0, "add header"),
    ("spam-1", 7.0, 9.0, "add header"),
    ("spam-1", 5.0, 10.0, "add header"),
    ("spam-1", 4.0, 9.0, "add header"),
    ("spam-1", 0.0, 4.0, "greylist"),
]


@pytest.fixture
def judged(tmp_path: Path) -> list[tuple[Sample, Scan]]:
    known = {}
    for number, (folder, spamassassin, rspamd, action) in enumerate(MESSAGES):
        file = tmp_path / folder / f"{number}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"Subject: {number}\n\nHello\n")
        known[f"{folder}/{number}"] = SpamReport(spamassassin), RspamdReport(rspamd, action=action)
    return [
        (sample, Scan(sample.name, sample.transaction().message.digest, *known[sample.name]))
        for sample in read(tmp_path)
    ]


@pytest.mark.parametrize(
    ("name", "spam", "ham", "wrongly"),
    [
        ("spam, SpamAssassin alone", (1, 2), (0, 1), []),
        ("spam, Rspamd alone", (0, 4), (1, 0), ["hard-ham-1/2"]),
        ("spam, both", (2, 1), (0, 1), []),
    ],
)
async def test_a_set_is_judged_by_what_its_scanners_said(
    judged: list[tuple[Sample, Scan]],
    name: str,
    spam: tuple[int, int],
    ham: tuple[int, int],
    wrongly: list[str],
):
    tally = await judge(next(each for each in SETS if each.name == name), judged)
    counted = tally.outcomes
    assert (counted["spam", "refused"], counted["spam", "marked"]) == spam
    hams = [(counted[kind, "refused"], counted[kind, "marked"]) for kind in ("easy ham", "hard ham")]
    assert (sum(each[0] for each in hams), sum(each[1] for each in hams)) == ham
    assert tally.wrongly == wrongly
    assert tally.messages == {"easy ham": 2, "hard ham": 1, "spam": 5}


async def test_what_a_scanner_would_not_look_at_passes(tmp_path: Path):
    (tmp_path / "spam").mkdir()
    (tmp_path / "spam" / "1").write_text("Subject: x\n\n")
    (sample,) = read(tmp_path)
    for policies in (each for each in SETS if each.name.startswith("spam,")):
        tally = await judge(policies, [(sample, Scan(sample.name, sample.transaction().message.digest))])
        assert tally.outcomes == {("spam", "passed"): 1}


def test_each_value_says_what_it_refuses_and_how_near_ham_comes(judged: list[tuple[Sample, Scan]]):
    found = {each.rspamd_score: each for each in agreements(judged)}
    assert (found[float("inf")].refused_spam, found[float("inf")].spamassassin_of_ham) == (0.2, 0.0)
    assert (found[9.0].refused_spam, found[9.0].spamassassin_of_ham) == (0.6, 1.0)
    assert (found[10.0].refused_spam, found[10.0].rspamd_of_ham) == (0.4, 3.0)


def test_a_message_is_always_in_the_same_half(judged: list[tuple[Sample, Scan]]):
    assert {half_of(scan) for _, scan in judged} == {0, 1}
    assert all(half_of(scan) == half_of(Scan("another", scan.digest)) for _, scan in judged)


def test_what_was_found_is_read_again(tmp_path: Path, judged: list[tuple[Sample, Scan]]):
    cache = Cache(tmp_path / "cache")
    for _, scan in judged:
        cache.add(scan)
    again = Cache(tmp_path / "cache")
    assert [again.get(sample) for sample, _ in judged] == [scan for _, scan in judged]


def test_what_was_found_in_another_content_is_not_believed(tmp_path: Path, judged: list[tuple[Sample, Scan]]):
    cache = Cache(tmp_path / "cache")
    sample, scan = judged[0]
    cache.add(scan)
    sample.file.write_text("Subject: another\n\nHello\n")
    assert cache.get(sample) is None


def test_each_scanner_stands_for_its_filter():
    assert (SpamReports.name, SpamReports.finds) == ("spamassassin", SpamReport)
    assert (RspamdReports.name, RspamdReports.finds) == ("rspamd", RspamdReport)
