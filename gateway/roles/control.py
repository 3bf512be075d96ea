"""The thread by which the supervisor holds a process: SIGTERM, or the end of standard input."""

import asyncio
import os
import signal
import sys

READY = b"ready\n"


class Control:
    """To be created inside the running event loop."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_reader(sys.stdin.fileno(), self._read_stdin)

    @staticmethod
    def say_ready() -> None:
        """Tell the supervisor that this process does its work."""
        os.write(sys.stdout.fileno(), READY)
        # Nobody reads on; what a plugin prints belongs to the log, and must never fill a pipe.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    async def wait_for_stop(self) -> None:
        """Return when the process should finish."""
        await self._stopping.wait()

    def _read_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._stopping.set()
