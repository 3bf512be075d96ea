"""What a worker is at: one policy's name and whose mail it judges, in memory that the supervisor sees.

A policy runs in the worker's only thread, so there is one at a time. The worker writes before it calls
the policy, and one octet afterwards; so what stands here when a worker is dead, or shows no life, is what
it died of. The same memory takes the traceback that the interpreter writes on its way out. Whoever reads
this does not trust the writer: what cannot be read says nothing.
"""

import faulthandler
import mmap
import os
import struct
import time
from dataclasses import dataclass

import msgspec

from gateway.journal.record import ClientRecord, MTARecord
from gateway.smtp.transaction import Transaction

# Whether a policy is under way, its beginning in nanoseconds of CLOCK_MONOTONIC, two lengths.
_HEAD = struct.Struct("<?xxxxxxxqHH")
_NAME, _MAX_NAME = 64, 192
_SUBJECT, _MAX_SUBJECT = 256, 32_768 - 256
_TRACE, _MAX_TRACE = 32_768, 16_384
_SIZE = _TRACE + _MAX_TRACE
_MAX_RECIPIENTS = 20


class Subject(msgspec.Struct, frozen=True, array_like=True):
    """Whose mail is judged, by the record's names; at most 20 of its recipients."""

    stage: str
    listener: str
    client: ClientRecord
    reverse_path: str | None = None
    recipients: list[str] = []
    mta: MTARecord | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A policy that was under way for so many seconds. `subject` is None where it cannot be read."""

    policy: str
    seconds: float
    subject: Subject | None


def share_memory() -> int:
    """The descriptor of memory for one worker, to be inherited by it."""
    descriptor = os.memfd_create("bulletin")
    os.ftruncate(descriptor, _SIZE)
    return descriptor


def clean(descriptor: int) -> None:
    """Make it ready for another worker."""
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, _SIZE)


class Bulletin:
    """The worker's side."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._memory = memoryview(mmap.mmap(descriptor, _SIZE))
        self._tx: Transaction | None = None
        self._length = 0
        self._names: dict[str, bytes] = {}

    def take_tracebacks(self) -> None:
        """From now on a fatal signal leaves the interpreter's traceback here (faulthandler)."""
        os.lseek(self._descriptor, _TRACE, os.SEEK_SET)
        faulthandler.enable(file=self._descriptor)

    def post(self, policy: str, tx: Transaction) -> None:
        """This policy is called next, about this transaction."""
        if tx is not self._tx:
            self._tx, self._length = tx, self._write_subject(tx)
        name = self._names.get(policy) or self._names.setdefault(policy, policy.encode()[:_MAX_NAME])
        self._memory[_NAME : _NAME + len(name)] = name
        _HEAD.pack_into(self._memory, 0, True, time.monotonic_ns(), self._length, len(name))

    def clear(self) -> None:
        """It has returned."""
        self._memory[0] = 0

    def _write_subject(self, tx: Transaction) -> int:
        octets = _encode(tx)
        self._memory[_SUBJECT : _SUBJECT + len(octets)] = octets
        return len(octets)


def read(descriptor: int) -> Notice | None:
    """The policy that is under way, or was when the worker died; None if there is none."""
    memory = os.pread(descriptor, _TRACE, 0)
    try:
        is_under_way, began, subject, name = _HEAD.unpack_from(memory)
        if not is_under_way:
            return None
        policy = memory[_NAME : _NAME + min(name, _MAX_NAME)].decode("utf-8", "replace")
        seconds = max((time.monotonic_ns() - began) / 1e9, 0.0)
        return Notice(policy, seconds, _decode(memory[_SUBJECT : _SUBJECT + subject]))
    except struct.error:
        return None


def read_traceback(descriptor: int) -> str:
    """The interpreter's last words, empty if it said none."""
    return os.pread(descriptor, _MAX_TRACE, _TRACE).rstrip(b"\0").decode("ascii", "replace")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Subject)


def _encode(tx: Transaction) -> bytes:
    """Whose mail it is; fewer of its recipients, or nothing, where there is no room or no way to say it."""
    session, envelope = tx.session, tx.envelope
    client = ClientRecord(
        str(session.client_address),
        session.client_port,
        session.client_name,
        session.helo_name,
        session.tls.version if session.tls else None,
        session.authenticated,
    )
    sender, recipients = None, []
    if envelope is not None:
        sender = str(envelope.reverse_path) or "<>"
        named = envelope.recipients if envelope.recipient is None else (envelope.recipient,)
        recipients = [str(each) for each in named[:_MAX_RECIPIENTS]]
    mta = MTARecord(session.mta.name, session.mta.daemon) if session.mta else None
    subject = Subject(tx.stage.value, session.listener, client, sender, recipients, mta)
    try:
        octets = _encoder.encode(subject)
    except UnicodeEncodeError:
        return b""
    return octets if len(octets) <= _MAX_SUBJECT else b""


def _decode(octets: bytes) -> Subject | None:
    try:
        return _decoder.decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
