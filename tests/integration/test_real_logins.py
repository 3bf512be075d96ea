"""Logins carried through to a real Postfix with Cyrus SASL, by Python's own client."""

import base64
import smtplib
import ssl
from collections.abc import Iterator

import pytest
import trustme

from deploy.demo.gateway_process import Gateway, certificate
from deploy.demo.postfix import Postfix

USER, PASSWORD = "anna", "correct horse battery"
WRONG = "not the password of anybody"
CONTENT = b"Subject: login\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def mailer() -> Iterator[Postfix]:
    with Postfix(passwords={USER: PASSWORD}) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def gateway(
    mailer: Postfix, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    issued, directory = authority.issue_cert("127.0.0.1"), tmp_path_factory.mktemp("certificate")
    issued.cert_chain_pems[0].write_to_path(directory / "chain.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    tls = certificate(directory / "chain.pem", directory / "key.pem")
    with Gateway(mailer.address, listener=tls, domain="*") as running:
        yield running


@pytest.fixture
def client(gateway: Gateway, authority: trustme.CA) -> Iterator[smtplib.SMTP]:
    """A client in TLS that has said EHLO."""
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with smtplib.SMTP("127.0.0.1", gateway.port, "client.example.org") as connected:
        connected.starttls(context=trust)
        connected.ehlo()
        yield connected


def log_in(client: smtplib.SMTP, mechanism: str, password: str) -> tuple[int, bytes]:
    client.esmtp_features["auth"] = mechanism
    return client.login(USER, password)


def test_what_postfix_offers_and_can_be_carried_is_offered(client: smtplib.SMTP):
    assert set(client.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN", "CRAM-MD5"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_postfix_knows_whose_mail_it_is(
    gateway: Gateway, mailer: Postfix, client: smtplib.SMTP, mechanism: str
):
    assert log_in(client, mechanism, PASSWORD)[0] == 235
    for _ in range(2):
        client.mail("anna@example.com")
        assert client.rcpt("b@example.com")[0] == 250
        code, text = client.data(CONTENT)
        assert code == 250
        message = mailer.message(text.decode().rpartition(" ")[2])
        assert b"(Authenticated sender: anna@example.com)" in message
        assert b"with ESMTPSA id" in message
    record = gateway.records()[-1]
    assert record["client"]["authenticated"] == USER


def test_nobody_who_did_not_log_in_passes_for_somebody(mailer: Postfix, client: smtplib.SMTP):
    client.mail("anna@example.com")
    client.rcpt("b@example.com")
    message = mailer.message(client.data(CONTENT)[1].decode().rpartition(" ")[2])
    assert b"Authenticated sender" not in message


def test_where_everything_is_relayed_postfix_knows_for_whom(client: smtplib.SMTP):
    client.mail("anna@example.com")
    code, text = client.rcpt("b@example.net")
    assert (code, b"Relay access denied" in text) == (554, True)
    client.rset()
    log_in(client, "PLAIN", PASSWORD)
    client.mail("anna@example.com")
    assert client.rcpt("b@example.net")[0] == 250


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_wrong_password_is_refused_by_postfix(gateway: Gateway, client: smtplib.SMTP, mechanism: str):
    with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
        log_in(client, mechanism, WRONG)
    assert refusal.value.smtp_code == 535
    text = refusal.value.smtp_error.decode()
    record = gateway.record(text.rpartition("(ref ")[2].rstrip(")"))
    assert (record["reason"], record["detail"]) == ("authentication-failed", f"AUTH {mechanism}")
    assert "authentication-failed" in gateway.ask("explain", record["reference"])
    assert log_in(client, mechanism, PASSWORD)[0] == 235


def test_no_password_is_in_any_file(gateway: Gateway):
    kept = [file.read_bytes() for file in gateway.directory.rglob("*") if file.is_file()]
    assert any(USER.encode() in octets for octets in kept)
    for password in (PASSWORD, WRONG):
        for secret in (password, f"\0{USER}\0{password}"):
            for octets in kept:
                assert secret.encode() not in octets
                assert base64.b64encode(secret.encode()).rstrip(b"=") not in octets
