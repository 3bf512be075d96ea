"""The milter front end and OpenDKIM's miltertest: an MTA's side that neither we nor Postfix wrote.

The scripts are beside this, in miltertest/: each is one MTA, and fails where an answer is not as it should
be. What an MTA is not told, or miltertest cannot tell, is looked up in the records.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.daemons import EICAR, Clamd, DaemonError, Spamd, find_program, poll
from deploy.demo.gateway_process import Gateway, clamav, spamassassin
from deploy.demo.messages import gtube

SCRIPTS = Path(__file__).with_name("miltertest")
CONFIGURATION = """\
[gateway]
hostname = "mx.example.com"
state_directory = "{directory}/state"
workers = 1
max_message_size = 200000
speak = "{speak}"

[[listener]]
protocol = "milter"
address = "unix:{directory}/milter.sock"

{filters}
[policies]
directory = "{directory}/policies"
order = [{order}]

[policies.blocked_clients]
clients = ["192.0.2.66"]

[policies.blocked_senders]
senders = ["blocked@example.net"]

[policies.blocked_recipients]
recipients = ["blocked@example.com"]
"""
POLICIES = """\
from policies import discard, policy, quarantine, redirect, reject, Stage, subject

@policy(at=Stage.HELO)
def names(tx, evidence):
    \"\"\"Refuse a client by what it calls itself.\"\"\"
    return reject("name-blocked") if tx.session.helo_name == "blocked.example.net" else None

@policy(at=Stage.RCPT)
def moves(tx, evidence):
    \"\"\"Mail for who has moved goes there.\"\"\"
    moved = str(tx.envelope.recipient) == "moved@example.com"
    return redirect("moved-to@example.com") if moved else None

@policy(at=Stage.END_OF_DATA)
def fates(tx, evidence):
    \"\"\"What becomes of a message, by its first recipient.\"\"\"
    verdicts = {"quarantine": quarantine("kept"), "discard": discard("thrown"), "änne": subject("[Test]")}
    return verdicts.get(tx.envelope.recipients[0].local_part)
