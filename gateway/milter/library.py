"""The way to libmilter, by pymilter's lower module: the only place that knows either.

libmilter's threads call in here, one after the other for one MTA connection, and each time in another
thread. What they bring goes to the connection's `Link`; its answer is carried out here. libmilter serves one
socket a process and cannot be begun twice.
"""

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

import milter
import structlog

from gateway.milter.changes import Add, Change, ChangeField, Delete, Hold, InsertField
from gateway.milter.link import Link
from gateway.milter.macros import AT_CONNECT, AT_END, AT_HELO, AT_MAIL, AT_RCPT
from gateway.milter.transaction import Answer

_NAME = "sluicegate"
# libmilter closes what was silent for so many seconds: longer than any MTA lets its client be.
_IDLE = 7200
# libmilter takes as many lines in a reply.
_MAX_LINES = 32
_NEEDED_ACTIONS = milter.ADDHDRS | milter.CHGHDRS | milter.ADDRCPT | milter.DELRCPT | milter.QUARANTINE
# Steps that are of no use here, or of which the MTA need not wait for an answer; and what spares it more.
_WANTED_STEPS = milter.P_NOUNKNOWN | milter.P_SKIP | milter.P_HDR_LEADSPC | milter.P_NR_HDR | milter.P_NR_EOH
_SILENT_START = milter.P_NR_CONN | milter.P_NR_HELO

_log = structlog.get_logger()


class _Context(Protocol):
    """pymilter's handle of one MTA connection."""

    def setpriv(self, link: "_Attached | None") -> None: ...
    def getpriv(self) -> "_Attached | None": ...
    def getsymval(self, name: str) -> str | None: ...
    def setsymlist(self, step: int, names: str) -> None: ...
    def setreply(self, code: str, status: str | None, *lines: str) -> None: ...
    def addheader(self, name: str, value: str, position: int) -> None: ...
    def chgheader(self, name: str, number: int, value: str | None) -> None: ...
    def addrcpt(self, address: str) -> None: ...
    def delrcpt(self, address: str) -> None: ...
    def quarantine(self, reason: str) -> None: ...


class _Attached:
    """A link, and what was agreed on with its MTA: steps without an answer, and whether it can skip any."""

    def __init__(self, link: Link, steps: int) -> None:
        self.link = link
        self.steps = steps


