"""To whom a group's message goes downstream, and who is answered by what is said there.

Policies may refuse it for some recipients, send it to another one instead, or to one more.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.casefile import CaseFile
from gateway.relay.delivery import Recipient
from gateway.relay.router import Destination, Router
from gateway.smtp.address import Path
from policies.effects import AddRecipient


class AddressingError(Exception):
    """A policy wants the mail to go where it cannot go; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Addressing:
    """`targets` are the forward-paths to name downstream.

    `answered_by` maps the number of a recipient to the number of the target whose reply is its reply;
    who is refused is not in it. What is said to `added` answers nobody. `is_changed` is false where
    the downstream has heard all of this at RCPT.
    """

    destination: Destination
    targets: tuple[Recipient, ...]
    answered_by: dict[int, int]
    added: tuple[Path, ...] = ()
    is_changed: bool = False


def address(
    case: CaseFile,
    router: Router,
    destination: Destination,
    heard: Sequence[Recipient],
    refused: Collection[int],
) -> Addressing:
    """Where the message goes after all verdicts; `heard` is what the downstream has accepted at RCPT.

    Raises AddressingError.
    """
    left = [number for number in range(len(heard)) if number not in refused]
    redirect = case.take_redirect()
    added = _added(case)
    if redirect is None:
        targets = [heard[number] for number in left]
        answered_by = {number: place for place, number in enumerate(left)}
    else:
        destination = _destination(router, redirect)
        targets = [(redirect, {})]
        answered_by = dict.fromkeys(left, 0)
    for path in added:
        if _destination(router, path) is not destination:
            raise AddressingError(
                f"{path} cannot be added: its [[relay]] is not that of the other recipients"
            )
    is_changed = bool(redirect or added or refused)
    targets += [(path, {}) for path in added]
    return Addressing(destination, tuple(targets), answered_by, added, is_changed)


def recipients_of(case: CaseFile, heard: Sequence[Recipient], refused: Collection[int]) -> tuple[Path, ...]:
    """Whom the message would have reached, had it gone on; whether they can be reached is not looked at."""
    redirect = case.take_redirect()
    left = [path for number, (path, _) in enumerate(heard) if number not in refused]
    return (*(left if redirect is None else [redirect]), *_added(case))


def _added(case: CaseFile) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(each.address for each in case.effects if isinstance(each, AddRecipient)))


def _destination(router: Router, path: Path) -> Destination:
    destination = router.find(path)
    if destination is None:
        raise AddressingError(f"there is no [[relay]] entry for {path}")
    return destination
