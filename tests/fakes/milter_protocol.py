"""The milter protocol, version 6, as packets: what an MTA writes to a milter, and what it reads.

Written from the protocol as libmilter and Postfix speak it; there is no RFC. A packet is a length
(32 bits, network order), one octet that says what it is, and data. What a milter must not send is a
`ProtocolError`. Reads from a stream, and otherwise does no I/O; `milter_mta` holds conversations.
"""

import asyncio
import enum
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

VERSION = 6
CHUNK = 65_535
MAX_PACKET = 1 << 20
_REPLY_LINE = re.compile(rb"([45][0-9][0-9])([ -])(.*)", re.DOTALL)
_STATUS = re.compile(rb"([45]\.[0-9]{1,3}\.[0-9]{1,3})(?: |\Z)")


class ProtocolError(Exception):
    """The milter sent what no milter may send here."""


class Command(enum.Enum):
    """SMFIC_*: what the MTA says."""

    OPTNEG = b"O"
    MACRO = b"D"
    CONNECT = b"C"
    HELO = b"H"
    MAIL = b"M"
    RCPT = b"R"
    DATA = b"T"
    HEADER = b"L"
    EOH = b"N"
    BODY = b"B"
    BODYEOB = b"E"
    ABORT = b"A"
    QUIT = b"Q"
    QUIT_NC = b"K"
    UNKNOWN = b"U"


class Answer(enum.Enum):
    """SMFIR_*: what the milter says."""

    ADDRCPT = b"+"
    DELRCPT = b"-"
    ADDRCPT_PAR = b"2"
    SHUTDOWN = b"4"
    ACCEPT = b"a"
    REPLBODY = b"b"
    CONTINUE = b"c"
    DISCARD = b"d"
    CHGFROM = b"e"
    CONN_FAIL = b"f"
    ADDHEADER = b"h"
    INSHEADER = b"i"
    CHGHEADER = b"m"
    PROGRESS = b"p"
    QUARANTINE = b"q"
    REJECT = b"r"
    SKIP = b"s"
    TEMPFAIL = b"t"
    REPLYCODE = b"y"


class Actions(enum.IntFlag):
    """SMFIF_*: what the milter may ask for at the end of a message, and symbol lists."""

    ADDHDRS = 1 << 0
    CHGBODY = 1 << 1
    ADDRCPT = 1 << 2
    DELRCPT = 1 << 3
    CHGHDRS = 1 << 4
    QUARANTINE = 1 << 5
    CHGFROM = 1 << 6
    ADDRCPT_PAR = 1 << 7
    SETSYMLIST = 1 << 8


class Steps(enum.IntFlag):
    """SMFIP_*: steps that are not sent (NO), steps without a reply (NR), and abilities."""

    NOCONNECT = 1 << 0
    NOHELO = 1 << 1
    NOMAIL = 1 << 2
    NORCPT = 1 << 3
    NOBODY = 1 << 4
    NOHDRS = 1 << 5
    NOEOH = 1 << 6
    NR_HDR = 1 << 7
    NOUNKNOWN = 1 << 8
    NODATA = 1 << 9
    SKIP = 1 << 10
    RCPT_REJ = 1 << 11
    NR_CONN = 1 << 12
    NR_HELO = 1 << 13
    NR_MAIL = 1 << 14
    NR_RCPT = 1 << 15
    NR_DATA = 1 << 16
    NR_UNKN = 1 << 17
    NR_EOH = 1 << 18
    NR_BODY = 1 << 19
    HDR_LEADSPC = 1 << 20


