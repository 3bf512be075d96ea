"""The gateway beside Postfix: asked by it (smtpd_proxy_filter), believed by it (XCLIENT); and a balancer."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from deploy.demo.client import Client
from deploy.demo.daemons import free_port
from deploy.demo.gateway_process import Gateway, dnsbl
from deploy.demo.messages import LISTED_CLIENT, clean
from deploy.demo.nameserver import Nameserver
from deploy.demo.postfix import Postfix

ZONE = "bl.example.net"
ORDER = ["recipients", "blocklist"]
GOOD_CLIENT, UNWANTED_CLIENT = "127.0.0.5", "127.0.0.6"


@pytest.fixture(scope="module")
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ZONE, [LISTED_CLIENT]) as server:
        yield server


# Behind Postfix


class Front:
    """An smtpd that asks the gateway about every message, and the gateway that goes on to another one."""

    def __init__(self, nameserver: Nameserver) -> None:
        self.port = free_port()
        self.postfix = Postfix()
        self.gateway = Gateway(
            self.postfix.address,
            filters=[dnsbl(nameserver.address, ZONE)],
            order=ORDER,
            listener='xclient = ["127.0.0.1"]',
        )
        self.postfix.services = [
            f"127.0.0.1:{self.port} inet n - n - - smtpd",
            f"  -o smtpd_proxy_filter={self.gateway.address} -o smtpd_client_connection_count_limit=0",
        ]


@pytest.fixture(scope="module")
def front(nameserver: Nameserver) -> Iterator[Front]:
    front = Front(nameserver)
    with front.postfix, front.gateway:
        yield front


def test_postfix_asks_the_gateway_before_it_takes_a_message(front: Front):
    with Client(front.port, GOOD_CLIENT) as client:
        reply = client.send(clean(), ["a@example.com", "b@example.com"])[-1]
    assert reply.queue_id, reply
    received = front.postfix.message(reply.queue_id)
    assert received.endswith(clean().partition(b"\r\n\r\n")[2])
    assert f"from client.example.org (unknown [{GOOD_CLIENT}])".encode() in received
    (record,) = [r for r in front.gateway.records() if r["verdict"] == "accepted"]
    client = record["client"]
    assert (client["address"], client["helo"], client["name"]) == (GOOD_CLIENT, "client.example.org", None)
    assert record["recipients"] == ["a@example.com", "b@example.com"]
    assert f"client=unknown[{GOOD_CLIENT}]" in front.postfix.log.read_text()


def test_a_listed_client_is_refused_through_postfix(front: Front):
    with Client(front.port, LISTED_CLIENT) as client:
        reply = client.send(clean(), ["b@example.com"])[-1]
    assert (reply.code, reply.text[:5]) == (550, "5.7.1")
    record = front.gateway.record(reply.reference or "")
    assert (record["reason"], record["client"]["address"]) == ("dns-blocklisted", LISTED_CLIENT)


def test_postfix_goes_on_with_the_next_message_and_client(front: Front):
    with Client(front.port, LISTED_CLIENT) as listed, Client(front.port, UNWANTED_CLIENT) as client:
        assert listed.send(clean(), ["b@example.com"])[-1].code == 550
        for _ in range(2):
            reply = client.send(clean(), ["b@example.com"])[-1]
            assert front.postfix.message(reply.queue_id or "")
        assert listed.say(b"RSET\r\n").code == 250
        assert listed.send(clean(), ["b@example.com"])[-1].code == 550


# In front of Postfix


@pytest.fixture(scope="module")
def back() -> Iterator[tuple[Postfix, str]]:
    """A Postfix, and the address where it believes XCLIENT and does not want everybody."""
    port = free_port()
    unwanted = f"check_client_access inline:{{{UNWANTED_CLIENT}=REJECT}}"
    postfix = Postfix()
    postfix.services = [
        f"127.0.0.1:{port} inet n - n - - smtpd",
        "  -o smtpd_authorized_xclient_hosts=127.0.0.1 -o smtpd_client_connection_count_limit=0",
        f"  -o {{ smtpd_client_restrictions = {unwanted} }}",
    ]
    with postfix:
        yield postfix, f"127.0.0.1:{port}"


@pytest.mark.parametrize("identify", ["auto", "xclient"])
def test_postfix_takes_the_gateway_for_the_client(back: tuple[Postfix, str], identify: str):
    postfix, address = back
    with Gateway(address, relay=f'identify = "{identify}"') as gateway:
        for source in (GOOD_CLIENT, "127.0.0.7", GOOD_CLIENT):
            with Client(gateway.port, source) as client:
                reply = client.send(clean(), ["b@example.com"])[-1]
            received = postfix.message(reply.queue_id or "")
            assert f"from client.example.org (unknown [{source}])\r\n\tby downstream".encode() in received
        with Client(gateway.port, UNWANTED_CLIENT) as client:
            refused = client.send(clean(), ["b@example.com"])[-1]
        assert (refused.code, "Client host rejected" in refused.text) == (554, True)
        with Client(gateway.port, GOOD_CLIENT) as client:
            assert client.send(clean(), ["b@example.com"])[-1].queue_id


def test_postfix_that_believes_nobody_gets_no_mail_where_it_must(back: tuple[Postfix, str]):
    postfix, _ = back
    with Gateway(postfix.address, relay='identify = "xclient"') as gateway:
        with Client(gateway.port) as client:
            reply = client.send(clean(), ["b@example.com"])[-1]
        assert (reply.code, reply.text[:5]) == (451, "4.4.1")
        assert gateway.record(reply.reference or "")["reason"] == "downstream-unavailable"


# Behind a balancer

HEADER = b"PROXY TCP4 203.0.113.9 192.0.2.1 1234 25\r\n"
SAID = b"EHLO c.example\r\nMAIL FROM:<s@a.example>\r\nRCPT TO:<x@elsewhere.example>\r\nQUIT\r\n"


def record_of(gateway: Gateway, sock: socket.socket) -> dict:
    """What is recorded of a session with a refused recipient."""
    with sock, sock.makefile("rb") as lines:
        sock.sendall(SAID)
        replies = lines.read().decode()
    return gateway.record(replies.partition("(ref ")[2].partition(")")[0])


def test_a_balancer_brings_its_client(postfix: Postfix):
    with Gateway(postfix.address, listener='proxy_protocol = ["127.0.0.1"]') as gateway:
        sock = socket.create_connection(("127.0.0.1", gateway.port), 30)
        sock.sendall(HEADER)
        record = record_of(gateway, sock)
    assert (record["client"]["address"], record["client"]["port"]) == ("203.0.113.9", 1234)


def test_a_balancer_brings_its_client_where_tls_begins_at_once(postfix: Postfix, tmp_path: Path):
    authority, trust = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trust)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    listener = (
        f'tls_certificate = "{tmp_path}/both.pem"\ntls_key = "{tmp_path}/both.pem"\n'
        'tls_implicit = true\nproxy_protocol = ["127.0.0.1"]'
    )
    with Gateway(postfix.address, listener=listener) as gateway:
        for _ in range(5):
            sock = socket.create_connection(("127.0.0.1", gateway.port), 30)
            sock.sendall(HEADER)
            record = record_of(gateway, trust.wrap_socket(sock, server_hostname="localhost"))
            assert record["client"]["address"] == "203.0.113.9"
            assert record["client"]["tls"]