class Library:
    """libmilter in this process. `open_link` makes a link, `close_link` hears that one is over.

    `speaks_early` says that answers are given before MAIL.
    """

    def __init__(
        self,
        open_link: Callable[[bool], Link],
        close_link: Callable[[Link], None],
        speaks_early: bool,
    ) -> None:
        self._open_link = open_link
        self._close_link = close_link
        self._steps = _WANTED_STEPS | (0 if speaks_early else _SILENT_START)
        self._descriptor = -1
        self._silent = socket.socket(socket.AF_UNIX)

    def start(self, bound: socket.socket, backlog: int) -> None:
        """Serve MTAs that connect there, in threads of libmilter's; the socket is libmilter's then.

        It may be shared with other processes: none of them ever waits in accept(2). Raises OSError.
        """
        bound.setblocking(False)
        self._descriptor = bound.detach()
        # Made now, because there may be no descriptor left when it is needed.
        self._silent.bind("")
        self._silent.listen()
        self._silent.setblocking(False)
        self._register()
        milter.setbacklog(backlog)
        milter.settimeout(_IDLE)
        milter.setconn(f"fd:{self._descriptor}")
        try:
            milter.opensocket(False)
        except milter.error as error:
            raise OSError(0, f"libmilter does not take the socket: {error}") from None
        threading.Thread(target=milter.main, name="libmilter", daemon=True).start()

    def accept_no_more(self) -> None:
        """Leave those who are still to be accepted to other processes; what is open goes on."""
        # libmilter goes on looking at its descriptor, behind which is now a socket that nobody knows.
        os.dup2(self._silent.fileno(), self._descriptor)

    def _register(self) -> None:
        milter.set_connect_callback(_step(self._connect, milter.P_NR_CONN))
        milter.set_helo_callback(_step(_helo, milter.P_NR_HELO))
        milter.set_envfrom_callback(_step(_mail))
        milter.set_envrcpt_callback(_step(_rcpt))
        milter.set_header_callback(_step(_header, milter.P_NR_HDR))
        milter.set_eoh_callback(_step(_end_of_header, milter.P_NR_EOH))
        milter.set_body_callback(_body)
        milter.set_eom_callback(_step(_end_of_message))
        milter.set_abort_callback(_step(_abort))
        milter.set_close_callback(self._close)
        milter.register(_NAME, data=_step(_data), negotiate=self._negotiate)

    def _negotiate(self, context: _Context, options: list[int]) -> int:
        """What there will be between us and this MTA; nothing, where it can do too little."""
        actions, steps, *_ = options
        missing = _NEEDED_ACTIONS & ~actions
        if missing:
            _log.error("an MTA allows too little and is sent away", missing_actions=hex(missing))
            return int(milter.REJECT)
        options[0] = _NEEDED_ACTIONS | (actions & milter.SETSYMLIST)
        options[1] = self._steps & steps
        if actions & milter.SETSYMLIST:
            for step, names in _MACROS.items():
                context.setsymlist(step, names)
        link = self._open_link(bool(steps & milter.P_HDR_LEADSPC))
        context.setpriv(_Attached(link, options[1]))
        return int(milter.CONTINUE)

    def _connect(self, link: Link, context: _Context, name: str, family: int, address: Any) -> Answer:
        del family
        # A path, or nothing, where the client came by no network.
        host = (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
        return link.connect(name, host, _macros(context))

    def _close(self, context: _Context) -> int:
        attached = context.getpriv()
        context.setpriv(None)
        if attached is not None:
            self._close_link(attached.link)
        return int(milter.CONTINUE)


_MACROS = {
    milter.M_CONNECT: AT_CONNECT,
    milter.M_HELO: AT_HELO,
    milter.M_ENVFROM: AT_MAIL,
    milter.M_ENVRCPT: AT_RCPT,
    # Sendmail goes by the second only where there is the first.
    milter.M_EOH: AT_END,
    milter.M_EOM: AT_END,
}


def _macros(context: _Context) -> Callable[[str], str | None]:
    def value_of(name: str) -> str | None:
        try:
            return context.getsymval(name)
        except UnicodeDecodeError:
            return None

    return value_of


# One step of an MTA connection


def _step(step: Callable[..., Answer | None], silent: int = 0) -> Callable[..., int]:
    """A callback for libmilter: whatever happens, it returns what the MTA is to hear.

    `silent` is the bit of the steps after which an MTA may have been told that it hears nothing.
    """

    def call(context: _Context, *arguments: Any) -> int:
        attached = context.getpriv()
        if attached is None:
            # Nothing was agreed on: this cannot be anything that is to pass.
            return int(milter.TEMPFAIL)
        link = attached.link
        link.is_answering = True
        try:
            answer = _attempt(link, step, context, *arguments)
            if attached.steps & silent:
                return int(milter.NOREPLY)
            return _carry_out(context, link, answer)
        except Exception as error:
            return _carry_out(context, link, link.fail(error))
        finally:
            link.is_answering = False

    return call


def _attempt(
    link: Link, step: Callable[..., Answer | None], context: _Context, *arguments: Any
) -> Answer | None:
    try:
        return step(link, context, *arguments)
    except Exception as error:
        return link.fail(error)


def _helo(link: Link, context: _Context, name: str) -> Answer:
    return link.helo(name, _macros(context))


def _mail(link: Link, context: _Context, *arguments: bytes) -> Answer:
    return link.mail(arguments, _macros(context))


def _rcpt(link: Link, context: _Context, *arguments: bytes) -> Answer:
    return link.rcpt(arguments, _macros(context))


def _data(link: Link, context: _Context) -> Answer:
    return link.data()


def _header(link: Link, context: _Context, name: str, value: bytes) -> None:
    link.header(name, value)


def _end_of_header(link: Link, context: _Context) -> None:
    link.end_of_header()


def _end_of_message(link: Link, context: _Context) -> Answer:
    return link.end_of_message(_macros(context))


def _abort(link: Link, context: _Context) -> None:
    link.abort()


def _body(context: _Context, chunk: bytes) -> int:
    attached = context.getpriv()
    assert attached is not None
    try:
        is_wanted = attached.link.body(chunk)
    except Exception as error:
        attached.link.fail(error)
        is_wanted = False
    return int(milter.CONTINUE if is_wanted or not attached.steps & milter.P_SKIP else milter.SKIP)


# What the MTA is asked to do


def _carry_out(context: _Context, link: Link, answer: Answer | None) -> int:
    if answer is None:
        return int(milter.CONTINUE)
    for change in answer.changes:
        _change(context, link, change)
    if answer.is_discard:
        return int(milter.DISCARD)
    if answer.reply is None:
        return int(milter.CONTINUE)
    reply = answer.reply
    # The last one has the reference. MTAs take the text for a format.
    lines = [line.replace("%", "%%") for line in (*reply.lines[:-1][: _MAX_LINES - 1], reply.lines[-1])]
    context.setreply(str(reply.code), reply.status, *lines)
    return int(milter.REJECT if reply.is_permanent else milter.TEMPFAIL)


def _change(context: _Context, link: Link, change: Change) -> None:
    match change:
        case InsertField(position, name, value):
            # What is at 0 stands above the Received field that the MTA adds itself.
            context.addheader(name, _value(link, value).decode("ascii"), position + 1)
        case ChangeField(name, number, value):
            _set_field(context, name, number, None if value is None else _value(link, value))
        case Add(address):
            context.addrcpt(address)
        case Delete(address):
            context.delrcpt(address)
        case Hold(reason):
            context.quarantine(reason)


def _value(link: Link, value: bytes) -> bytes:
    """As this MTA takes it: its folds as LF, the blank before it only if it does not put one there."""
    value = value.replace(b"\r\n", b"\n")
    return value if link.keeps_blanks else value.removeprefix(b" ")


def _set_field(context: _Context, name: str, number: int, value: bytes | None) -> None:
    try:
        text = None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        assert value is not None
        _set_octets(context, name, number, value)
    else:
        context.chgheader(name, number, text)


def _set_octets(context: _Context, name: str, number: int, value: bytes) -> None:
    """The same for octets that are no text: pymilter takes text only, libmilter anything without a NUL.

    The handle's first member is libmilter's own (pymilter 1.0.5, `milter_ContextObject`), and libmilter has
    kept the handle there, so it can be seen whether that is so.
    """
    handle = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    if _LIBMILTER.smfi_getpriv(handle) != id(context):
        raise RuntimeError("this pymilter keeps its handles in another way")
    if _LIBMILTER.smfi_chgheader(handle, name.encode("utf-8"), number, value) != milter.SUCCESS:
        raise RuntimeError(f"libmilter does not change field {name}")


def _load_libmilter() -> ctypes.CDLL:
    """The very library that pymilter has loaded."""
    library = ctypes.CDLL(milter.__file__)
    library.smfi_getpriv.argtypes = [ctypes.c_void_p]
    library.smfi_getpriv.restype = ctypes.c_void_p
    library.smfi_chgheader.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p]
    return library


_LIBMILTER = _load_libmilter()
