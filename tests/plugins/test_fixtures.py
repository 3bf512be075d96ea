"""The fixtures for the tests of policies: they ask as the gateway asks, and fail where it would refuse."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from policies import (
    Evidence,
    FileSet,
    Listings,
    SpamReport,
    Stage,
    Transaction,
    Verdict,
    VirusReport,
    discard,
    matches,
    policy,
    reject,
)
from policies.testing import Judge, ReadMessage, session, transaction


@policy(at=Stage.END_OF_DATA, needs=[SpamReport], wants=[VirusReport])
def example(tx: Transaction, evidence: Evidence, *, words: tuple[str, ...] = ("x",)) -> Verdict | None:
    found = evidence.get(VirusReport)
    return reject("example", detail=f"{evidence[SpamReport].score:g} {found and found.signature} {words}")


@policy(at=Stage.CONNECT)
def hasty(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return discard("hasty") if tx.session.client_port == 1 else "no"  # type: ignore[return-value]


@policy(at=Stage.CONNECT)
def mistaken(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return reject(tx.message.digest)


def test_options_are_written_as_in_the_configuration(judge: Judge):
    verdict = judge(example, transaction(), SpamReport(1.5), words=["a", "b"])
    assert verdict is not None
    assert verdict.detail == "1.5 None ('a', 'b')"


def test_what_it_wants_may_be_given(judge: Judge):
    verdict = judge(example, transaction(), SpamReport(1.5), VirusReport("Eicar"))
    assert verdict is not None
    assert verdict.detail == "1.5 Eicar ('x',)"


NOBODY = FileSet.of()


@policy(at=Stage.MAIL)
def listed(
    tx: Transaction, evidence: Evidence, *, senders: FileSet = NOBODY, since: timedelta = timedelta()
) -> Verdict | None:
    sender = matches(tx.envelope.reverse_path, senders)
    return reject("listed", detail=f"{sender} {since.total_seconds():g}") if sender else None


def test_options_of_every_kind_are_read_and_files_are_beside_the_test(judge: Judge):
    tx = transaction(stage=Stage.MAIL, reverse_path="anna@junk.example")
    assert judge(listed, tx) is None
    verdict = judge(listed, tx, senders="senders.txt", since="2h")
    assert verdict is not None
    assert verdict.detail == "@junk.example 7200"


EARLY = transaction(stage=Stage.CONNECT)


@pytest.mark.parametrize(
    ("question", "options", "problem"),
    [
        (
            (example, EARLY, SpamReport(1.0)),
            {},
            "is asked at end-of-data, and this transaction is at connect",
        ),
        ((example, transaction()), {}, "needs SpamReport, and without it the gateway does not ask"),
        ((example, transaction(), SpamReport(1.0), Listings()), {}, "is not given Listings"),
        (
            (example, transaction(), SpamReport(1.0)),
            {"wrods": ["x"]},
            "[policies.example] wrods: unknown key; did you mean 'words'?",
        ),
        (
            (example, transaction(), SpamReport(1.0)),
            {"words": 1},
            "1 will not do; allowed: a list of strings",
        ),
        ((hasty, EARLY), {}, "policy 'hasty' returned 'no', not a verdict or None"),
        (
            (hasty, transaction(stage=Stage.CONNECT, session=session(client_port=1))),
            {},
            "discard is for end-of-data, not for connect",
        ),
        ((mistaken, EARLY), {}, "reads tx.message, which is there at end-of-data and not at connect"),
    ],
)
def test_a_test_fails_where_the_gateway_would_refuse(judge: Judge, question, options, problem: str):
    with pytest.raises(pytest.fail.Exception) as failure:
        judge(*question, **options)
    assert problem in str(failure.value)


def test_a_message_comes_from_a_file_beside_the_test(eml: ReadMessage):
    message = eml("hello.eml")
    assert message.header("Subject") == "Grüße"
    assert b"".join(message.content.chunks()).endswith(b"\r\n\r\nHello\r\n")
    with pytest.raises(FileNotFoundError):
        eml("no-such.eml")


def test_nothing_of_ours_is_imported_before_it_is_asked_for():
    code = "import gateway.plugins.fixtures, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    ours = {name for name in loaded.split() if name.partition(".")[0] in {"gateway", "filters", "policies"}}
    assert ours == {"gateway", "gateway.plugins", "gateway.plugins.fixtures"}
    assert "msgspec" not in loaded.split()


@pytest.mark.parametrize("given", [[], ["-p", "gateway.plugins.fixtures"], ["--rootdir=/"]])
def test_pytest_has_them_wherever_this_is_installed(given: list[str], tmp_path: Path):
    (tmp_path / "mine.py").write_text("mine = 1\n")
    (tmp_path / "test_x.py").write_text("from mine import mine\ndef test_x(judge, eml): assert mine\n")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:asyncio", *given, str(tmp_path)]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
