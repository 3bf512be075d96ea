"""The record of one decision: a JSON object on one line, UTF-8, the schema version in it.

Names and meanings are an interface, like the replies: scripts read them. A change that is more
than an added field raises `SCHEMA_VERSION`.
"""

import secrets
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

SCHEMA_VERSION: Final = 1

# Octets of one line, its newline included; the reading side takes no longer one for a record.
MAX_LINE: Final = 4_194_304

# No 0, 1, I or O: nothing in a reference can be misread, or misheard over a telephone.
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

VERDICTS: Final = ("accepted", "rejected", "tempfailed", "quarantined", "discarded", "aborted")
STAGES: Final = ("connect", "helo", "mail", "rcpt", "end-of-data", "relay")


class ReplyRecord(msgspec.Struct, frozen=True):
    """The reply as sent; `text` with its lines joined by blanks and without the status."""

    code: int
    status: str | None
    text: str


class ClientRecord(msgspec.Struct, frozen=True):
    """Who was connected; `tls` is the protocol version or null, `cipher` what goes with it.

    `protocol` is how it greeted: `SMTP` (HELO), `ESMTP` or `LMTP`, null before that.
    """

    address: str
    port: int
    name: str | None = None
    helo: str | None = None
    tls: str | None = None
    authenticated: str | None = None
    cipher: str | None = None
    protocol: str | None = None


class MessageRecord(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """What identifies a message: size in octets, three of its header fields, SHA-256 of its content.

    `fields` are the header fields that were asked for when it was judged, by lower-case name: all
    their values decoded, none for a field that is not there, null where that is too much to be kept.
    """

    size: int
    digest: str
    message_id: str | None = None
    subject: str | None = None
    from_: str | None = None
    fields: dict[str, list[str] | None] = {}


class DownstreamRecord(msgspec.Struct, frozen=True):
    """The MTA that was spoken to, and its decisive reply as one line of text (null if it gave none)."""

    address: str
    reply: str | None = None


class MTARecord(msgspec.Struct, frozen=True):
    """The MTA that asked by its milter interface: host name, name of its port, and the message's queue id.

    The last is null as long as it has none.
    """

    name: str
    daemon: str
    queue_id: str | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One decision.

    `stage` is where it was made, `spoken` where it was said to the client. `reverse_path` is `<>`
    for the null one and null before MAIL. `evidence` maps an evidence type to its fields with
    `source` and `elapsed`, or to `unavailable` or `skipped` with the cause. `opinions` maps a policy
    to `verdict` (null for no opinion), `reason`, `detail`, `mode`, `stage`, `fingerprint`. `elapsed` is
    seconds per stage. `profile` is the entry of a `[[profile]]` that named the recipient, null for the
    general settings. `mta` is null where the client spoke to us. `parameters` are those of MAIL, null
    before it. `answers_for_each` is whether the client takes a reply for each recipient of a message, so
    that others may be in another record. `cut` is true where something in the record was shortened or
    respelled to be written at all.
    """

    version: int = SCHEMA_VERSION
    reference: str
    time: str
    node: str
    listener: str
    verdict: str
    stage: str
    spoken: str
    reason: str
    policy: str | None = None
    detail: str = ""
    reply: ReplyRecord | None = None
    client: ClientRecord
    reverse_path: str | None = None
    recipients: list[str] = []
    message: MessageRecord | None = None
    evidence: dict[str, dict[str, Any]] = {}
    opinions: dict[str, dict[str, Any]] = {}
    downstream: DownstreamRecord | None = None
    mta: MTARecord | None = None
    elapsed: dict[str, float] = {}
    profile: str | None = None
    parameters: dict[str, str | None] | None = None
    answers_for_each: bool | None = None
    cut: bool = False


def new_reference() -> str:
    """A fresh reference such as `7K3F-Q2MD`: 40 random bits, short enough to be read out."""
    bits = secrets.randbits(40)
    letters = "".join(_ALPHABET[bits >> shift & 31] for shift in range(35, -1, -5))
    return f"{letters[:4]}-{letters[4:]}"


def is_reference(text: str) -> bool:
    """Whether this is a reference, written as `new_reference` does."""
    first, hyphen, second = text.partition("-")
    return bool(hyphen) and len(first) == len(second) == 4 and set(first + second) <= set(_ALPHABET)


def timestamp(when: datetime | None = None) -> str:
    """RFC 3339 in UTC with microseconds; sorts as text."""
    when = when or datetime.now(UTC)
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(Record)

_MAX_STRING = 512
_MAX_ITEMS = 1000


def encode(record: Record) -> bytes:
    """One line, newline included, of at most `MAX_LINE` octets.

    What a sender or a filter made unsayable in UTF-8 (lone surrogates) is written with a
    backslash; a record that is too long has its strings and lists cut. So every record can be written.
    """
    try:
        line = _encoder.encode(record)
    except UnicodeEncodeError:
        line = b""
    if not line or len(line) >= MAX_LINE:
        said = msgspec.to_builtins(msgspec.structs.replace(record, cut=True), enc_hook=str)
        line = _encoder.encode(_sayable(said))
    return line + b"\n"


def _sayable(value: Any) -> Any:
    """The same JSON value, cut in length, and without characters that UTF-8 cannot say."""
    match value:
        case str():
            return value[:_MAX_STRING].encode("utf-8", "backslashreplace").decode("utf-8")
        case list() | tuple():
            return [_sayable(item) for item in value[:_MAX_ITEMS]]
        case dict():
            return {_sayable(key): _sayable(item) for key, item in list(value.items())[:_MAX_ITEMS]}
        case _:
            return value


def decode(line: bytes) -> Record:
    """The record of one line. Raises ValueError (msgspec.DecodeError) for anything else."""
    try:
        return _decoder.decode(line)
    except RecursionError:
        raise ValueError("nested too deeply for a record") from None
