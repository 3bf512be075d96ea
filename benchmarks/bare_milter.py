"""`bare_milter.py SOCKET`: a milter that lets everything pass and does nothing else.

It has the steps of the gateway's milter and the same silence between them, so what it uses is what
libmilter and pymilter use. No part of the gateway is imported.
"""

import os
import sys
from typing import Any

import milter

_STEPS = (
    milter.P_NOUNKNOWN
    | milter.P_SKIP
    | milter.P_HDR_LEADSPC
    | milter.P_NR_HDR
    | milter.P_NR_EOH
    | milter.P_NR_CONN
    | milter.P_NR_HELO
)


def _go_on(context: Any, *arguments: Any) -> int:
    del context, arguments
    return int(milter.CONTINUE)


def _say_nothing(context: Any, *arguments: Any) -> int:
    del context, arguments
    return int(milter.NOREPLY)


def _negotiate(context: Any, options: list[int]) -> int:
    del context
    options[0], options[1] = 0, _STEPS & options[1]
    return int(milter.CONTINUE)


def main() -> None:
    """Serve until a signal ends the process."""
    milter.set_connect_callback(_say_nothing)
    milter.set_helo_callback(_say_nothing)
    milter.set_envfrom_callback(_go_on)
    milter.set_envrcpt_callback(_go_on)
    milter.set_header_callback(_say_nothing)
    milter.set_eoh_callback(_say_nothing)
    milter.set_body_callback(_go_on)
    milter.set_eom_callback(_go_on)
    milter.set_abort_callback(_go_on)
    milter.set_close_callback(_go_on)
    milter.register("bare", data=_go_on, negotiate=_negotiate)
    milter.setconn(f"unix:{sys.argv[1]}")
    os.umask(0)  # Postfix is another user
    milter.main()


if __name__ == "__main__":
    main()
