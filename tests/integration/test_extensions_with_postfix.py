"""Extensions through a real Postfix: UTF-8 addresses and chunks arrive as they were sent."""

import smtplib
from email import policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from deploy.demo.client import Client, Reply
from deploy.demo.daemons import LOOPBACK
from deploy.demo.fate import is_whole
from deploy.demo.gateway_process import Gateway
from deploy.demo.postfix import Postfix

CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.eml"))
SENDER = "jürgen@bücher.example"
CONTENT = (
    "From: Jürgen <jürgen@bücher.example>\r\nTo: b@example.com\r\nSubject: Grüße\r\n"
    "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@bücher.example>\r\n"
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\n.\r\nHallo ü\r\n"
).encode()


@pytest.fixture(scope="module")
def gateway(start_gateway) -> Gateway:
    return start_gateway()


def in_chunks(client: Client, content: bytes, size: int) -> Reply:
    """Envelope and content by BDAT; the reply to the last chunk."""
    for command in (b"EHLO client.example.org", b"MAIL FROM:<anna@example.org>", b"RCPT TO:<b@example.com>"):
        assert client.say(command + b"\r\n").accepted
    for at in range(0, len(content), size):
        chunk = content[at : at + size]
        reply = client.say(b"BDAT %d\r\n" % len(chunk) + chunk)
        assert reply.text == f"2.0.0 {len(chunk)} octets received"
    return client.say(b"BDAT 0 LAST\r\n")


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_arrives_by_chunks_as_by_data(gateway: Gateway, postfix: Postfix, path: Path):
    content = path.read_bytes()
    with Client(gateway.port) as client:
        replies = [in_chunks(client, content, max(1, len(content) // 3)), in_chunks(client, content, 65_536)]
        replies.append(client.send(content, ["b@example.com"])[-1])

    for reply in replies:
        assert reply.queue_id, reply
        assert is_whole(postfix.message(reply.queue_id), content)


def test_an_internationalized_message_arrives_byte_for_byte(gateway: Gateway, postfix: Postfix):
    with Client(gateway.port) as client:
        hello = client.say(b"EHLO client.example.org\r\n").text.splitlines()
        assert {"SMTPUTF8", "8BITMIME", "DSN", "CHUNKING", "LIMITS RCPTMAX=1000"} <= set(hello)
        assert client.say(f"MAIL FROM:<{SENDER}> SMTPUTF8 BODY=8BITMIME\r\n".encode()).accepted
        assert client.say(b"RCPT TO:<b@example.com>\r\n").accepted
        reply = client.say(b"BDAT %d LAST\r\n" % len(CONTENT) + CONTENT)

    assert reply.queue_id, reply
    received = postfix.message(reply.queue_id)
    assert is_whole(received, CONTENT)
    assert f"Return-Path: <{SENDER}>\r\n".encode() in received
    assert b"with UTF8SMTP id " in received
    assert gateway.records("--sender", SENDER)[-1]["reverse_path"] == SENDER


def test_pythons_own_client_sends_one(gateway: Gateway, postfix: Postfix):
    letter = EmailMessage(policy=policy.SMTPUTF8)
    letter["From"], letter["To"], letter["Subject"] = SENDER, "b@example.com", "Grüße"
    letter.set_content("Hallo ü\n")
    with smtplib.SMTP(LOOPBACK, gateway.port) as client:
        assert client.send_message(letter) == {}

    record = gateway.records("--sender", SENDER)[-1]
    received = postfix.message(record["downstream"]["reply"].rpartition(" ")[2])
    assert is_whole(received, letter.as_bytes())


def test_an_unknown_recipient_beyond_ascii_gets_postfixs_own_answer(gateway: Gateway):
    with Client(gateway.port) as client:
        client.say(b"EHLO client.example.org\r\n")
        assert client.say(b"MAIL FROM:<anna@example.org> SMTPUTF8\r\n").accepted
        refused = client.say("RCPT TO:<jürgen@example.com>\r\n".encode())

    assert refused.code == 550
    assert refused.text.startswith("5.1.1 <j??rgen@example.com>: Recipient address rejected")
