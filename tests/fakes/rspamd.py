"""An Rspamd that does what a test orders: its HTTP protocol, `POST /checkv2` and `GET /ping`."""

import json
from collections.abc import Mapping

from filters.testing import Behaviour, Conversation, FakeServer
from tests.fakes.spamd import GTUBE


def answer(reply: bytes) -> Behaviour:
    """Read the whole request, answer this, close."""

    def behave(talk: Conversation) -> None:
        read_request(talk)
        talk.say(reply)

    return behave


def http(body: bytes, status: str = "200 OK") -> bytes:
    """A response with this body."""
    head = (
        f"HTTP/1.1 {status}\r\nConnection: close\r\nServer: rspamd/3.4\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def report(score: float, symbols: Mapping[str, float] | None = None, **fields: object) -> bytes:
    """What Rspamd answers to /checkv2."""
    found = {name: {"name": name, "score": weight} for name, weight in (symbols or {}).items()}
    action = "reject" if score >= 15 else "no action"
    facts = {"score": score, "required_score": 15.0, "action": action, "symbols": found}
    return http(json.dumps({"is_skipped": False, **facts, **fields}).encode())


def judge(talk: Conversation) -> None:
    """What Rspamd does: finds the GTUBE test string, and holds little else against anybody."""
    line = read_request(talk)
    if line.startswith("GET /ping "):
        talk.say(http(b"pong\r\n"))
    elif GTUBE in talk.content:
        talk.say(report(25.0, {"GTUBE": 25.0, "MIME_TRACE": 0.0}))
    else:
        talk.say(report(0.0, {"MIME_TRACE": 0.0}))


def read_request(talk: Conversation) -> str:
    """The request line; the body is kept as `talk.content`, the fields as `talk.fields`."""
    head = talk.read_until(b"\r\n\r\n").decode("utf-8")
    line, *fields = head.splitlines()
    talk.fields = dict(field.split(": ", 1) for field in fields if field)
    talk.content = talk.read_exactly(int(talk.fields.get("Content-Length", "0")))
    return line


class FakeRspamd(FakeServer):
    """Judges like Rspamd unless told otherwise."""

    def __init__(self, behaviour: Behaviour = judge, *, unix: str | None = None) -> None:
        super().__init__(behaviour, unix=unix)
