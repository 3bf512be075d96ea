"""The thread between the supervisor and a process.

Downwards: the end of standard input, or SIGTERM from anybody, says that it is time to finish; SIGUSR2 says
that a successor is there, so that whoever has sessions can take its time. Upwards: a line
when the process does its work, or why it cannot; then an octet a second for as long as its event loop
turns; a policy that never returns is noticed by that. Another octet among them asks for a successor, with
the reason up to the end of the line. SIGUSR1, from whoever suspects a leak, has the process say in the log
what it has in hand.
"""

import asyncio
import contextlib
import os
import signal
import sys

import structlog

READY = b"ready\n"
REFUSED = b"refused "
BEAT = b"."
UNWELL = b"!"
BEAT_INTERVAL = 1.0
IN_HAND = "what is in hand"

# Less than a pipe takes at once, so that nothing comes between (PIPE_BUF in pipe(7)).
_MAX_REASON = 3000

_log = structlog.get_logger()


def take_upwards() -> int:
    """The descriptor of the way to the supervisor.

    What a plugin prints belongs to the log and not into that pipe: standard output leads there from now on.
    """
    upwards = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return upwards


def refuse(upwards: int, reason: str) -> None:
    """Tell the supervisor why there will be no work."""
    with contextlib.suppress(BrokenPipeError):
        os.write(upwards, REFUSED + _line(reason) + b"\n")


def _line(reason: str) -> bytes:
    return " ".join(reason.splitlines()).encode("utf-8", "replace")[:_MAX_REASON]


class Control:
    """To be created inside the running event loop. `upwards` is what `take_upwards` gave.

    `is_deaf` is for a process with a library in it that listens for signals itself: SIGTERM, SIGINT and
    SIGHUP reach nobody then, and the end of standard input is what ends it.
    """

    def __init__(self, upwards: int, is_deaf: bool = False) -> None:
        self._upwards = upwards
        self._stopping = asyncio.Event()
        self._ending = asyncio.Event()
        self._is_ready = False
        loop = asyncio.get_running_loop()
        if is_deaf:
            # Whatever waits for them in another thread: what nobody wants is not delivered.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        else:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGUSR2, self._ending.set)
        loop.add_signal_handler(signal.SIGUSR1, _tell)
        loop.add_reader(sys.stdin.fileno(), self._read_stdin)

    def say_ready(self) -> None:
        """Tell the supervisor that this process does its work."""
        os.write(self._upwards, READY)
        self._is_ready = True
        self._beat()

    def say_alive(self) -> None:
        """A sign of life out of turn, by whoever knows that the event loop is late and not stuck."""
        self._say(BEAT)

    def say_unwell(self, reason: str) -> None:
        """Ask for a successor: this process goes on as well as it can until it is told to stop."""
        self._say(UNWELL + _line(reason) + b"\n")

    async def wait_for_end(self) -> None:
        """Return when the process should finish, because it is told to stop or a successor is there."""
        await self._ending.wait()

    async def wait_for_stop(self) -> None:
        """Return when it is told to stop, whether a successor is there or not."""
        await self._stopping.wait()

    def _stop(self) -> None:
        self._stopping.set()
        self._ending.set()

    def _beat(self) -> None:
        self._say(BEAT)
        asyncio.get_running_loop().call_later(BEAT_INTERVAL, self._beat)

    def _say(self, octets: bytes) -> None:
        # Nothing comes before the first line. Without a supervisor the end of standard input will stop us.
        if self._is_ready:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._upwards, octets)

    def _read_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._stop()


def _tell() -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    _log.info(IN_HAND, process=os.getpid(), tasks=len(asyncio.all_tasks()), descriptors=descriptors)
