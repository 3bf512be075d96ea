"""A spamd that does what a test orders: the SPAMC protocol, the commands SYMBOLS and PING."""

from collections.abc import Sequence

from filters.testing.server import Behaviour, Conversation, FakeServer

# In two halves, lest a spam filter takes this file for spam.
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def answer(reply: bytes) -> Behaviour:
    """Read the whole request, answer this, close."""

    def behave(talk: Conversation) -> None:
        read_request(talk)
        talk.say(reply)

    return behave


def verdict(score: float, rules: Sequence[str] = ()) -> Behaviour:
    """Give every message this score for these rules."""
    return answer(symbols(score, rules))


def symbols(score: float, rules: Sequence[str] = (), threshold: float = 5.0) -> bytes:
    """What spamd answers to SYMBOLS."""
    body = ",".join(rules).encode()
    spam = f"Spam: {score >= threshold} ; {score:.1f} / {threshold:.1f}"
    return f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(body)}\r\n{spam}\r\n\r\n".encode() + body


def judge(talk: Conversation) -> None:
    """What spamd does: finds the GTUBE test string, and holds nothing else against anybody."""
    if read_request(talk).startswith("PING "):
        talk.say(b"SPAMD/1.5 0 PONG\r\n")
    elif GTUBE in talk.content:
        talk.say(symbols(1000.0, ["GTUBE", "NO_RECEIVED"]))
    else:
        talk.say(symbols(0.0, ["NO_RECEIVED"]))


def read_request(talk: Conversation) -> str:
    """The request line; the message behind it is kept as `talk.content`, the fields as `talk.fields`."""
    head = talk.read_until(b"\r\n\r\n").decode("ascii")
    line, *fields = head.splitlines()
    talk.fields = dict(field.split(": ", 1) for field in fields if field)
    talk.content = talk.read_exactly(int(talk.fields.get("Content-length", "0")))
    return line


class FakeSpamd(FakeServer):
    """Judges like spamd unless told otherwise."""

    def __init__(self, behaviour: Behaviour = judge, *, unix: str | None = None) -> None:
        super().__init__(behaviour, unix=unix)
