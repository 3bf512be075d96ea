"""The gateway as a real Postfix's milter: what the client hears, what is delivered, what the record says."""

import re
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from deploy.demo.client import Client, Reply
from deploy.demo.daemons import LOOPBACK, Clamd, Spamd, free_port
from deploy.demo.gateway_process import MilterGateway, clamav, dnsbl, spamassassin
from deploy.demo.messages import LISTED_CLIENT, clean, eicar_attached, gtube, message
from deploy.demo.nameserver import Nameserver
from deploy.demo.postfix import Postfix
from deploy.demo.postfix_milter import MilterPostfix
from tests.fakes.mta import FakeMTA
from tests.integration.behind_postfix import PATIENCE, A, begin, delivered, finish, recorded
from tests.waiting import soon

ZONE = "bl.example.net"
USER, PASSWORD = "anna", "correct horse battery"
B, POSTMASTER, UMLAUT = (f"{user}@example.com" for user in ("b", "postmaster", "jürgen"))

# The message itself says what is to be done to it, and the sender that b is to get nothing.
POLICIES = '''
from policies import Evidence, Stage, Transaction, Verdict, policy
from policies import add_recipient, discard, mark, quarantine, redirect, reject, subject

DEEDS = {
    "hold": quarantine("asked-for"),
    "discard": discard("asked-for"),
    "redirect": redirect("b@example.com"),
    "add": add_recipient("b@example.com"),
    "change": subject("[Check]") & mark("X-Class", "a") & mark("X-Long", " ".join(["many words"] * 9)),
}


@policy(at=Stage.RCPT)
def choosy(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """Nothing from strangers for b."""
    is_stranger = str(tx.envelope.reverse_path).startswith("stranger@")
    return reject("stranger") if is_stranger and str(tx.envelope.recipient) == "b@example.com" else None


@policy(at=Stage.END_OF_DATA)
def deed(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """What the message asks for."""
    return DEEDS.get(tx.message.header("X-Deed") or "")
'''
_PROFILE = f"""\
[[profile]]
recipients = ["{POSTMASTER}"]
[profile.policies.spam]
mode = "off"
"""
_FIELDS_ON_TOP = ("X-Spam-Score", "X-Spam-Status", "X-Virus-Scanned", "X-Sluicegate-Reference")
_FORGED = b"X-Spam-Flag: NO\r\nX-Sluicegate-Reference: AAAA-AAAA\r\n\tand more\r\n"
_RECEIVED = re.compile(rb"Received: from [^\n]*\n(?:[ \t][^\n]*\n)*")


class Mailer(MilterPostfix):
    """Offers logins and TLS, and believes XCLIENT; at `early_port` it asks another gateway."""

    users = (*Postfix.users, "jürgen")

    def __init__(self, sink: str, certificate: Path) -> None:
        super().__init__(sink, {USER: PASSWORD})
        self.settings += (
            f"smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {certificate}\n"
            "smtpd_authorized_xclient_hosts = 127.0.0.1\n"
        )
        self.early_port = free_port()
        self.services = [
            *self.services,
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "pickup unix n - n 1 1 pickup",
            f"{LOOPBACK}:{self.early_port} inet n - n - - smtpd",
            "  -o smtpd_milters=unix:sluicegate/early",
        ]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def mailer(
    sink: FakeMTA, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mailer]:
    certificate = tmp_path_factory.mktemp("certificate") / "both.pem"
    authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(certificate)
    with Mailer(sink.address, certificate) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ZONE, [LISTED_CLIENT]) as server:
        yield server


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policies")
    (directory / "deeds.py").write_text(POLICIES)
    return directory


@pytest.fixture(scope="module")
def gateway(
    mailer: Mailer, clamd: Clamd, spamd: Spamd, nameserver: Nameserver, plugins: Path
) -> Iterator[MilterGateway]:
    scanners = [clamav(clamd.address), spamassassin(spamd.address)]
    with MilterGateway(
        mailer.socket,
        filters=[*scanners, dnsbl(nameserver.address, ZONE), _PROFILE],
        order=["recipients", "blocklist", "choosy", "virus", "spam", "deed"],
        policies=f'directory = "{plugins}"',
    ) as running:
        yield running