ALL_ACTIONS = Actions(0x1FF)
ALL_STEPS = Steps(0x1FFFFF)
NOTHING = Steps(0)
# For each step: the flag that it is not wanted, and the flag that no reply will come.
FLAGS = {
    Command.CONNECT: (Steps.NOCONNECT, Steps.NR_CONN),
    Command.HELO: (Steps.NOHELO, Steps.NR_HELO),
    Command.MAIL: (Steps.NOMAIL, Steps.NR_MAIL),
    Command.RCPT: (Steps.NORCPT, Steps.NR_RCPT),
    Command.DATA: (Steps.NODATA, Steps.NR_DATA),
    Command.UNKNOWN: (Steps.NOUNKNOWN, Steps.NR_UNKN),
    Command.HEADER: (Steps.NOHDRS, Steps.NR_HDR),
    Command.EOH: (Steps.NOEOH, Steps.NR_EOH),
    Command.BODY: (Steps.NOBODY, Steps.NR_BODY),
    Command.BODYEOB: (NOTHING, NOTHING),
}
# SMFIM_*: whose macros a symbol list names; as with Postfix, fields take those of the end of the header.
SYMBOL_LISTS = (
    (Command.CONNECT,),
    (Command.HELO,),
    (Command.MAIL,),
    (Command.RCPT,),
    (Command.DATA,),
    (Command.BODYEOB, Command.BODY),
    (Command.EOH, Command.HEADER),
)


def packet(command: Command | bytes, data: bytes = b"") -> bytes:
    """The octets of one packet; a command of our own making is one octet."""
    octet = command.value if isinstance(command, Command) else command
    return struct.pack("!I", len(data) + 1) + octet + data


def strings(*values: bytes) -> bytes:
    """Each value up to its first NUL, as a C string."""
    return b"".join(value.partition(b"\0")[0] + b"\0" for value in values)


async def read_packet(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """The octet and the data of the next packet, or None at the end of the stream.

    Raises ProtocolError for a packet that is empty, cut off or larger than `MAX_PACKET`.
    """
    try:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        if not 1 <= length <= MAX_PACKET:
            raise ProtocolError(f"a packet of {length} octets")
        octets = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionResetError) as error:
        if getattr(error, "partial", b""):
            raise ProtocolError("the stream ends within a packet") from error
        return None
    return octets[:1], octets[1:]


def _split(data: bytes) -> list[bytes]:
    if not data.endswith(b"\0"):
        raise ProtocolError(f"{data!r} does not end with NUL")
    return data[:-1].split(b"\0")


def _strings(data: bytes, *counts: int) -> list[bytes]:
    values = _split(data)
    if len(values) not in counts:
        raise ProtocolError(f"{len(values)} strings in {data!r}")
    return values


@dataclass(frozen=True)
class Negotiated:
    """What the milter answered to the offer; `symbols` by step, where it named the macros it wants."""

    version: int
    actions: Actions
    steps: Steps
    symbols: Mapping[Command, tuple[str, ...]]

    @classmethod
    def of(cls, data: bytes) -> "Negotiated":
        """From the data of the milter's SMFIC_OPTNEG."""
        if len(data) < 12:
            raise ProtocolError(f"a negotiation of {len(data)} octets")
        version, actions, steps = struct.unpack("!III", data[:12])
        symbols: dict[Command, tuple[str, ...]] = {}
        rest = data[12:]
        while rest:
            (index,) = struct.unpack("!I", rest[:4])
            names, end, rest = rest[4:].partition(b"\0")
            if index >= len(SYMBOL_LISTS) or not end:
                raise ProtocolError(f"a symbol list {index} of {names!r}")
            symbols |= dict.fromkeys(SYMBOL_LISTS[index], tuple(names.decode().split()))
        return cls(version, Actions(actions), Steps(steps), symbols)


@dataclass(frozen=True)
class SMTPReply:
    """What the client is to hear; `status` is empty where there is none, and is not part of the lines."""

    code: int
    status: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, data: bytes) -> "SMTPReply":
        """From the data of SMFIR_REPLYCODE; `%%` becomes `%`, and a single one vanishes, as with Postfix."""
        (text,) = _strings(data, 1)
        found = [_REPLY_LINE.fullmatch(line) for line in text.split(b"\r\n")]
        lines = [line for line in found if line and not re.search(rb"[\r\n]", line[3])]
        marks = b"".join(line[2] for line in lines)
        if (
            len(lines) < len(found)
            or marks != b"-" * (len(found) - 1) + b" "
            or len({x[1] for x in lines}) > 1
        ):
            raise ProtocolError(f"{text!r} is not an SMTP reply")
        statuses = [_STATUS.match(line[3]) for line in lines]
        first = statuses[0][1] if statuses[0] else b""
        if first and first[:1] != lines[0][1][:1]:
            raise ProtocolError(f"the status and the code of {text!r} contradict each other")
        if any((each[1] if each else b"") != first for each in statuses):
            raise ProtocolError(f"the lines of {text!r} differ in their status")
        texts = [line[3][len(first) :].removeprefix(b" ") if first else line[3] for line in lines]
        undone = (re.sub(rb"%(%?)", rb"\1", each).decode("utf-8", "surrogateescape") for each in texts)
        return cls(int(lines[0][1]), first.decode(), tuple(undone))

    @property
    def text(self) -> str:
        """All lines as one text."""
        return "\n".join(self.lines)


