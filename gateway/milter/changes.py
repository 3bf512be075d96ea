"""What the MTA is asked to do to a message that it is to go on with.

Plain values, in the order in which they are to be asked for: each leaves true what the next one counts by.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.casefile import CaseFile
from gateway.headers import fields_on_top, is_forgery, subject_instead
from gateway.smtp.address import Path
from policies.effects import AddRecipient

# A field as the MTA has it: its name, and the octets behind the colon, folds as CRLF.
Field = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class InsertField:
    """A new field so many fields below the top of the message."""

    position: int
    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeField:
    """Another value for the field of that name and number (from 1), or none: it is to go."""

    name: str
    number: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Add:
    """One more recipient."""

    address: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A recipient who is not to get the message."""

    address: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The message is to wait for the operator; `reason` is one line for the MTA's log."""

    reason: str


Change = InsertField | ChangeField | Add | Delete | Hold


def header_changes(
    case: CaseFile, fields: Sequence[Field], reference: str, hostname: str
) -> Iterator[InsertField | ChangeField]:
    """The same that happens to a message that goes through the proxy; the Received field is the MTA's own."""
    numbered = _numbered(fields)
    subject = next((each for each in numbered if each[0].lower() == "subject"), None)
    # From the end, so that the numbers of those that are still to go stay as they are.
    for name, number, value in reversed(numbered):
        if is_forgery(name.lower(), value, hostname):
            yield ChangeField(name, number, None)
    on_top = fields_on_top(case, reference, hostname)
    instead = subject_instead(case, subject[2] if subject else b"")
    if instead and subject:
        name, value = _split(instead)
        yield ChangeField(name, subject[1], value)
    elif instead:
        on_top.append(instead)
    for position, field in enumerate(on_top):
        yield InsertField(position, *_split(field))


def _numbered(fields: Sequence[Field]) -> list[tuple[str, int, bytes]]:
    """Each field with its number among those of its name."""
    count: Counter[str] = Counter()
    numbered = []
    for name, value in fields:
        count[name.lower()] += 1
        numbered.append((name, count[name.lower()], value))
    return numbered


def _split(field: bytes) -> Field:
    name, _, value = field.removesuffix(b"\r\n").partition(b":")
    return name.decode("ascii"), value


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom the client named, where policies send that mail, and by which address the MTA knows that one."""

    path: Path
    target: Path
    known_as: str


def recipients_of(case: CaseFile, recipients: Sequence[Recipient]) -> tuple[Path, ...]:
    """Whom the message is to reach after all verdicts; each once."""
    redirect = case.take_redirect()
    named = [each.target for each in recipients] if redirect is None else [redirect]
    added = [each.address for each in case.effects if isinstance(each, AddRecipient)]
    return tuple(dict.fromkeys([*named, *added]))


def recipient_changes(recipients: Sequence[Recipient], wanted: Sequence[Path]) -> Iterator[Add | Delete]:
    """From those whom the client named to those whom the message is to reach.

    New ones first: at no moment is there a message for nobody. Nobody is added who is there, for an MTA
    may deliver it twice.
    """
    named = {each.path for each in recipients}
    yield from (Add(f"<{path}>") for path in wanted if path not in named)
    # An MTA finds whom it is to delete by the very address that it was given.
    unwanted = dict.fromkeys(each.known_as for each in recipients if each.path not in wanted)
    yield from (Delete(f"<{address}>") for address in unwanted)
