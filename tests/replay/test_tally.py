"""The counts of a replay."""

from gateway.replay.tally import Tally
from policies.spam import spam
from policies.virus import virus
from tests.replay.judging import CLEAN, judge, record, setting, spam_report

SPAM = record(
    "rejected",
    "end-of-data",
    "spam-score",
    "spam",
    evidence={"SpamReport": spam_report(9.0), "VirusReport": {"signature": "Eicar"}},
)
UNSCANNED = record(evidence={"SpamReport": spam_report(1.0)})
ABORTED = record("aborted", "rcpt", "client-reset", None, "rcpt")


def test_each_record_is_counted_once():
    tally = Tally()
    lenient = setting(spam, reject_score=10.0)
    listed = [
        tally.add(replayed)
        for replayed in (
            judge(SPAM, spam),
            judge(SPAM, virus, spam),
            judge(SPAM, lenient),
            judge(record(), lenient),
            judge(UNSCANNED, virus),
            judge(UNSCANNED, setting(virus, False)),
            judge(ABORTED, spam),
        )
    ]
    assert listed == [False, False, True, False, True, False, False]
    assert (tally.records, tally.judged, tally.unchanged, tally.other_reasons) == (7, 6, 4, 1)
    assert (len(tally.flipped), tally.undetermined, tally.skipped.total()) == (1, 1, 1)
    assert dict(tally.doubts) == {("virus", "VirusReport: no filter was asked for it"): 2}
    [(then, now, verdicts)] = tally.flips
    assert (then.verdict, then.policy, now.verdict, verdicts) == (
        "rejected",
        "spam",
        "accepted",
        {"accepted"},
    )


def test_of_one_policy_only_what_it_decides_is_counted():
    for policy, flips, undetermined, of_others in (("spam", 1, 0, 1), ("virus", 0, 1, 1), ("other", 0, 0, 2)):
        tally = Tally(policy)
        tally.add(judge(SPAM))
        tally.add(judge(UNSCANNED, virus))
        tally.add(judge(record(evidence={"VirusReport": CLEAN}), virus))
        found = (len(tally.flipped), tally.undetermined, tally.of_others, tally.unchanged)
        assert found == (flips, undetermined, of_others, 1)
