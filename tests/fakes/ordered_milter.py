"""A milter of libmilter's that does what the MTA orders: `python ordered_milter.py SOCKET STEPS SYMBOLS`.

An order is a macro named after the step, such as {envfrom} or {eom}, and may come with any step before:
libmilter keeps macros. It is a list (JSON) of calls of pymilter's context, [name, argument, ...], such
as ["addheader", "X-A", "1"], and of a decision, such as "reject"; without one the milter goes on. One for
the end of the message may be the value of a field "Order" as well, where a real MTA is to bring it. The
call "report" adds a field "Report", a list (JSON) of every step seen and of its arguments, long ones as
`summary`; "replacebody" takes a text and how often it is repeated: libmilter reads and writes packets of
65,535 octets at most.
STEPS are the protocol flags (SMFIP_*) that it asks for where they are offered, a number; SYMBOLS are the
symbol lists, an object (JSON) of names by stage. Says "ready" once it listens.
"""

import json
import sys
import zlib
from collections.abc import Callable
from typing import Any

import milter

# By step, the flag that it is without a reply.
SILENT = {
    "connect": milter.P_NR_CONN,
    "helo": milter.P_NR_HELO,
    "envfrom": milter.P_NR_MAIL,
    "envrcpt": milter.P_NR_RCPT,
    "data": milter.P_NR_DATA,
    "unknown": milter.P_NR_UNKN,
    "header": milter.P_NR_HDR,
    "eoh": milter.P_NR_EOH,
    "body": milter.P_NR_BODY,
}
DECISIONS = {
    "continue": milter.CONTINUE,
    "accept": milter.ACCEPT,
    "reject": milter.REJECT,
    "tempfail": milter.TEMPFAIL,
    "discard": milter.DISCARD,
    "skip": milter.SKIP,
}


def summary(octets: bytes) -> str:
    """What stands for many octets."""
    return f"{len(octets)} octets, {zlib.crc32(octets):08x}"


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1") if len(value) < 1_000 else summary(value)
    return value


class OrderedMilter:
    """One for all connections: a test has one at a time."""

    def __init__(self, steps: int, symbols: dict[str, str]) -> None:
        self._steps = steps
        self._symbols = symbols
        self._seen: list[list[Any]] = []
        self._order = ""

    def negotiate(self, context: Any, options: list[int]) -> int:
        for stage, names in self._symbols.items():
            context.setsymlist(int(stage), names)
        self._steps &= options[1]
        options[1:] = [self._steps, 0, 0]
        self._seen.clear()
        self._order = ""
        return milter.CONTINUE

    def step(self, name: str) -> Callable[..., int]:
        """The callback of a step."""

        def called(context: Any, *arguments: Any) -> int:
            self._seen.append([name, *map(_text, arguments)])
            if (name, *arguments[:1]) == ("header", "Order"):
                self._order = _text(arguments[1])
            order = context.getsymval(f"{{{name}}}") or (self._order if name == "eom" else "")
            if self._steps & SILENT.get(name, 0):
                return milter.NOREPLY
            *calls, decision = json.loads(order) if order else ["continue"]
            for call, *values in calls:
                self._call(context, call, values)
            return DECISIONS[decision]

        return called

    def _call(self, context: Any, call: str, values: list[Any]) -> None:
        if call == "report":
            context.addheader("Report", json.dumps(self._seen))
        elif call == "replacebody":
            context.replacebody(values[0].encode("latin-1") * values[1])
        else:
            getattr(context, call)(*values)


def main() -> None:
    socket, steps, symbols = sys.argv[1:]
    ordered = OrderedMilter(int(steps), json.loads(symbols))
    for name in ("connect", "helo", "envfrom", "envrcpt", "header", "eoh", "body", "eom", "abort", "close"):
        getattr(milter, f"set_{name}_callback")(ordered.step(name))
    milter.set_flags(milter.CURR_ACTS | milter.CHGFROM | milter.ADDRCPT_PAR | milter.SETSYMLIST)
    milter.setconn(socket)
    milter.register(
        "ordered", data=ordered.step("data"), unknown=ordered.step("unknown"), negotiate=ordered.negotiate
    )
    milter.opensocket(True)
    print("ready", flush=True)
    milter.main()


if __name__ == "__main__":
    main()
