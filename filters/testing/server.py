"""Stream servers that behave as ordered: the daemon's side of a filter's tests.

A fake is a real server on 127.0.0.1 with threads of its own, so that a test may block, or run the
gateway in another process, while the fake goes on. Use it as `with FakeX() as fake` or
`async with FakeX() as fake`; `fake.address` is where it listens.
"""

import abc
import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

# No test may hang for ever; none should ever come near these.
PATIENCE = 10.0
LONGEST_TALK = 60.0
# More octets than anybody has a reason to read.
FLOOD = 32 * 1024 * 1024


class Cut(Exception):
    """The behaviour has said all that it may."""


class Conversation:
    """One connection as the fake sees it.

    `received` is everything the peer sent and `said` what it was answered; `content` is the message
    and `fields` the header of the request, where a behaviour keeps them; `left` is set once the peer
    has closed or reset.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = bytearray()
        self.said = bytearray()
        self.content = b""
        self.fields: dict[str, str] = {}
        self.left = threading.Event()
        self.stopped = threading.Event()
        self._may_say: int | None = None

    def read(self, size: int = 65_536) -> bytes:
        """What comes next; empty once the peer has closed, reset, or said that nothing more comes."""
        try:
            octets = self.socket.recv(size)
        except TimeoutError:
            raise
        except OSError:
            octets = b""
            self.left.set()
        self.received += octets
        return octets

    def read_exactly(self, size: int) -> bytes:
        """So many octets, or EOFError."""
        octets = b""
        while len(octets) < size:
            more = self.read(size - len(octets))
            if not more:
                raise EOFError
            octets += more
        return octets

    def read_until(self, end: bytes) -> bytes:
        """Everything up to and with `end`, or EOFError."""
        octets = b""
        while not octets.endswith(end):
            octets += self.read_exactly(1)
        return octets

    def say(self, octets: bytes) -> None:
        """Answer, whether or not anybody still listens. Raises Cut behind the last octet allowed."""
        if self._may_say is not None:
            octets = octets[: self._may_say - len(self.said)]
        self.said += octets
        try:
            self.socket.sendall(octets)
        except OSError:
            self.left.set()
        if len(self.said) == self._may_say:
            raise Cut

    def cut(self, size: int) -> None:
        """Allow so many octets to be said, and no more."""
        self._may_say = size

    def allow_all(self) -> None:
        """Take that back."""
        self._may_say = None

    def wait_until_left(self) -> None:
        """Read on until the peer closes.

        What ends what it sends may be half a close; only by saying something, which it makes
        nothing of, the rest can be told.
        """
        while self.read():
            continue
        while not self.left.is_set() and not self.stopped.wait(0.01):
            self.say(b"?")

    def reset(self) -> None:
        """Close with an RST instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def has_left(self) -> bool:
        """Whether the peer closes within PATIENCE seconds."""
        return await asyncio.to_thread(self.left.wait, PATIENCE)


Behaviour = Callable[[Conversation], None]


def mute(talk: Conversation) -> None:
    """Take the connection and close it at once."""


def hang(talk: Conversation) -> None:
    """Read everything, answer nothing."""
    talk.wait_until_left()


def trickle(talk: Conversation) -> None:
    """Answer with one octet, then with nothing more."""
    talk.say(b"s")
    talk.wait_until_left()


def drip(talk: Conversation) -> None:
    """Answer with one octet after the other, and never with the last."""
    while not talk.left.is_set() and not talk.stopped.wait(0.01):
        talk.say(b"s")


def deaf(talk: Conversation) -> None:
    """Read nothing, answer nothing, keep the connection."""
    talk.stopped.wait()


def flood(octets: bytes) -> Behaviour:
    """Answer with these octets over and over, up to FLOOD of them, for as long as anybody listens."""

    def behave(talk: Conversation) -> None:
        while len(talk.said) < FLOOD and not talk.left.is_set() and not talk.stopped.is_set():
            talk.say(octets * 10_000)

    return behave


def cut_off(behaviour: Behaviour, size: int, then: Behaviour = mute) -> Behaviour:
    """Do as ordered until so many octets are said; then do something else, by default close."""

    def behave(talk: Conversation) -> None:
        talk.cut(size)
        try:
            behaviour(talk)
        except Cut:
            talk.allow_all()
            then(talk)

    return behave


def close_after(size: int) -> Behaviour:
    """Read so many octets, then close."""

    def behave(talk: Conversation) -> None:
        try:
            talk.read_exactly(size)
        except EOFError:
            return

    return behave


def reset_after(size: int) -> Behaviour:
    """Read so many octets, then reset."""

    def behave(talk: Conversation) -> None:
        close_after(size)(talk)
        talk.reset()

    return behave


def say_early(octets: bytes, after: int = 0) -> Behaviour:
    """Answer after so many octets of the request, and close without reading the rest."""

    def behave(talk: Conversation) -> None:
        close_after(after)(talk)
        talk.say(octets)

    return behave


class Fake(abc.ABC):
    """Something that runs for as long as a block lasts, with `with` and with `async with` alike."""

    address: str

    @abc.abstractmethod
    def start(self) -> Self:
        """Begin."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End, and wait for it."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)


class FakeServer(Fake):
    """Listens, counts, remembers. `behaviour` may be changed while it runs.

    `conversations` holds one entry for each connection, in order. Given `unix`, a path, it listens
    there and not on a port; without, on `port`, where 0 is any that is free.
    """

    port = 0

    def __init__(self, behaviour: Behaviour, *, unix: str | None = None) -> None:
        self.behaviour = behaviour
        self.conversations: list[Conversation] = []
        self._unix = unix
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()

    @property
    def connections(self) -> int:
        """How many connections there were."""
        return len(self.conversations)

    @property
    def last(self) -> Conversation:
        """The latest conversation."""
        return self.conversations[-1]

    async def wait_for_connections(self, count: int) -> None:
        """Wait until there were so many connections, or fail."""
        assert await asyncio.to_thread(self._wait, count), f"{self.connections} connections, not {count}"

    def start(self) -> Self:
        """Listen."""
        if self._unix:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self._unix)
            self.address = f"unix:{self._unix}"
        else:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self.address = "{}:{}".format(*self._listener.getsockname())
        self._listener.listen()
        self._start_thread(self._accept)
        return self

    def stop(self) -> None:
        """Close everything and wait for all threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE)
        for talk in self.conversations:
            talk.stopped.set()
            with contextlib.suppress(OSError):  # closed already
                talk.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a fake did not stop"
        self._listener.close()

    def _wait(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.connections >= count, PATIENCE)

    def _start_thread(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(LONGEST_TALK)
            talk = Conversation(sock)
            with self._changed:
                self.conversations.append(talk)
                self._changed.notify_all()
            self._start_thread(self._talk, talk)

    def _talk(self, talk: Conversation) -> None:
        # EOFError: the peer left in the middle of its request.
        with talk.socket, contextlib.suppress(EOFError):
            self.behaviour(talk)


class Nobody:
    """An address on which connections are refused, for as long as the block lasts."""

    def __enter__(self) -> Self:
        # Bound and not listening: the port is taken, and nobody else can begin to answer on it.
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class BlackHole:
    """An address on which connections are neither taken nor refused."""

    def __enter__(self) -> Self:
        # A full backlog: the kernel drops what comes.
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._fill = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(self._listener.getsockname())
            self._fill.append(sock)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._fill:
            sock.close()
        self._listener.close()
