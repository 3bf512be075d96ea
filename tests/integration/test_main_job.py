"""The main job through real daemons: junk is refused and explained, everything else arrives as it was."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.client import Client
from deploy.demo.daemons import Clamd, Spamd
from deploy.demo.fate import is_whole, try_out
from deploy.demo.front import FRONTS, Front
from deploy.demo.gateway_process import Gateway, clamav, dnsbl, spamassassin
from deploy.demo.messages import LISTED_CLIENT, Sample, clean, dots_and_octets, samples
from deploy.demo.nameserver import Nameserver
from deploy.demo.postfix import Postfix

CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.eml"))
ZONE = "bl.example.net"
ORDER = ("recipients", "blocklist", "virus", "spam")


@pytest.fixture(scope="module")
def nameserver() -> Iterator[Nameserver]:
    with Nameserver(ZONE, [LISTED_CLIENT]) as server:
        yield server


@pytest.fixture(scope="module")
def filters(clamd: Clamd, spamd: Spamd, nameserver: Nameserver) -> list[str]:
    return [clamav(clamd.address), spamassassin(spamd.address), dnsbl(nameserver.address, ZONE)]


@pytest.fixture(scope="module")
def gateway(start_gateway, filters: list[str]) -> Gateway:
    return start_gateway(filters=filters, order=ORDER)


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest, filters: list[str]) -> Iterator[Front]:
    """Each way the demonstration can be asked for."""
    with contextlib.ExitStack() as running:
        yield FRONTS[request.param](running.enter_context, filters, ORDER)


@pytest.fixture(scope="module")
def carrier(start_gateway, clamd: Clamd) -> Gateway:
    """Asks no spamd, to which some of the corpus rightly looks like spam; over clamd's Unix socket."""
    return start_gateway(filters=[clamav(clamd.unix_address)], order=["recipients", "virus"])


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.what)
def test_each_sample_of_the_demonstration_meets_its_fate(front: Front, sample: Sample):
    fate = try_out(front, sample)

    assert not fate.differences, f"{fate.reply}\n{fate.record}"


@pytest.mark.parametrize("front", ["", "Milter", "milter proxy"])
def test_a_front_that_is_none_is_an_error_in_one_line(front: str):
    command = [sys.executable, "-m", "deploy.demo", *front.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", f"error: FRONT is proxy or milter, not {front!r}\n")


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_passes_byte_for_byte(carrier: Gateway, postfix: Postfix, path: Path):
    content = path.read_bytes()
    with Client(carrier.port) as client:
        reply = client.send(content, ["b@example.com"])[-1]

    assert reply.queue_id, reply
    assert is_whole(postfix.message(reply.queue_id), content)


def test_a_refusal_bears_the_reference_of_its_explanation(gateway: Gateway):
    with Client(gateway.port) as client:
        reply = client.send(clean(), ["b@elsewhere.example.net"])[-1]

    assert reply.reference
    gateway.record(reply.reference)
    assert "relay-denied" in gateway.ask("explain", reply.reference)


def test_each_recipient_gets_the_downstreams_own_answer(gateway: Gateway, postfix: Postfix):
    with Client(gateway.port) as client:
        replies = client.send(clean(), ["a@example.com"])
        assert replies[-1].queue_id
        assert is_whole(postfix.message(replies[-1].queue_id), clean())
        refused = client.send(clean(), ["nobody@example.com"])[-1]

    assert refused.text.startswith("5.1.1 <nobody@example.com>: Recipient address rejected")


def test_several_messages_in_one_connection_keep_apart(gateway: Gateway, postfix: Postfix):
    spam = next(sample for sample in samples() if sample.reason == "spam-score")
    contents = [clean(), spam.content, dots_and_octets()]
    with Client(gateway.port) as client:
        replies = [client.send(content, ["b@example.com"])[-1] for content in contents]

    assert [reply.code for reply in replies] == [250, 550, 250]
    assert is_whole(postfix.message(replies[0].queue_id or ""), contents[0])
    assert is_whole(postfix.message(replies[2].queue_id or ""), contents[2])
