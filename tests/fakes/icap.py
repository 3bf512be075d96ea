"""An ICAP server that does what a test orders: RFC 3507, OPTIONS and RESPMOD with previews."""

from collections.abc import Callable

from filters.testing import Behaviour, Conversation, FakeServer
from tests.fakes.clamd import EICAR, EICAR_SIGNATURE

OFFER = (
    b'ICAP/1.0 200 OK\r\nMethods: RESPMOD, REQMOD\r\nService: a scanner\r\nISTag: "1"\r\n'
    b"Options-TTL: 3600\r\nPreview: 4\r\nAllow: 204\r\nEncapsulated: null-body=0\r\n\r\n"
)
CONTINUE = b"ICAP/1.0 100 Continue\r\n\r\n"
CLEAN = b'ICAP/1.0 204 Unmodified\r\nConnection: close\r\nISTag: "1"\r\n\r\n'
PAGE = b"HTTP/1.0 403 Forbidden\r\nContent-Type: text/html\r\n\r\n"


def answer(reply: bytes, offer: bytes = OFFER) -> Behaviour:
    """Offer this, read the whole message, answer this, close."""
    return converse(lambda _: reply, offer)


def answer_preview(reply: bytes) -> Behaviour:
    """Answer this to the preview, close."""

    def behave(talk: Conversation) -> None:
        while read_head(talk).startswith("OPTIONS "):
            talk.say(OFFER)
        read_chunks(talk)
        talk.say(reply)

    return behave


def infected(*fields: str, status: str = "200 OK", http: bytes = PAGE) -> bytes:
    """An answer with these header fields and this encapsulated response."""
    lines = (
        f"ICAP/1.0 {status}",
        "Connection: close",
        *fields,
        "Encapsulated: res-hdr=0, res-body=52",
        "",
        "",
    )
    return "\r\n".join(lines).encode("latin-1") + http + b"5\r\nvirus\r\n0\r\n\r\n"


def scan(talk: Conversation) -> None:
    """What a scanner does: finds the EICAR test file wherever it stands."""
    converse(_scan, OFFER)(talk)


def converse(judge: Callable[[bytes], bytes], offer: bytes) -> Behaviour:
    """Answer OPTIONS with `offer`, and a message with what `judge` has to say of it."""

    def behave(talk: Conversation) -> None:
        while True:
            if read_head(talk).startswith("OPTIONS "):
                talk.say(offer)
                continue
            talk.content = read_chunks(talk)
            if "Preview" in talk.fields:
                talk.say(CONTINUE)
                talk.content += read_chunks(talk)
            talk.say(judge(talk.content))
            return

    return behave


def read_head(talk: Conversation) -> str:
    """The request line; fields are kept as `talk.fields`, what is encapsulated is read away."""
    head = talk.read_until(b"\r\n\r\n").decode("ascii")
    line, *fields = head.splitlines()
    talk.fields = dict(field.split(": ", 1) for field in fields if field)
    *_, (part, offset) = (each.strip().split("=") for each in talk.fields["Encapsulated"].split(","))
    assert part == "null-body" or part.endswith("-body")
    talk.read_exactly(int(offset))
    return line


def read_chunks(talk: Conversation) -> bytes:
    """A chunked body."""
    octets = b""
    while size := int(talk.read_until(b"\r\n"), 16):
        octets += talk.read_exactly(size)
        assert talk.read_exactly(2) == b"\r\n"
    assert talk.read_exactly(2) == b"\r\n"
    return octets


def _scan(content: bytes) -> bytes:
    threat = f"X-Infection-Found: Type=0; Resolution=2; Threat={EICAR_SIGNATURE};"
    return infected(threat) if EICAR in content else CLEAN


class FakeICAP(FakeServer):
    """Scans unless told otherwise."""

    def __init__(self, behaviour: Behaviour = scan, *, unix: str | None = None) -> None:
        super().__init__(behaviour, unix=unix)
