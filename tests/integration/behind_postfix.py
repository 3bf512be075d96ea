"""What becomes of mail that a client gives to a Postfix whose milter the gateway is, for tests to look at."""

from typing import Any

from deploy.demo.client import Client, Reply, on_the_wire
from deploy.demo.gateway_process import MilterGateway
from tests.fakes.mta import Attempt, FakeMTA
from tests.waiting import soon

A = "a@example.com"
PATIENCE = 30.0


def delivered(sink: FakeMTA, reply: Reply) -> Attempt:
    """What the sink got under the name that Postfix gave it, waited for."""
    assert reply.queue_id, reply
    trace = f" id {reply.queue_id}".encode()
    return soon(
        lambda: next((each for each in sink.messages if trace in each.content[:1000]), None), PATIENCE
    )


def recorded(gateway: MilterGateway, reply: Reply) -> dict[str, Any]:
    """The record of that reply: by our reference if it bears one, else by Postfix's name for the message."""
    if reply.reference:
        return gateway.record(reply.reference)

    def find() -> dict[str, Any] | None:
        records = (each for each in gateway.records() if each["mta"]["queue_id"] == reply.queue_id)
        return next(records, None)

    return soon(find, PATIENCE)


def begin(client: Client, sender: str, *recipients: str) -> list[Reply]:
    """The replies to MAIL and each RCPT."""
    client.say(b"EHLO client.example.org\r\n")
    commands = [f"MAIL FROM:<{sender}> SMTPUTF8", *(f"RCPT TO:<{each}>" for each in recipients)]
    return [client.say(f"{command}\r\n".encode()) for command in commands]


def finish(client: Client, content: bytes) -> Reply:
    """The reply to the message."""
    assert client.say(b"DATA\r\n").code == 354
    return client.say(on_the_wire(content))
