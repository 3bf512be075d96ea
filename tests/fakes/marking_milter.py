"""A milter of libmilter's for a real MTA: `python marking_milter.py SOCKET`.

Puts a field `X-Seen` with the queue ID below the MTA's own Received field. Refuses b@example.com, and has
messages held whose subject is `hold`. Says "ready" once it listens; its group may connect.
"""

import os
import socket
import sys
from typing import Any

import milter


def negotiate(context: Any, options: list[int]) -> int:
    options[1:] = [options[1] & milter.P_HDR_LEADSPC, 0, 0]
    return int(milter.CONTINUE)


def envrcpt(context: Any, recipient: bytes, *parameters: bytes) -> int:
    if recipient != b"<b@example.com>":
        return int(milter.CONTINUE)
    context.setreply("550", "5.7.1", "First 100%%", "Second")
    return int(milter.REJECT)


def header(context: Any, name: str, value: bytes) -> int:
    if (name, value) == ("Subject", b" hold"):
        context.setpriv("hold")
    return int(milter.CONTINUE)


def eom(context: Any) -> int:
    context.addheader("X-Seen", f" {context.getsymval('i')}", 1)
    if context.getpriv() == "hold":
        context.quarantine("the subject says so")
    return int(milter.CONTINUE)


def close(context: Any) -> int:
    context.setpriv(None)
    return int(milter.CONTINUE)


def main() -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(sys.argv[1])
        os.chmod(sys.argv[1], 0o660)
        bound.listen()
        milter.set_envrcpt_callback(envrcpt)
        milter.set_header_callback(header)
        milter.set_eom_callback(eom)
        milter.set_close_callback(close)
        milter.set_flags(milter.ADDHDRS | milter.QUARANTINE)
        milter.register("marking", negotiate=negotiate)
        milter.setconn(f"fd:{bound.fileno()}")
        milter.opensocket(False)
        print("ready", flush=True)
        milter.main()


if __name__ == "__main__":
    main()