"""


class MilterGateway(Gateway):
    """A gateway with a milter listener and nothing else."""

    def __init__(self, order: str, speak: str = "rcpt", filters: str = "") -> None:
        super().__init__(downstream="")
        self._milter = {"order": order, "speak": speak, "filters": filters}

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "milter.sock"

    def configure(self) -> None:
        """Configuration and policies."""
        (self.directory / "state").mkdir()
        (self.directory / "policies").mkdir()
        (self.directory / "policies/several.py").write_text(POLICIES)
        self.configuration.write_text(CONFIGURATION.format(directory=self.directory, **self._milter))

    def records_of(self, recipient: str, count: int = 1) -> list[dict[str, Any]]:
        """The records in which this recipient is, waited for."""

        def find() -> list[dict[str, Any]] | None:
            found = self.records("--recipient", recipient)
            return found if len(found) >= count else None

        found = poll(find, 30)
        if found is None:
            raise DaemonError(f"{recipient} has not {count} records, but {self.records()}")
        return found


@pytest.fixture(scope="module")
def gateway(clamd: Clamd, spamd: Spamd) -> Iterator[MilterGateway]:
    order = ["blocked_clients", "blocked_recipients", "moves", "fates", "virus", "spam"]
    filters = clamav(clamd.address) + spamassassin(spamd.address)
    with MilterGateway(", ".join(f'"{policy}"' for policy in order), filters=filters) as running:
        yield running


@pytest.fixture(scope="module")
def frank_gateway() -> Iterator[MilterGateway]:
    with MilterGateway('"blocked_clients", "names", "blocked_senders"', speak="connect") as running:
        yield running


def play(gateway: MilterGateway, script: str) -> list[str]:
    """Runs a script to its end: the references of the messages that passed by what it says.

    Asked about a refusal, tells it what the record has as the reply.
    """
    pattern = gtube().partition(b"\r\n\r\n")[2].strip().decode()
    values = {"script": script, "socket": str(gateway.socket), "gtube": pattern, "eicar": EICAR.decode()}
    definitions = [f"-D{name}={value}" for name, value in values.items()]
    passed = []
    with subprocess.Popen(
        [find_program("miltertest"), "-s", "mta.lua", *definitions],
        cwd=SCRIPTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            match line.split():
                case ["refused", recipient]:
                    print(reply_to(gateway, recipient), file=process.stdin, flush=True)
                case ["passed", reference]:
                    passed.append(reference)
    assert process.returncode == 0, "".join(output)
    return passed


def reply_to(gateway: MilterGateway, recipient: str) -> str:
    reply = gateway.records_of(recipient)[-1]["reply"]
    return f"{reply['code']} {reply['status']} {reply['text']}"


def test_a_clean_message_passes_below_our_fields(gateway: MilterGateway):
    [reference] = play(gateway, "clean")

    record = gateway.record(reference)
    assert (record["verdict"], record["recipients"]) == ("accepted", ["clean@example.com"])
    assert record["mta"] == {"name": "mta.example.com", "daemon": "port25", "queue_id": "4Xyz"}
    client = record["client"]
    assert (client["address"], client["port"], client["helo"]) == ("192.0.2.1", 12345, "client.example.org")
    assert set(record["evidence"]) >= {"SpamReport", "VirusReport"}


def test_spam_is_refused_with_the_reply_of_its_record(gateway: MilterGateway):
    play(gateway, "gtube")

    [record] = gateway.records_of("gtube@example.com")
    assert (record["reply"]["code"], record["reason"], record["spoken"]) == (550, "spam-score", "end-of-data")
    assert record["reply"]["text"].endswith(f"(ref {record['reference']})")


def test_a_virus_is_refused_and_the_next_message_is_not(gateway: MilterGateway):
    play(gateway, "eicar")

    [record] = gateway.records_of("eicar@example.com")
    assert (record["reply"]["code"], record["reason"]) == (550, "virus-found")
    assert gateway.records_of("after-eicar@example.com")[0]["verdict"] == "accepted"


def test_a_client_that_is_refused_hears_it_at_rcpt(gateway: MilterGateway):
    play(gateway, "blocked_client")

    for recipient in ("first@example.com", "second@example.com"):
        [record] = gateway.records_of(recipient)
        assert (record["reason"], record["stage"], record["spoken"]) == ("client-blocked", "connect", "rcpt")
        assert (record["reply"]["code"], record["reverse_path"]) == (550, "anna@example.org")


def test_or_at_once_where_that_is_wanted(frank_gateway: MilterGateway):
    play(frank_gateway, "speak_early")

    frank_gateway.records_of("spoken-early@example.com")
    told = [(each["reason"], each["stage"], each["spoken"]) for each in frank_gateway.records()]
    assert told[:3] == [
        ("client-blocked", "connect", "connect"),
        ("name-blocked", "helo", "helo"),
        ("sender-blocked", "mail", "mail"),
    ]
    assert [each[0] for each in told[3:]] == ["accepted"]


def test_of_several_recipients_one_may_be_refused(gateway: MilterGateway):
    [reference] = play(gateway, "recipients")

    assert gateway.record(reference)["recipients"] == ["one@example.com", "three@example.com"]
    [refused] = gateway.records_of("blocked@example.com")
    assert (refused["reason"], refused["reply"]["code"]) == ("recipient-blocked", 550)


def test_addresses_and_subjects_beyond_ascii(gateway: MilterGateway):
    play(gateway, "smtputf8")

    [record] = gateway.records_of("änne@example.com")
    assert (record["verdict"], record["reverse_path"]) == ("accepted", "jörg@exämple.org")
    assert record["parameters"] == {"SMTPUTF8": None, "BODY": "8BITMIME"}
    assert record["message"]["subject"] == "Grüße"


def test_held_thrown_away_and_sent_elsewhere(gateway: MilterGateway):
    play(gateway, "fates")

    assert gateway.records_of("quarantine@example.com")[0]["verdict"] == "quarantined"
    assert gateway.records_of("discard@example.com")[0]["verdict"] == "discarded"
    [moved] = gateway.records_of("stays@example.com")
    assert moved["verdict"] == "accepted"
    assert moved["recipients"] == ["moved@example.com", "stays@example.com"]


def test_what_is_given_up_leaves_nothing_behind(gateway: MilterGateway):
    [reference] = play(gateway, "abort")

    assert gateway.record(reference)["mta"]["queue_id"] == "second"
    assert gateway.record(reference)["recipients"] == ["after-abort@example.com"]
    for who in ("given-up-at-rcpt", "given-up-in-body", "cut-off"):
        [record] = gateway.records_of(f"{who}@example.com")
        assert (record["verdict"], record["reason"]) == ("aborted", "given-up-by-mta")


def test_of_what_is_too_big_no_more_is_wanted(gateway: MilterGateway):
    play(gateway, "too_big")

    [record] = gateway.records_of("big@example.com")
    assert (record["reply"]["code"], record["reason"]) == (552, "message-too-big")
    assert gateway.records_of("after-big@example.com")[0]["verdict"] == "accepted"
    announced = [each for each in gateway.records() if each["detail"] == "SIZE=400000"]
    assert [(each["spoken"], each["reply"]["code"]) for each in announced] == [("mail", 552)]


def test_an_mta_of_the_second_version_is_served(gateway: MilterGateway):
    play(gateway, "version_2")

    assert gateway.records_of("old@example.com")[0]["verdict"] == "accepted"
    assert gateway.records_of("old-gtube@example.com")[0]["reason"] == "spam-score"


def test_an_mta_without_skip_sends_all_and_is_refused(gateway: MilterGateway):
    play(gateway, "without_skip")

    assert gateway.records_of("old-big@example.com")[0]["reason"] == "message-too-big"


def test_an_mta_that_allows_too_little_is_sent_away(gateway: MilterGateway):
    play(gateway, "too_little")

    assert b"an MTA allows too little and is sent away" in gateway.log.read_bytes()
    assert gateway.records_of("enough@example.com")[0]["verdict"] == "accepted"
