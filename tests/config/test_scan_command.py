"""`sluicegate scan`: exit statuses, output, and which stages are judged."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from gateway.journal.record import Record, decode
from tests.config.command import sluicegate

LETTERS = {
    "clean": b"Subject: Monday\r\n\r\nHello\r\n",
    "junk": b"Subject: friday\r\n\r\nHello\r\n",
    "cold": b"Subject: Monday\r\nX-Degrees: -1\r\n\r\nHello\r\n",
    "down": b"Subject: Monday\r\nX-Down: yes\r\n\r\nHello\r\n",
    "junk-while-down": b"Subject: friday\r\nX-Down: yes\r\n\r\nHello\r\n",
    "unix": b"Subject: friday\n\nHello",
    "empty": b"",
    "picture": b"\x89PNG\r\n\x1a\n",
}


@pytest.fixture
def letters(home: Path) -> Path:
    for name, content in LETTERS.items():
        (home / f"{name}.eml").write_bytes(content)
    return home


def scan(home: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return sluicegate(home, "scan", "--config", "sluicegate.toml", *arguments, given=given)


def scan_to_records(home: Path, *arguments: str) -> list[Record]:
    result = scan(home, "--json", *arguments)
    assert result.stderr == ""
    return [decode(line.encode()) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        (["clean.eml"], os.EX_OK, "clean.eml: accepted: accepted"),
        (["junk.eml"], 1, "junk.eml: rejected: bad-subject"),
        (["unix.eml"], 1, "unix.eml: rejected: bad-subject"),
        (["cold.eml"], 1, "cold.eml: rejected: too-cold"),
        (["down.eml"], os.EX_TEMPFAIL, "down.eml: tempfailed: evidence-unavailable"),
        (["junk-while-down.eml"], 1, "junk-while-down.eml: rejected: bad-subject"),
        (["clean.eml", "down.eml"], os.EX_TEMPFAIL, "down.eml: tempfailed"),
        (["down.eml", "junk.eml", "clean.eml"], 1, "junk.eml: rejected"),
    ],
)
def test_the_exit_status_is_the_worst_of_all_verdicts(
    letters: Path, files: list[str], status: int, said: str
):
    result = scan(letters, *files)
    assert (result.returncode, result.stderr) == (status, "")
    assert said in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["empty.eml"], "empty.eml: empty; judged all the same\n"),
        (
            ["picture.eml"],
            "picture.eml: no header field, so hardly a message; judged all the same\n",
        ),
        (["clean.eml", "empty.eml"], "empty.eml: empty; judged all the same\n"),
        (["-"], "-: empty; judged all the same\n"),
    ],
)
def test_what_is_hardly_a_message_is_judged_all_the_same(letters: Path, files: list[str], said: str):
    result = scan(letters, *files, given="")
    assert (result.returncode, result.stderr) == (os.EX_OK, said)
    assert f"{files[-1]}: accepted: accepted" in result.stdout


@pytest.mark.parametrize(
    ("given", "name", "reasons"),
    [
        ("Subject: friday\n\nHello\n", "-: rejected: bad-subject", ["bad-subject"]),
        ("From a\nSubject: friday\n\nx\n\nFrom b\n\ny\n", "-:1: rejected", ["bad-subject", "accepted"]),
    ],
)
def test_messages_may_come_from_standard_input(letters: Path, given: str, name: str, reasons: list[str]):
    assert name in scan(letters, "-", given=given).stdout
    found = scan(letters, "--json", "-", given=given).stdout.splitlines()
    assert [decode(line.encode()).reason for line in found] == reasons


def test_the_evidence_and_the_opinions_are_told(letters: Path):
    output = scan(letters, "down.eml").stdout
    assert "no answer from the roof" in output
    assert "thermometer" in output
    assert "frost" in output


def test_json_is_one_record_a_line(letters: Path):
    clean, junk = scan_to_records(letters, "clean.eml", "junk.eml")
    assert (clean.verdict, clean.stage, clean.reason) == ("accepted", "relay", "accepted")
    assert (junk.verdict, junk.stage, junk.reason) == ("rejected", "end-of-data", "bad-subject")
    assert (junk.policy, junk.detail, junk.node) == ("subject", "friday", "mx.test")
    assert junk.message is not None
    assert (junk.message.subject, junk.message.size) == ("friday", len(LETTERS["junk"]))
    assert clean.evidence["Weather"]["degrees"] == 20.0
    assert clean.opinions["frost"]["verdict"] is None


def test_unknown_facts_are_not_judged(letters: Path):
    [record] = scan_to_records(letters, "clean.eml")
    assert record.opinions.keys() == {"subject", "frost"}


def test_given_facts_are_judged_and_recorded(letters: Path):
    facts = ["--client", "2001:db8::1", "--helo", "client.test", "--sender", "a@b.example"]
    [record] = scan_to_records(letters, *facts, "--recipient", "u1@our.example", "clean.eml")
    assert record.opinions.keys() == {"helo", "recipients", "subject", "frost"}
    assert (record.client.address, record.client.helo) == ("2001:db8::1", "client.test")
    assert (record.reverse_path, record.recipients) == ("a@b.example", ["u1@our.example"])


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--recipient", "u1@our.example"], 0, "accepted"),
        (["--recipient", "postmaster"], 0, "accepted"),
        (["--recipient", "u1@victim.example"], 1, "relay-denied"),
        (["--recipient", "u1@our.example", "--recipient", "u1@victim.example"], 1, "relay-denied"),
        (["--helo", "mx.test"], os.EX_TEMPFAIL, "bad-helo"),
        (["--helo", "other.test"], 0, "accepted"),
        (["--sender", ""], 0, "accepted"),
    ],
)
def test_early_stages_can_decide(letters: Path, arguments: list[str], status: int, reason: str):
    result = scan(letters, "--json", *arguments, "clean.eml")
    assert result.returncode == status
    assert json.loads(result.stdout)["reason"] == reason


def test_without_a_relay_table_the_mta_relays_for_everybody_it_likes(letters: Path):
    file = letters / "sluicegate.toml"
    before, _, rest = file.read_text().partition("[[relay]]\n")
    text = before + rest.partition('address = ["127.0.0.1:10025"]\n')[2]
    file.write_text(text.replace("[[listener]]\n", '[[listener]]\nprotocol = "milter"\n'))
    [record] = scan_to_records(
        letters, "--recipient", "u1@our.example", "--recipient", "a@b.example", "clean.eml"
    )
    assert (record.verdict, record.opinions["recipients"]["verdict"]) == ("accepted", None)


@pytest.fixture
def only_milter(letters: Path) -> Path:
    """A gateway that only an MTA asks; its relay is for what is released from the quarantine."""
    file = letters / "sluicegate.toml"
    file.write_text(file.read_text().replace("[[listener]]\n", '[[listener]]\nprotocol = "milter"\n'))
    return letters


@pytest.mark.parametrize(("relays", "stage", "code"), [(True, "relay", 250), (False, "end-of-data", None)])
def test_what_passes_is_recorded_as_the_front_end_would(
    letters: Path, request: pytest.FixtureRequest, relays: bool, stage: str, code: int | None
):
    if not relays:
        request.getfixturevalue("only_milter")
    [record] = scan_to_records(letters, "clean.eml")
    assert (record.verdict, record.stage, record.reply and record.reply.code) == ("accepted", stage, code)
    assert (record.mta is None) == relays


def test_a_relay_beside_milters_alone_binds_no_mta(only_milter: Path):
    [record] = scan_to_records(only_milter, "--recipient", "a@elsewhere.example", "clean.eml")
    assert (record.verdict, record.evidence["Route"]["domain"]) == ("accepted", "*")


HOLDS = """
from policies import Evidence, Stage, Transaction, Verdict, policy, quarantine


