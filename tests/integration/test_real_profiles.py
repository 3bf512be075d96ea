"""A mailbox that takes what others refuse, between real daemons: reports of spam look like spam."""

import pytest

from deploy.demo.client import Client
from deploy.demo.daemons import Spamd
from deploy.demo.gateway_process import Gateway, spamassassin
from deploy.demo.messages import gtube
from deploy.demo.postfix import Postfix

_PROFILE = """\
[[profile]]
recipients = ["postmaster@example.com"]
[profile.policies.spam]
mode = "off"
"""


@pytest.fixture(scope="module")
def gateway(start_gateway, spamd: Spamd) -> Gateway:
    return start_gateway(filters=[spamassassin(spamd.address), _PROFILE], order=["recipients", "spam"])


def test_a_profile_takes_what_the_general_settings_refuse(gateway: Gateway, postfix: Postfix):
    with Client(gateway.port) as client:
        refused = client.send(gtube(), ["a@example.com"])[-1]
        taken = client.send(gtube(), ["postmaster@example.com"])[-1]

    assert (refused.code, taken.code) == (550, 250)
    assert gtube() in postfix.message(taken.queue_id or "")
    assert gateway.record(refused.reference or "")["profile"] is None
    assert gateway.records("--recipient", "postmaster@example.com")[-1]["profile"] == "postmaster@example.com"


def test_with_prdr_both_have_their_answer_at_once(gateway: Gateway, postfix: Postfix):
    with Client(gateway.port) as client:
        commands = ["EHLO client.example.org", "MAIL FROM:<anna@example.org> PRDR"]
        commands += ["RCPT TO:<a@example.com>", "RCPT TO:<postmaster@example.com>", "DATA"]
        replies = [client.say(f"{command}\r\n".encode()).code for command in commands]
        replies.append(client.say(gtube() + b".\r\n").code)
        replies += [client.say(b"").code for _ in range(3)]

    assert replies[-4:] == [353, 550, 250, 250]
