"""A clamd that does what a test orders: clamd(8), the commands INSTREAM and VERSION."""

from filters.testing.server import Behaviour, Conversation, FakeServer

EICAR_SIGNATURE = "Eicar-Test-Signature"
# In two halves, lest a virus scanner takes this file for the test file itself.
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
VERSION = "ClamAV 1.4.6/27000/Mon Nov 23 10:00:00 2026"
SIZE_LIMIT_REPLY = b"INSTREAM size limit exceeded. ERROR\0"


def answer(reply: bytes) -> Behaviour:
    """Read the whole message, answer this, close."""

    def behave(talk: Conversation) -> None:
        read_request(talk)
        talk.say(reply)

    return behave


def limit_size(limit: int) -> Behaviour:
    """Say at the first chunk that goes over the limit that it does, and close with the rest unread."""

    def behave(talk: Conversation) -> None:
        read_command(talk)
        size = 0
        while length := int.from_bytes(talk.read_exactly(4), "big"):
            size += length
            if size > limit:
                talk.say(SIZE_LIMIT_REPLY)
                return
            talk.read_exactly(length)
        talk.say(b"stream: OK\0")

    return behave


def scan(talk: Conversation) -> None:
    """What clamd does: finds the EICAR test file wherever it stands."""
    command = read_request(talk)
    if command == "VERSION":
        talk.say(VERSION.encode() + b"\n")
    elif EICAR in talk.content:
        talk.say(f"stream: {EICAR_SIGNATURE} FOUND\0".encode())
    else:
        talk.say(b"stream: OK\0")


def read_command(talk: Conversation) -> str:
    """A command in its NUL or its newline form, as its first octet says."""
    end = {b"z": b"\0", b"n": b"\n"}[talk.read_exactly(1)]
    return talk.read_until(end)[:-1].decode("ascii")


def read_request(talk: Conversation) -> str:
    """A command, and the content behind INSTREAM, which is kept as `talk.content`."""
    command = read_command(talk)
    if command == "INSTREAM":
        chunks = []
        while length := int.from_bytes(talk.read_exactly(4), "big"):
            chunks.append(talk.read_exactly(length))
        talk.content = b"".join(chunks)
    return command


class FakeClamd(FakeServer):
    """Scans like clamd unless told otherwise."""

    def __init__(self, behaviour: Behaviour = scan, *, unix: str | None = None) -> None:
        super().__init__(behaviour, unix=unix)