@policy(at=Stage.END_OF_DATA)
def holds(tx: Transaction, evidence: Evidence) -> Verdict | None:
    return quarantine("look-at-it")
"""


def test_what_would_be_held_is_said_to_be(only_milter: Path):
    (only_milter / "plugins" / "holds.py").write_text(HOLDS)
    config = only_milter / "sluicegate.toml"
    config.write_text(config.read_text().replace('"frost"', '"frost", "holds"'))
    result = scan(only_milter, "clean.eml")
    assert (result.returncode, result.stderr) == (0, "")
    assert "holds  had the MTA hold it instead of delivering it (look-at-it)\n" in result.stdout
    assert "relay" not in result.stdout
    assert "postcat" not in result.stdout


def test_addresses_may_be_beyond_ascii(letters: Path):
    result = scan(
        letters, "--json", "--sender", "jürgen@bücher.example", "--recipient", "ü@our.example", "clean.eml"
    )
    record = json.loads(result.stdout)
    assert (result.returncode, record["verdict"]) == (0, "accepted")
    assert (record["reverse_path"], record["recipients"]) == ("jürgen@bücher.example", ["ü@our.example"])


def test_a_policy_that_only_warns_lets_pass(letters: Path):
    with (letters / "sluicegate.toml").open("a") as config:
        config.write('[policies.subject]\nmode = "warn"\n')
    [record] = scan_to_records(letters, "junk.eml")
    assert record.verdict == "accepted"
    assert record.opinions["subject"]["verdict"] == "would-reject"


def test_mail_that_may_pass_unscanned_says_so(letters: Path):
    config = letters / "sluicegate.toml"
    config.write_text(config.read_text().replace('place = "roof"', 'place = "roof"\nunavailable = "accept"'))
    [record] = scan_to_records(letters, "down.eml")
    assert (record.verdict, record.reason) == ("accepted", "evidence-unavailable")


# Many messages

MBOX = b"".join(
    b"From s%d@a.example Mon\n" % number + LETTERS[name].replace(b"\r\n", b"\n") + b"\n"
    for number, name in enumerate(("clean", "junk", "cold"))
)


@pytest.fixture
def mailboxes(letters: Path) -> Path:
    (letters / "box").write_bytes(MBOX)
    (letters / "Maildir" / "cur").mkdir(parents=True)
    (letters / "Maildir" / "cur" / "1.host:2,S").write_bytes(LETTERS["clean"])
    (letters / "Maildir" / "cur" / "2.host:2,").write_bytes(LETTERS["down"])
    return letters


def test_of_many_messages_there_is_a_line_each_and_the_counts(mailboxes: Path):
    result = scan(mailboxes, "box", "Maildir")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        "box:1: accepted: accepted  Monday",
        "box:2: rejected: bad-subject, by subject  friday",
        "box:3: rejected: too-cold, by frost  Monday",
        "Maildir/cur/1.host:2,S: accepted: accepted  Monday",
        "Maildir/cur/2.host:2,: tempfailed: evidence-unavailable, by frost  Monday",
        "",
        "MESSAGES  VERDICT     REASON                POLICY",
        "2         accepted    accepted              -",
        "1         rejected    bad-subject           subject",
        "1         rejected    too-cold              frost",
        "1         tempfailed  evidence-unavailable  frost",
    ]


MARKS = """
from policies import Evidence, Stage, Transaction, Verdict, mark, policy, quarantine


