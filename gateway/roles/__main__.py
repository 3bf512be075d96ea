"""What a process under the supervisor does first: learn its task and its configuration.

The supervisor hands over what it has read and checked, on standard input (`briefing`). Standard
input stays open: its end means that the supervisor is gone, and then nobody should go on alone.
"""

import argparse
import ctypes
import os
import resource
import socket
import sys
from pathlib import Path

from gateway.config import Config, ConfigError
from gateway.log import configure_logging
from gateway.loop import run
from gateway.roles import briefing
from gateway.roles.control import Control, refuse, take_upwards

_PR_SET_DUMPABLE = 4


def _read_config(file: Path) -> Config:
    received = bytearray()
    while not received.endswith(briefing.END):
        chunk = os.read(sys.stdin.fileno(), 65_536)
        if not chunk:
            raise SystemExit(os.EX_SOFTWARE)
        received += chunk
    return briefing.unpack(file, bytes(received[: -len(briefing.END)]))


async def _work(arguments: argparse.Namespace, config: Config, upwards: int) -> None:
    control = Control(upwards)
    # Imported late: the journal needs no SMTP server, and has no business loading anybody's plugins.
    if arguments.role == "journal":
        from gateway.roles.journal import keep

        await keep(config, control)
    elif arguments.role == "metrics":
        from gateway.roles.metrics import show

        await show(_sockets(arguments)[0], arguments.ledger, control)
    else:
        from gateway.roles.smtp import Place, serve

        place = Place(
            _sockets(arguments),
            arguments.counts,
            arguments.seat,
            arguments.seats,
            arguments.workers,
            arguments.bulletin,
            arguments.ledger,
            arguments.slot,
        )
        await serve(config, place, control)


def _sockets(arguments: argparse.Namespace) -> list[socket.socket]:
    return [socket.socket(fileno=int(number)) for number in arguments.sockets.split(",")]


def leave_no_dumps() -> None:
    """Nobody finds mail in a core dump, or reads it from our memory without being root (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> None:
    """Entry point of `python -m gateway.roles`."""
    leave_no_dumps()
    parser = argparse.ArgumentParser(prog="sluicegate")
    parser.add_argument("role", choices=("smtp", "journal", "metrics"))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--sockets", help="file descriptors of the bound sockets")
    parser.add_argument("--counts", type=int, help="file descriptor of the memory that workers count in")
    parser.add_argument("--seat", type=int, help="its place in that memory")
    parser.add_argument("--seats", type=int, help="how many places there are")
    parser.add_argument("--workers", type=int, help="how many workers there are")
    parser.add_argument(
        "--bulletin", type=int, help="file descriptor of the memory in which it says what it is at"
    )
    parser.add_argument(
        "--ledger", type=int, help="file descriptor of the memory in which everything is counted"
    )
    parser.add_argument("--slot", type=int, help="its place in that memory")
    arguments = parser.parse_args()
    configure_logging()
    upwards = take_upwards()
    try:
        run(_work(arguments, _read_config(arguments.config), upwards))
    except ConfigError as error:
        refuse(upwards, str(error))
        raise SystemExit(os.EX_CONFIG) from None


if __name__ == "__main__":
    main()