def with_deed(deed: str, subject: str = "deed") -> bytes:
    return message(subject, b"Hello\r\n", f"X-Deed: {deed}\r\n".encode())


# Mail that is taken, and mail that is not


def test_clean_mail_is_delivered_below_our_fields(mailer: Mailer, gateway: MilterGateway, sink: FakeMTA):
    with Client(mailer.port) as client:
        reply = client.send(clean(), [A])[-1]
    content = delivered(sink, reply).content

    trace = _RECEIVED.match(content)
    assert trace
    block = content[trace.end() :].removesuffix(clean())
    assert re.findall(rb"(?m)^[\w-]+(?=:)", block) == [name.encode() for name in _FIELDS_ON_TOP]
    assert trace.end() + len(block) + len(clean()) == len(content)
    record = recorded(gateway, reply)
    assert f"X-Sluicegate-Reference: {record['reference']}\r\n".encode() in block
    assert (record["verdict"], record["reason"], record["stage"]) == ("accepted", "accepted", "end-of-data")
    name = "downstream.example.com"
    assert record["mta"] == {"name": name, "daemon": name, "queue_id": reply.queue_id}
    assert (record["reply"], record["downstream"]) == (None, None)
    client = record["client"]
    assert (client["address"], client["helo"], client["tls"]) == (LOOPBACK, "client.example.org", None)


@pytest.mark.parametrize(
    ("content", "reason"), [(gtube(), "spam-score"), (eicar_attached(), "virus-found")], ids=["spam", "virus"]
)
def test_junk_is_refused_and_explained(
    mailer: Mailer, gateway: MilterGateway, sink: FakeMTA, content: bytes, reason: str
):
    with Client(mailer.port) as client:
        refused, taken = client.send(content, [A])[-1], client.send(clean(), [A])[-1]
    assert (refused.code, refused.text[:5]) == (550, "5.7.1")
    record = recorded(gateway, refused)
    assert (record["verdict"], record["reason"], record["recipients"]) == ("rejected", reason, [A])
    assert record["reply"]["text"] == refused.text.removeprefix("5.7.1 ")
    assert record["mta"]["queue_id"]
    assert reason in gateway.ask("explain", refused.reference or "")
    assert delivered(sink, taken).content.endswith(clean())
    assert not [each for each in sink.messages if content[-200:] in each.content]


def test_a_listed_client_is_refused_at_rcpt(mailer: Mailer, gateway: MilterGateway):
    with Client(mailer.port, LISTED_CLIENT) as client:
        mail, refused, allowed = begin(client, "s@example.org", A, POSTMASTER)
    assert [mail.code, refused.code, allowed.code] == [250, 550, 250]
    record = recorded(gateway, refused)
    assert (record["reason"], record["stage"], record["spoken"]) == ("dns-blocklisted", "connect", "rcpt")
    assert (record["client"]["address"], record["recipients"]) == (LISTED_CLIENT, [A])


def test_a_client_may_come_from_elsewhere(mailer: Mailer, gateway: MilterGateway):
    xclient = "XCLIENT NAME=mail.example.org ADDR=192.0.2.7 PORT=4711 LOGIN=otto"
    with Client(mailer.port) as client:
        assert client.say(b"EHLO balancer.example.org\r\n").code == 250
        assert client.say(f"{xclient}\r\n".encode()).code == 220
        reply = client.send(clean(), [A])[-1]
    client = recorded(gateway, reply)["client"]
    assert (client["address"], client["port"], client["name"]) == ("192.0.2.7", 4711, "mail.example.org")
    assert (client["helo"], client["authenticated"]) == ("client.example.org", "otto")