@policy(at=Stage.END_OF_DATA)
def marks(tx: Transaction, evidence: Evidence) -> Verdict | None:
    if tx.message.header("X-Degrees"):
        return mark("X-Cold", "yes") & quarantine("look-at-it", deliver=True)
    return mark("X-Warm", "yes")
"""


def test_what_policies_did_beside_the_verdict_is_told_and_counted(mailboxes: Path):
    (mailboxes / "plugins" / "marks.py").write_text(MARKS)
    config = mailboxes / "sluicegate.toml"
    text = config.read_text().replace('"frost"', '"frost", "marks"')
    config.write_text(f'{text}[policies.subject]\nmode = "warn"\n[policies.frost]\nmode = "warn"\n')
    result = scan(mailboxes, "box", "clean.eml")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "box:1: accepted: accepted; mark X-Warm, by marks  Monday",
        "box:2: accepted: accepted; would-reject bad-subject, by subject; mark X-Warm, by marks  friday",
        "box:3: accepted: accepted; would-reject too-cold, by frost; mark X-Cold, by marks;"
        " copy look-at-it, by marks  Monday",
        "clean.eml: accepted: accepted; mark X-Warm, by marks  Monday",
        "",
        "MESSAGES  VERDICT   REASON    POLICY",
        "4         accepted  accepted  -",
        "",
        "MESSAGES  BESIDE THAT   WHAT OR WHY  POLICY",
        "3         mark          X-Warm       marks",
        "1         would-reject  bad-subject  subject",
        "1         would-reject  too-cold     frost",
        "1         mark          X-Cold       marks",
        "1         copy          look-at-it   marks",
    ]
    assert "quarantine show" not in scan(mailboxes, "cold.eml").stdout


def test_the_whole_chain_of_many_is_told_on_request(mailboxes: Path):
    output = scan(mailboxes, "--verbose", "box").stdout
    assert output.count("Filters asked") == 3
    assert output.index("box:1: accepted") < output.index("box:3: rejected") < output.index("MESSAGES")


def test_a_mailbox_with_one_message_is_one_message(mailboxes: Path):
    (mailboxes / "box").write_bytes(b"From a Mon\n" + LETTERS["junk"])
    output = scan(mailboxes, "box").stdout
    assert (output.count("Filters asked"), "MESSAGES" in output) == (1, False)


@pytest.mark.parametrize("jobs", ["1", "2", "100"])
def test_records_are_in_the_order_of_the_messages(mailboxes: Path, jobs: str):
    records = scan_to_records(mailboxes, "--jobs", jobs, "box", "Maildir", "unix.eml")
    assert [record.reason for record in records] == [
        *("accepted", "bad-subject", "too-cold"),
        *("accepted", "evidence-unavailable", "bad-subject"),
    ]


def test_whether_it_is_a_mailbox_can_be_said(mailboxes: Path):
    [record] = scan_to_records(mailboxes, "--no-mbox", "box")
    assert record.message is not None
    assert record.message.size == len(MBOX) + MBOX.count(b"\n")
    result = scan(mailboxes, "--mbox", "clean.eml")
    assert (result.returncode, "no mbox" in result.stderr) == (os.EX_USAGE, True)


def test_the_envelope_can_be_that_of_the_header(mailboxes: Path):
    header = b"Return-Path: <r@r.example>\r\nDelivered-To: x@victim.example\r\n"
    (mailboxes / "delivered.eml").write_bytes(header + LETTERS["clean"])
    given = ["--sender", "s@s.example", "--recipient", "u1@our.example"]
    options = ["--envelope-from-headers", *given]
    delivered, *in_box = scan_to_records(mailboxes, *options, "delivered.eml", "box")
    assert (delivered.reverse_path, delivered.recipients) == ("r@r.example", ["x@victim.example"])
    assert delivered.reason == "relay-denied"
    assert [(record.reverse_path, record.recipients) for record in in_box] == [
        (f"s{number}@a.example", ["u1@our.example"]) for number in range(3)
    ]
    [record] = scan_to_records(mailboxes, *given, "delivered.eml")
    assert (record.reverse_path, record.recipients) == ("s@s.example", ["u1@our.example"])
    [record] = scan_to_records(mailboxes, "--envelope-from-headers", "clean.eml")
    assert (record.reverse_path, "recipients" in record.opinions) == ("<>", False)


def test_a_file_that_cannot_be_read_is_an_error_behind_what_was_read(letters: Path):
    result = scan(letters, "clean.eml", "/proc/self/mem")
    assert (result.returncode, "Error: /proc/self/mem: " in result.stderr) == (os.EX_NOINPUT, True)
    assert result.stdout.startswith("clean.eml: accepted: accepted")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-file.eml"],
        ["plugins"],
        ["--client", "localhost", "clean.eml"],
        ["--sender", "nobody", "clean.eml"],
        ["--sender", "ü@b.example@c", "clean.eml"],
        ["--recipient", "a@b@c", "clean.eml"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(letters: Path, arguments: list[str]):
    result = scan(letters, *arguments)
    assert (result.returncode, result.stdout) == (os.EX_USAGE, "")
    assert "Traceback" not in result.stderr
