"""A message as an MTA sees it, and what becomes of it once a milter's modifications are carried out.

Both as Postfix does it (its cleanup service): lines end with CRLF, white space before the colon of a
field goes, and a line that is no field ends the header. No I/O.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.fakes.milter_protocol import (
    AddHeader,
    AddRecipient,
    ChangeFrom,
    ChangeHeader,
    DeleteRecipient,
    InsertHeader,
    Modification,
    Quarantine,
    ReplaceBody,
)

# Printable ASCII but the colon, then what is no part of the name.
_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
MAX_REASON = 100


@dataclass(frozen=True)
class Field:
    """One header field with all its lines and their CRLF."""

    octets: bytes

    @classmethod
    def of(cls, name: bytes, value: bytes, *, leading_space: bool) -> "Field":
        """As a milter gives it: LF between lines, each folded by a tab where it is not yet.

        With `leading_space` the value brings its own white space; otherwise the MTA puts one space.
        """
        first, *rest = value.split(b"\n")
        lines = [name + b":" + (b"" if leading_space else b" ") + first]
        lines += [line if line.startswith((b" ", b"\t")) else b"\t" + line for line in rest]
        return cls(b"".join(line + b"\r\n" for line in lines))

    @property
    def name(self) -> bytes:
        """Without the colon; empty for what is no field."""
        found = _NAME.match(self.octets)
        return found[1] if found else b""

    def value(self, *, leading_space: bool) -> bytes:
        """As a milter gets it: LF between lines, and the first space only with `leading_space`."""
        value = self.octets[len(self.name) + 1 : -2].replace(b"\r\n", b"\n")
        return value if leading_space else value.removeprefix(b" ")


# What Postfix puts on top before the milter is asked, and does not show to it.
TRACE = Field(b"Received: from client.example by mx.example\r\n\tfor <somebody@example>\r\n")


@dataclass(frozen=True)
class Message:
    """A header and a body; `body` is None where not even the empty line came."""

    fields: tuple[Field, ...]
    body: bytes | None

    @classmethod
    def of(cls, octets: bytes) -> "Message":
        """Any octets as Postfix takes them: an LF ends a line, and the last line is ended as well."""
        lines = [line.removesuffix(b"\n").removesuffix(b"\r") + b"\r\n" for line in _LINE.findall(octets)]
        fields: list[bytes] = []
        for number, line in enumerate(lines):
            if fields and line.startswith((b" ", b"\t")):
                fields[-1] += line
            elif found := _NAME.match(line):
                fields.append(found[1] + line[found.end() - 1 :])
            else:
                rest = lines[number + (line == b"\r\n") :]
                return cls(tuple(map(Field, fields)), b"".join(rest))
        return cls(tuple(map(Field, fields)), None)

    @property
    def octets(self) -> bytes:
        """The whole, with an empty line between header and body."""
        header = b"".join(field.octets for field in self.fields)
        return header if self.body is None else header + b"\r\n" + self.body


@dataclass(frozen=True)
class Delivery:
    """What the MTA goes on with. Addresses are without angle brackets, each recipient is there once.

    `queued` has the MTA's own Received field, `TRACE`, in its place. `held` is why the message waits
    for a person, or empty; of a discarded message nobody gets anything.
    """

    sender: bytes
    recipients: tuple[bytes, ...]
    queued: Message
    held: str = ""
    is_discarded: bool = False

    @property
    def message(self) -> Message:
        """Without the MTA's own Received field."""
        return Message(tuple(f for f in self.queued.fields if f is not TRACE), self.queued.body)

    @property
    def content(self) -> bytes:
        """The octets of `message`."""
        return self.message.octets

    def values(self, name: bytes) -> list[bytes]:
        """The values of all fields of this name, without white space around, lines joined by LF."""
        wanted = [f for f in self.message.fields if f.name.lower() == name.lower()]
        return [field.value(leading_space=True).strip() for field in wanted]


def bare(address: bytes) -> bytes:
    """The address without angle brackets around."""
    return address.removeprefix(b"<").removesuffix(b">")


class _Queue:
    """The queue file while it is edited."""

    def __init__(
        self, message: Message, sender: bytes, recipients: Iterable[bytes], leading_space: bool
    ) -> None:
        self.fields = [TRACE, *message.fields]
        self.body = message.body
        self.sender = bare(sender)
        self.recipients = list(dict.fromkeys(map(bare, recipients)))
        self.held = ""
        self._leading_space = leading_space

    def apply(self, change: Modification) -> None:
        match change:
            case AddHeader():
                self.fields.append(self._field(change))
            case InsertHeader():
                self.fields.insert(change.index, self._field(change))
            case ChangeHeader():
                self._change(change)
            case AddRecipient():
                self._add(bare(change.address))
            case DeleteRecipient():
                self.recipients = [each for each in self.recipients if each != bare(change.address)]
            case ChangeFrom():
                self.sender = bare(change.address)
            case Quarantine():
                reason = change.reason[:MAX_REASON].decode("utf-8", "replace")
                self.held = reason or "milter triggers HOLD action"
            case ReplaceBody():
                raise AssertionError("bodies are replaced as a whole")

    def replace_body(self, body: bytes) -> None:
        self.body = Message.of(b"\n" + body).body

    def _field(self, change: AddHeader | InsertHeader | ChangeHeader) -> Field:
        return Field.of(change.name, change.value, leading_space=self._leading_space)

    def _change(self, change: ChangeHeader) -> None:
        name = change.name.lower()
        places = [n for n, f in enumerate(self.fields) if f is not TRACE and f.name.lower() == name]
        place = places[max(change.index, 1) - 1 :][:1]
        if place and change.value:
            self.fields[place[0]] = self._field(change)
        elif place:
            del self.fields[place[0]]
        elif change.value:
            self.fields.append(self._field(change))

    def _add(self, address: bytes) -> None:
        if address and address not in self.recipients:
            self.recipients.append(address)


def delivered(
    content: bytes,
    modifications: Sequence[Modification],
    *,
    sender: bytes = b"",
    recipients: Iterable[bytes] = (),
    leading_space: bool = False,
    is_discarded: bool = False,
) -> Delivery:
    """The message with all modifications carried out in order, as Postfix does.

    `leading_space` says whether SMFIP_HDR_LEADSPC was negotiated.
    """
    queue = _Queue(Message.of(content), sender, recipients, leading_space)
    chunks = [change.chunk for change in modifications if isinstance(change, ReplaceBody)]
    for change in modifications:
        if not isinstance(change, ReplaceBody):
            queue.apply(change)
    if chunks:
        queue.replace_body(b"".join(chunks))
    remaining = () if is_discarded else tuple(queue.recipients)
    held = "" if is_discarded else queue.held
    return Delivery(queue.sender, remaining, Message(tuple(queue.fields), queue.body), held, is_discarded)