def test_where_it_speaks_at_connect_nobody_waits_for_a_recipient(mailer: Mailer, nameserver: Nameserver):
    settings = {"filters": [dnsbl(nameserver.address, ZONE)], "order": ["recipients", "blocklist"]}
    socket = mailer.socket.with_name("early")
    with MilterGateway(socket, gateway='speak = "connect"', **settings) as gateway:
        with Client(mailer.early_port, LISTED_CLIENT) as client:
            assert (client.banner.code, client.banner.text[-25:]) == (554, "not accepting connections")
            replies = begin(client, "s@example.org", A)
        assert [reply.code for reply in replies] == [550, 503]
        record = recorded(gateway, replies[0])
        assert (record["reason"], record["spoken"], record["recipients"]) == (
            "dns-blocklisted",
            "connect",
            [],
        )
        with Client(mailer.early_port) as client:
            reply = client.send(clean(), [A])[-1]
        assert recorded(gateway, reply)["verdict"] == "accepted"


# Whom it reaches


def test_each_recipient_has_an_answer_of_its_own(mailer: Mailer, gateway: MilterGateway, sink: FakeMTA):
    before = len(gateway.records())
    with Client(mailer.port) as client:
        replies = begin(client, "stranger@example.org", A, B, "nobody@example.com", POSTMASTER)
        last = finish(client, clean())
    assert [reply.code for reply in replies] == [250, 250, 550, 550, 452]
    refused, unknown, apart = replies[2:]
    assert delivered(sink, last).recipients == [f"RCPT TO:<{A}>"]
    assert recorded(gateway, last)["recipients"] == [A]
    assert (recorded(gateway, refused)["reason"], unknown.reference) == ("stranger", None)
    assert unknown.text.startswith("5.1.1 <nobody@example.com>: Recipient address rejected")
    assert (recorded(gateway, apart)["reason"], apart.text[:5]) == ("other-profile", "4.5.3")
    assert len(gateway.records()) == before + 3


@pytest.mark.parametrize(
    "form",
    [
        "{}%example.com",
        "example.com!{}",
        "@x.example:{}@example.com",
        "@x.example:{}%example.com",
        '"{}%example.com"',
        "{}%example.com@[127.0.0.1]",
    ],
)
def test_a_recipient_is_judged_as_what_postfix_makes_of_it(
    mailer: Mailer, gateway: MilterGateway, sink: FakeMTA, form: str
):
    with Client(mailer.port) as client:
        refused, apart = begin(client, "stranger@example.org", form.format("b"), A)[1:]
        assert (refused.code, apart.code) == (550, 250)
        assert client.say(b"RSET\r\n").code == 250
        assert begin(client, "s@example.org", form.format("a"))[-1].code == 250
        taken = finish(client, clean())
        assert begin(client, "s@example.org", form.format("a"))[-1].code == 250
        sent_on = finish(client, with_deed("redirect"))
    record = recorded(gateway, refused)
    assert (record["reason"], record["recipients"]) == ("stranger", [B])
    for reply, reached in ((taken, A), (sent_on, B)):
        assert recorded(gateway, reply)["recipients"] == [A]
        assert delivered(sink, reply).recipients == [f"RCPT TO:<{reached}>"]


def test_a_sender_is_judged_as_what_postfix_makes_of_it(mailer: Mailer, gateway: MilterGateway):
    with Client(mailer.port) as client:
        refused = begin(client, "stranger%example.org", B)[-1]
    record = recorded(gateway, refused)
    assert (record["reason"], record["reverse_path"]) == ("stranger", "stranger@example.org")


def test_an_internationalized_message_passes_whole(mailer: Mailer, gateway: MilterGateway, sink: FakeMTA):
    sender = "jürgen@bücher.example"
    content = clean().replace(b"Subject: Meeting", "Subject: Grüße".encode())
    with Client(mailer.port) as client:
        assert [reply.code for reply in begin(client, sender, UMLAUT)] == [250, 250]
        reply = finish(client, content)
    got = delivered(sink, reply)
    assert got.content.endswith(content)
    assert [each.encode("latin-1").decode() for each in got.recipients] == [f"RCPT TO:<{UMLAUT}>"]
    record = recorded(gateway, reply)
    assert (record["reverse_path"], record["recipients"]) == (sender, [UMLAUT])
    assert (record["message"]["subject"], "SMTPUTF8" in record["parameters"]) == ("Grüße at ten", True)


