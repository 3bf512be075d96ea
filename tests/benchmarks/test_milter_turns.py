"""Milters in turns: what counts of several rounds, whose CPU is whose, and who looks at the mail at all."""

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest
from rich.console import Console

from benchmarks.contestants import GTUBE, NOBODY, Arena, Contestant
from benchmarks.load import cpu_seconds
from benchmarks.milter import table
from benchmarks.quick_scanners import QuickClamd, QuickSpamd
from benchmarks.turns import Usage, check, median, ratio
from deploy.demo.daemons import EICAR, DaemonError
from tests.fakes.mta import FakeMTA


def usage(rate: float, milters: float = 1.0) -> Usage:
    return Usage(rate, milters=milters, scanners=2.0, postfix=3.0)


def rounds(*rates: float) -> list[Usage]:
    return [usage(rate) for rate in rates]


def rate(each: Usage) -> float:
    return each.rate


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        ([100], [200], 0.5),
        # Each beside its own round: the machine was slower in the second, for both.
        ([100, 10, 100], [200, 20, 200], 0.5),
        ([100, 10, 300], [200, 200, 200], 0.5),
        ([100, 300], [100, 100], 2.0),
        # What took nothing is nothing to compare with.
        ([100, 100], [0, 100], None),
    ],
)
def test_a_ratio_is_the_median_of_the_rounds(
    mine: Sequence[float], others: Sequence[float], expected: float | None
):
    assert ratio(rounds(*mine), rounds(*others), rate) == expected


def test_rounds_of_another_number_are_not_compared():
    with pytest.raises(ValueError, match="argument 2 is"):
        ratio(rounds(1, 2), rounds(1), rate)


def test_one_round_that_was_disturbed_does_not_count():
    assert median(rounds(100, 1, 101), rate) == 100


def test_all_processor_time_is_that_of_all_three():
    assert usage(1).together == 6.0


def test_a_table_has_a_row_for_each_with_the_rival_of_the_same_rounds():
    contestants = [
        Contestant(NOBODY, 1, []),
        Contestant("theirs", 2, [2]),
        Contestant("ours", 3, [3], beside="theirs"),
    ]
    done = {
        NOBODY: [usage(400, 0.0), usage(200, 0.0)],
        "theirs": [usage(200, 1.0), usage(100, 1.0)],
        "ours": [usage(100, 4.0), usage(50, 4.0)],
    }
    console = Console(width=1000, record=True, file=io.StringIO())
    console.print(table(contestants, done))
    lines = [line.split("│")[1:-1] for line in console.export_text().splitlines() if "/s" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        [NOBODY, "300/s", "1.00", "0.00 ms", "2.00 ms", "3.00 ms", "", "", ""],
        ["theirs", "150/s", "0.50", "1.00 ms", "2.00 ms", "3.00 ms", "", "", ""],
        ["ours", "75/s", "0.25", "4.00 ms", "2.00 ms", "3.00 ms", "0.50", "4.00", "1.50"],
    ]


# Computes for a tenth of a second of processor time in a child, waits for it, and says so.
_PARENT = """
import subprocess, sys
child = "import time\\nwhile time.process_time() < 0.1: pass"
subprocess.run([sys.executable, "-c", child], check=True)
print("over", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def group_whose_child_has_ended() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"over\n"
        yield parent.pid
        assert parent.stdin is not None
        parent.stdin.close()


def test_a_child_that_has_ended_counts(group_whose_child_has_ended: int):
    assert sum(cpu_seconds(group_whose_child_has_ended).values()) >= 0.1


@pytest.mark.parametrize("finds", ["virus", "spam"])
def test_who_does_not_look_at_the_mail_has_no_figures(finds: str):
    with FakeMTA() as mta:
        port = int(mta.address.rpartition(":")[2])
        check(Arena([Contestant("blind", port, [])], [], 0))
        with pytest.raises(DaemonError, match=f"blind is told 250 .* for a message: {finds}"):
            check(Arena([Contestant("blind", port, [], frozenset({finds}))], [], 0))


@pytest.mark.parametrize(
    ("content", "answer"), [(b"a" + EICAR, b"stream: quick FOUND"), (b"Hello", b"stream: OK")]
)
def test_the_quick_clamd_finds_its_string(content: bytes, answer: bytes):
    assert QuickClamd(EICAR).scan(content) == answer


@pytest.mark.parametrize(
    ("command", "content", "head", "body"),
    [
        ("SYMBOLS", GTUBE, "Spam: True ; 1000.0 / 5.0", b"GTUBE"),
        ("SYMBOLS", b"Hello", "Spam: False ; 0.0 / 5.0", b"none"),
        (
            "PROCESS",
            b"To: b\r\n\r\nHello",
            "Spam: False ; 0.0 / 5.0",
            b"X-Spam-Checker-Version: quick\r\nX-Spam-Status: No, score=0.0 required=5.0 tests=none\r\n"
            b"To: b\r\n\r\nHello",
        ),
    ],
)
def test_the_quick_spamd_gives_its_string_a_score(command: str, content: bytes, head: str, body: bytes):
    lines = f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(body)}\r\n{head}\r\n\r\n".encode()
    assert QuickSpamd(GTUBE).judge(command, content) == lines + body
