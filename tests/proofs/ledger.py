"""What clients sent and what they were told, held against the downstream's mailbox and the records.

A visit is one session, made from nothing but the seed and its number. Addresses come back, as those
of real clients do, but never an address with the same port, so every record belongs to one visit.
"""

import random
import ssl
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from gateway.journal.record import Record
from tests.client import Answer
from tests.proofs.mailbox import Delivered
from tests.proofs.visitor import Letter

CLIENTS = 2048
# Ports below those that the kernel chooses, others in every run; so many connections in one visit.
_FIRST_PORT, _PORTS, _CONNECTIONS = 10_000, 20_000, 16


@dataclass
class Sent:
    """One message whose content was sent, and the decisive reply if one was heard.

    `may_be_taken` if the downstream takes it and cannot say so.
    """

    letter: Letter
    answer: Answer | None = None
    may_be_taken: bool = False

    @property
    def copies(self) -> range:
        """How many there may be downstream."""
        if self.answer is None:
            return range(2)
        if self.answer.code == 250:
            return range(1, 2)
        return range(2) if self.may_be_taken else range(1)


@dataclass
class Visit:
    """One session, its means and its memory.

    `aborts` is how many transactions it left open, or None where it cannot know. `is_quiet` where
    the gateway is left alone meanwhile.
    """

    seed: int
    number: int
    kind: str
    port: int
    trust: ssl.SSLContext
    family: int = 32
    is_quiet: bool = True
    outcome: str = ""
    violation: str = ""
    is_cut_off: bool = False
    aborts: int | None = 0
    sent: list[Sent] = field(default_factory=list)
    mails: set[str] = field(default_factory=set)
    references: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}/{self.number}")

    @property
    def source(self) -> str:
        """Its client address."""
        client = self.number % CLIENTS
        return f"127.{self.family}.{client >> 8}.{client & 255}"

    def take_port(self) -> int:
        """The next port to connect from."""
        first = _FIRST_PORT + self.port % _PORTS + self.number // CLIENTS * _CONNECTIONS
        self.ports.append(first + len(self.ports))
        return self.ports[-1]

    def identity(self) -> str:
        """A Message-ID that no other message has."""
        return f"<{self.number}.{len(self.sent)}.{self.rng.getrandbits(32)}@soak.example>"


class Ledger:
    """All visits."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []

    def violations(self, delivered: Sequence[Delivered], records: Sequence[Record]) -> Iterator[str]:
        """Everything that must not be."""
        yield from (f"{_name(visit)}: {visit.violation}" for visit in self.visits if visit.violation)
        yield from self._misdelivered(delivered)
        by_client = defaultdict(list)
        for record in records:
            by_client[record.client.address, record.client.port].append(record)
        for visit in self.visits:
            found = [by_client.pop((visit.source, port), []) for port in visit.ports]
            yield from _misrecorded(visit, list(chain.from_iterable(found)))
        yield from (f"records about {client}, who never came" for client in by_client)
        references = Counter(record.reference for record in records)
        yield from (f"{reference} twice" for reference, count in references.items() if count > 1)

    def _misdelivered(self, delivered: Sequence[Delivered]) -> Iterator[str]:
        copies = defaultdict(list)
        for each in delivered:
            copies[each.identity].append(each)
        for visit in self.visits:
            for sent in visit.sent:
                found = copies.pop(sent.letter.identity, [])
                if len(found) not in sent.copies:
                    yield f"{_name(visit)}: told {sent.answer}, and there are {len(found)} copies"
                yield from (
                    f"{_name(visit)}: {fault}" for each in found for fault in _faults(each, sent.letter)
                )
        yield from (f"{identity} was delivered, and nobody sent it" for identity in copies)

    def unasked(self, commands: Sequence[str]) -> Iterator[str]:
        """Commands that the downstream was given and no client said."""
        said = {mail for visit in self.visits for mail in visit.mails}
        for line in commands:
            if not line.startswith("MAIL FROM:<") or _path(line) not in said:
                yield f"the downstream was told {line!r}"


def _faults(copy: Delivered, letter: Letter) -> Iterator[str]:
    """I-5 and I-6: content and envelope, octet for octet."""
    if copy.digest != letter.digest:
        yield f"{letter.identity} arrived changed"
    if _path(copy.mail) != letter.sender:
        yield f"{letter.identity} arrived from {copy.mail}"
    if [_path(line) for line in copy.recipients] != list(letter.recipients):
        yield f"{letter.identity} arrived for {copy.recipients}"


def _misrecorded(visit: Visit, records: Sequence[Record]) -> Iterator[str]:
    """I-10 and I-12: each disposition once, and nothing else."""
    recorded = Counter(record.reference for record in records)
    for reference in visit.references:
        if recorded[reference] != 1:
            yield f"{_name(visit)}: {recorded[reference]} records of {reference}"
    identities = Counter(r.message.message_id for r in records if r.message and r.verdict == "accepted")
    accepted = [sent for sent in visit.sent if sent.answer is not None and sent.answer.code == 250]
    for sent in accepted:
        if identities[sent.letter.identity] != 1:
            yield f"{_name(visit)}: {identities[sent.letter.identity]} records of {sent.letter.identity}"
    others = len(records) - len(visit.references) - len(accepted)
    # A worker that is killed meanwhile may not have come to recording an abort.
    is_unknown = visit.aborts is None or visit.is_cut_off
    most = len(records) if is_unknown else visit.aborts or 0
    fewest = most if visit.is_quiet and not is_unknown else 0
    if not fewest <= others <= most:
        yield f"{_name(visit)}: {others} records besides its replies, not {visit.aborts}"


def _name(visit: Visit) -> str:
    return f"session {visit.number} ({visit.kind})"


def _path(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]