@dataclass(frozen=True)
class AddHeader:
    """SMFIR_ADDHEADER: a field behind all others."""

    name: bytes
    value: bytes


@dataclass(frozen=True)
class InsertHeader:
    """SMFIR_INSHEADER: a field before the field number `index`, from 0, the MTA's own Received counted."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True)
class ChangeHeader:
    """SMFIR_CHGHEADER: the field of this name number `index`, from 1, is replaced; deleted by no value."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True)
class AddRecipient:
    """SMFIR_ADDRCPT, or SMFIR_ADDRCPT_PAR where there are `parameters`."""

    address: bytes
    parameters: bytes = b""


@dataclass(frozen=True)
class DeleteRecipient:
    """SMFIR_DELRCPT."""

    address: bytes


@dataclass(frozen=True)
class ChangeFrom:
    """SMFIR_CHGFROM."""

    address: bytes
    parameters: bytes = b""


@dataclass(frozen=True)
class ReplaceBody:
    """SMFIR_REPLBODY: one chunk of the new body; they follow each other without anything between."""

    chunk: bytes


@dataclass(frozen=True)
class Quarantine:
    """SMFIR_QUARANTINE."""

    reason: bytes


Modification = (
    AddHeader
    | InsertHeader
    | ChangeHeader
    | AddRecipient
    | DeleteRecipient
    | ChangeFrom
    | ReplaceBody
    | Quarantine
)


def _indexed(kind: type[InsertHeader | ChangeHeader], data: bytes) -> Modification:
    name, value = _strings(data[4:], 2)
    if not name:
        raise ProtocolError("a header field without a name")
    return kind(int.from_bytes(data[:4]), name, value)


_READERS: Mapping[Answer, tuple[Actions, Callable[[bytes], Modification]]] = {
    Answer.ADDHEADER: (Actions.ADDHDRS, lambda data: AddHeader(*_strings(data, 2))),
    Answer.INSHEADER: (Actions.ADDHDRS, lambda data: _indexed(InsertHeader, data)),
    Answer.CHGHEADER: (Actions.CHGHDRS, lambda data: _indexed(ChangeHeader, data)),
    Answer.ADDRCPT: (Actions.ADDRCPT, lambda data: AddRecipient(*_strings(data, 1))),
    Answer.ADDRCPT_PAR: (Actions.ADDRCPT_PAR, lambda data: AddRecipient(*_strings(data, 1, 2))),
    Answer.DELRCPT: (Actions.DELRCPT, lambda data: DeleteRecipient(*_strings(data, 1))),
    Answer.CHGFROM: (Actions.CHGFROM, lambda data: ChangeFrom(*_strings(data, 1, 2))),
    Answer.REPLBODY: (Actions.CHGBODY, ReplaceBody),
    Answer.QUARANTINE: (Actions.QUARANTINE, lambda data: Quarantine(*_strings(data, 1))),
}


def modification(answer: Answer, data: bytes, allowed: Actions) -> Modification | None:
    """What the milter asks for, or None where the answer is no modification.

    Raises ProtocolError for one that was not negotiated, and for data that is not its own.
    """
    if answer not in _READERS:
        return None
    action, reader = _READERS[answer]
    if action not in allowed:
        raise ProtocolError(f"{answer} was not negotiated")
    return reader(data)
