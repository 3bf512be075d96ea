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
    # libmilter takes a signal that it gets for an order to stop, and leaves its sessions hanging.
    control = Control(upwards, is_deaf=arguments.role == "milter")
    # Imported late: none needs what another one does, and the journal has no business loading plugins.
    if arguments.role == "journal":
        from gateway.roles.journal import keep

        await keep(config, control)
    elif arguments.role == "metrics":
        from gateway.roles.metrics import show

        await show(_sockets(arguments)[0], arguments.ledger, control)
    else:
        await _judge(arguments, config, control)


async def _judge(arguments: argparse.Namespace, config: Config, control: Control) -> None:
    from gateway.roles.worker import Desk

    desk = Desk(arguments.workers, arguments.bulletin, arguments.ledger, arguments.slot)
    sockets = _sockets(arguments)
    if arguments.role == "milter":
        from gateway.roles import milter

        await milter.serve(config, desk, milter.Place(arguments.listener, sockets[0]), control)
    else:
        from gateway.roles import smtp

        place = smtp.Place(sockets, arguments.counts, arguments.seat, arguments.seats)
        await smtp.serve(config, desk, place, control)


def _sockets(arguments: argparse.Namespace) -> list[socket.socket]:
    return [socket.socket(fileno=int(number)) for number in arguments.sockets.split(",")]


def leave_no_dumps() -> None:
    """Nobody finds mail in a core dump, or reads it from our memory without being root (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sluicegate")
    parser.add_argument("role", choices=("smtp", "milter", "journal", "metrics"))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--sockets", help="file descriptors of the bound sockets")
    parser.add_argument("--counts", type=int, help="file descriptor of the memory that workers count in")
    parser.add_argument("--seat", type=int, help="its place in that memory")
    parser.add_argument("--seats", type=int, help="how many places there are")
    parser.add_argument("--listener", type=int, help="the number of its listener among the milters'")
    parser.add_argument("--workers", type=int, help="how many workers there are")
    parser.add_argument(
        "--bulletin", type=int, help="file descriptor of the memory in which it says what it is at"
    )
    parser.add_argument(
        "--ledger", type=int, help="file descriptor of the memory in which everything is counted"
    )
    parser.add_argument("--slot", type=int, help="its place in that memory")
    return parser


def main() -> None:
    """Entry point of `python -m gateway.roles`."""
    leave_no_dumps()
    arguments = _parser().parse_args()
    configure_logging()
    upwards = take_upwards()
    try:
        run(_work(arguments, _read_config(arguments.config), upwards))
    except ConfigError as error:
        refuse(upwards, str(error))
        raise SystemExit(os.EX_CONFIG) from None


if __name__ == "__main__":
    main()