@pytest.mark.parametrize(
    ("deed", "reached"),
    [("redirect", {B}), ("add", {A, B}), ("none", {A})],
)
def test_the_message_goes_where_policies_send_it(
    mailer: Mailer, gateway: MilterGateway, sink: FakeMTA, deed: str, reached: set[str]
):
    with Client(mailer.port) as client:
        reply = client.send(with_deed(deed), [A])[-1]
    assert set(delivered(sink, reply).recipients) == {f"RCPT TO:<{each}>" for each in reached}
    assert recorded(gateway, reply)["recipients"] == [A]


def test_who_has_logged_in_by_tls_is_known(
    mailer: Mailer, gateway: MilterGateway, sink: FakeMTA, authority: trustme.CA
):
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with smtplib.SMTP(LOOPBACK, mailer.port, "client.example.org") as client:
        client.starttls(context=trust)
        client.login(USER, PASSWORD)
        client.mail("anna@example.com")
        client.rcpt(A)
        code, text = client.data(clean())
    reply = Reply(code, text.decode(), 0)
    assert b"(Authenticated sender: anna@example.com)" in delivered(sink, reply).content
    client = recorded(gateway, reply)["client"]
    assert (client["authenticated"], client["tls"]) == ("anna@example.com", "TLSv1.3")
    assert client["cipher"].startswith("TLS_")


# What becomes of it


def test_fields_are_changed_as_policies_say(mailer: Mailer, gateway: MilterGateway, sink: FakeMTA):
    subject = b"Subject: Gr\xfc\xdfe\r\n \xff\xfe\r\n"
    content = _FORGED + with_deed("change").replace(b"Subject: deed\r\n", subject) + _FORGED
    with Client(mailer.port) as client:
        reply = client.send(content, [A])[-1]
    got = delivered(sink, reply).content
    reference = recorded(gateway, reply)["reference"].encode()
    block, _, rest = got.partition(b"X-Sluicegate-Reference: " + reference + b"\r\n")
    marks = (
        b"X-Class: a\r\nX-Long: many words many words many words many words many words many words\r\n"
        b"\tmany words many words many words\r\n"
    )
    assert rest == marks + content.removeprefix(_FORGED).replace(b"Subject: ", b"Subject: [Check] ")
    assert _FORGED not in block


@pytest.mark.parametrize("option", ["-H", "-r"])
def test_what_is_quarantined_waits_in_the_hold_queue(
    mailer: Mailer, gateway: MilterGateway, sink: FakeMTA, option: str
):
    content = with_deed("hold", f"Released by {option}")
    with Client(mailer.port) as client:
        reply = client.send(content, [A])[-1]
    (held,) = mailer.held()
    assert (held["queue_id"], held["recipients"][0]["address"]) == (reply.queue_id, A)
    record = recorded(gateway, reply)
    assert (record["verdict"], record["reason"], record["reply"]) == ("quarantined", "asked-for", None)
    assert not [each for each in sink.messages if content in each.content]

    records = len(gateway.records())
    mailer.release(reply.queue_id or "", option)
    got = soon(lambda: [each for each in sink.messages if content in each.content], PATIENCE)
    assert [each.recipients for each in got] == [[f"RCPT TO:<{A}>"]]
    assert f"X-Sluicegate-Reference: {record['reference']}\r\n".encode() in got[0].content
    assert mailer.held() == []
    # Nobody was asked again.
    assert len(gateway.records()) == records


def test_what_is_discarded_reaches_nobody(mailer: Mailer, gateway: MilterGateway, sink: FakeMTA):
    with Client(mailer.port) as client:
        gone, taken = (client.send(with_deed(deed), [A])[-1] for deed in ("discard", "none"))
    assert gone.code == 250
    assert recorded(gateway, gone)["verdict"] == "discarded"
    delivered(sink, taken)
    assert f"{gone.queue_id}: milter-discard" in mailer.log.read_text()
    assert gone.queue_id not in {each["queue_id"] for each in mailer.queue()}
    assert not [each for each in sink.messages if b"X-Deed: discard" in each.content]
