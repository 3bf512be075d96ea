"""The policies that come with it, put together from one configuration, on whole messages."""

import io
import zipfile
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from gateway.assembly import Assembly, assemble
from gateway.config import parse
from gateway.journal.record import Record
from gateway.scanning import judge_message
from gateway.smtp.address import parse_address
from gateway.smtp.envelope import Envelope
from policies.testing import MemoryContent, session

CONFIG = """
[gateway]
state_directory = "state"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["example.com"]
address = ["127.0.0.1:10025"]
[filters.attachments]
[policies]
order = [
    "allowed_clients", "blocked_clients", "allowed_senders", "blocked_senders",
    "recipients", "blocked_recipients", "allowed_recipients", "backscatter",
    "header_sanity", "attachments", "bulk",
]
[policies.allowed_clients]
clients = ["192.0.2.7"]
[policies.blocked_clients]
clients = ["192.0.2.0/24"]
[policies.allowed_senders]
senders = ["anna@junk.example"]
[policies.blocked_senders]
senders = "blocked"
[policies.blocked_recipients]
recipients = ["former@example.com"]
[policies.allowed_recipients]
recipients = ["abuse@example.com"]
[policies.backscatter]
senders = ["anna@example.com"]
[policies.header_sanity]
ignore = ["missing-message-id"]
[policies.bulk]
subject_prefix = "[Bulk]"
"""
HEADER = {"From": "a@example.net", "Subject": "Hello", "Date": "Tue, 24 Nov 2026 12:00:00 +0000"}


@pytest.fixture
async def assembly(tmp_path: Path) -> AsyncIterator[Assembly]:
    (tmp_path / "blocked").write_text("# nobody from there\n@junk.example\n")
    built = assemble(parse(tmp_path / "sluicegate.toml", CONFIG.encode()))
    yield built
    await built.close()


def letter(header: dict[str, str], attached: dict[str, bytes]) -> bytes:
    message = EmailMessage()
    for name, value in header.items():
        message[name] = value
    message.set_content("Hello")
    for name, octets in attached.items():
        message.add_attachment(octets, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes().replace(b"\n", b"\r\n")


def zipped(name: str, octets: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, octets)
    return archive.getvalue()


async def judged(
    assembly: Assembly,
    *,
    client: str = "198.51.100.1",
    sender: str = "a@example.net",
    recipient: str = "b@example.com",
    header: dict[str, str] = HEADER,
    attached: dict[str, bytes] | None = None,
) -> Record:
    envelope = Envelope(parse_address(sender), (parse_address(recipient),))
    content = MemoryContent(letter(header, attached or {}))
    return await judge_message(assembly, session(client_address=client), envelope, content)


@pytest.mark.parametrize(
    ("facts", "reason", "policy"),
    [
        ({}, "accepted", None),
        ({"client": "192.0.2.1"}, "client-blocked", "blocked_clients"),
        ({"client": "192.0.2.7"}, "accepted", None),
        ({"sender": "carl@junk.example"}, "sender-blocked", "blocked_senders"),
        ({"sender": "anna@junk.example"}, "accepted", None),
        ({"recipient": "former@example.com"}, "recipient-blocked", "blocked_recipients"),
        ({"recipient": "a@example.org"}, "relay-denied", "recipients"),
        ({"sender": "", "recipient": "b@example.com"}, "backscatter", "backscatter"),
        ({"sender": "", "recipient": "anna@example.com"}, "accepted", None),
        ({"header": {"Subject": "Hello"}}, "header-malformed", "header_sanity"),
        ({"header": {"Subject": "Hello"}, "recipient": "abuse@example.com"}, "accepted", None),
        ({"header": {"Subject": "Hello"}, "client": "192.0.2.7"}, "accepted", None),
        ({"header": {"Subject": "Hello"}, "sender": "anna@junk.example"}, "accepted", None),
        ({"attached": {"a.txt": b"Hello"}}, "accepted", None),
        ({"attached": {"a.zip": zipped("a.txt", b"Hello")}}, "accepted", None),
        ({"attached": {"a.zip": zipped("b/a.js", b"1")}}, "attachment-forbidden", "attachments"),
        ({"attached": {"a.txt": b"MZ" + b"\0" * 1000}}, "attachment-forbidden", "attachments"),
        ({"attached": {"a.pdf.scr": b"Hello"}}, "attachment-suspicious", "attachments"),
        (
            {"attached": {"a.exe": b"Hello"}, "sender": "anna@junk.example", "client": "192.0.2.7"},
            *("attachment-forbidden", "attachments"),
        ),
    ],
)
async def test_what_becomes_of_mail(
    assembly: Assembly, facts: dict[str, object], reason: str, policy: str | None
):
    record = await judged(assembly, **facts)
    assert (record.reason, record.policy) == (reason, policy), record.detail


async def test_an_archive_that_is_a_bomb_is_refused(assembly: Assembly):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(20_000_000))
    record = await judged(assembly, attached={"a.zip": bomb.getvalue()})
    assert (record.reason, record.detail) == ("attachment-unreadable", "bombs: compression-ratio")


async def test_bulk_mail_goes_on_with_a_mark(assembly: Assembly):
    record = await judged(assembly, header={**HEADER, "Precedence": "bulk"})
    assert record.verdict == "accepted"
    effects = record.opinions["bulk"]["effects"]
    assert effects == [
        {"effect": "mark", "name": "X-Bulk", "value": "YES"},
        {"effect": "subject", "prefix": "[Bulk]"},
    ]


async def test_whoever_is_exempt_is_not_asked_about_and_the_record_says_why(assembly: Assembly):
    record = await judged(assembly, sender="anna@junk.example")
    assert record.opinions["header_sanity"]["exempted_by"] == "allowed_senders"
    assert record.opinions["attachments"]["verdict"] is None
    assert "exempted_by" not in record.opinions["attachments"]
