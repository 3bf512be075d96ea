"""What policies and filters saw and said, rebuilt from a record of it.

Nothing is made up: what a record does not have is there in name only, and whoever looks at it meets
`NotRecorded`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, ClassVar, Final, NoReturn, TypeVar

import msgspec

from filters.evidence import Finding, Outcome, Skipped, Unavailable
from gateway.journal.record import ClientRecord, MessageRecord, Record
from gateway.recorder import MAX_VALUE
from gateway.smtp.address import NULL_PATH, Path, PathError, parse_address
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.session import MTA, TLS, Session
from gateway.smtp.transaction import Stage, Transaction
from policies.effects import AddRecipient, Copy, Effect, HeaderField, Redirect, SubjectPrefix
from policies.verdict import Decision, Verdict, discard, quarantine, reject, tempfail

# What stands beside a finding's own fields (`Gathered.as_record`).
_ABOUT: Final = frozenset({"source", "elapsed", "joined", "age", "unavailable", "skipped"})

T = TypeVar("T")


class NotRecorded(BaseException):
    """A policy looked at something that is not in the record; the text says what.

    No `Exception`: a policy that goes on whatever happens must not go on with a guess. `latest` is for
    those that catch even this.
    """

    latest: ClassVar["NotRecorded | None"] = None

    def __init__(self, what: str) -> None:
        super().__init__(what)
        NotRecorded.latest = self

    @classmethod
    def forget(cls) -> None:
        """The next policy is asked."""
        cls.latest = None


class Unreadable(ValueError):
    """The record cannot be judged again at all; the text says why."""


class _Blank:
    """The place of an attribute that is not in the record."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise NotRecorded(self._what)

    def __set__(self, instance: object, value: object) -> None:
        """Nothing is kept."""


@functools.cache
def without(kind: type[T], *names: str) -> type[T]:
    """The same dataclass, but for attributes that nobody knows."""
    blanks = {name: _Blank(f"{kind.__name__.lower()}.{name}") for name in names}
    return type(kind.__name__, (kind,), {"__slots__": (), **blanks})


class RecordedMessage(Message):
    """A message of which size, digest and some header fields are known."""

    __slots__ = ("_record",)

    def __init__(self, record: MessageRecord) -> None:
        self._record = record

    def __getattribute__(self, name: str) -> Any:
        """Whatever else a message has, now or later, is not in the record."""
        if not name.startswith("_") and name not in _KNOWN_OF_MESSAGES:
            raise NotRecorded(f"message.{name}")
        return object.__getattribute__(self, name)

    @property
    def size(self) -> int:
        """Number of octets, as received."""
        return self._record.size

    @property
    def digest(self) -> str:
        """SHA-256 of the octets as received, in hexadecimal."""
        return self._record.digest

    def header(self, name: str) -> str | None:
        """The first field of that name, decoded; `None` if there is none. Raises NotRecorded."""
        return next(self._fields_named(name, is_first_enough=True), None)

    def headers(self, name: str) -> tuple[str, ...]:
        """All fields of that name, decoded. Raises NotRecorded."""
        return tuple(self._fields_named(name))

    def raw_header(self, name: str) -> bytes | None:
        """`None` if there is no such field. Raises NotRecorded where there is one."""
        for _ in self._fields_named(name, is_first_enough=True):
            raise NotRecorded(f"message.raw_header({name!r})")
        return None

    def _fields_named(self, name: str, is_first_enough: bool = False) -> Iterator[str]:
        wanted = name.lower()
        values = self._record.fields.get(wanted)
        if values is None and wanted in _ALWAYS_RECORDED:
            first = getattr(self._record, _ALWAYS_RECORDED[wanted])
            if first is None:
                values = []
            elif is_first_enough and len(first) < MAX_VALUE:
                values = [first]
        if values is None:
            raise NotRecorded(f"message header {wanted!r:.100}")
        return iter(values)


_KNOWN_OF_MESSAGES = frozenset({"size", "digest", "header", "headers", "raw_header"})
# Of these the first one's beginning is in every record.
_ALWAYS_RECORDED = {"subject": "subject", "from": "from_", "message-id": "message_id"}


def outcome(kind: type[Finding], evidence: Mapping[str, Mapping[str, Any]]) -> Outcome:
    """What the filter answered when the record was made. Raises NotRecorded if it was not asked."""
    name = kind.__name__
    recorded = evidence.get(name)
    if recorded is None:
        raise NotRecorded(f"{name}: no filter was asked for it")
    own = frozenset(field.name for field in dataclasses.fields(kind))
    if own & _ABOUT:
        raise NotRecorded(f"{name}: its fields have names that a record has for something else")
    if "unavailable" in recorded:
        return Unavailable(str(recorded.get("source")), str(recorded["unavailable"]))
    if "skipped" in recorded:
        return Skipped(str(recorded.get("source")), str(recorded["skipped"]))
    return _finding(kind, {key: value for key, value in recorded.items() if key in own}, own)


def _finding(kind: type[Finding], values: Mapping[str, Any], own: frozenset[str]) -> Finding:
    """Raises NotRecorded where the values are not exactly what such a finding is recorded as."""
    if missing := own - values.keys():
        raise NotRecorded(f"{kind.__name__}: the record has no {min(missing)}")
    try:
        finding = msgspec.convert(values, kind, dec_hook=_from_text)
        is_faithful = msgspec.json.decode(msgspec.json.encode(finding, enc_hook=str)) == values
    except (ValueError, TypeError) as error:
        raise NotRecorded(f"{kind.__name__}: {error}") from None
    if not is_faithful:
        raise NotRecorded(f"{kind.__name__}: it cannot be read back from a record")
    return finding


def _from_text(kind: type[T], text: Any) -> T:
    """The inverse of `str`, as which a record has what JSON cannot say."""
    return kind(text)  # type: ignore[call-arg]


# By these a verdict has a reply.
_REPLYING: Final[Mapping[Decision, Callable[..., Verdict]]] = {
    Decision.REJECT: reject,
    Decision.TEMPFAIL: tempfail,
    Decision.QUARANTINE: quarantine,
    Decision.DISCARD: discard,
}


def verdict(opinion: Mapping[str, Any]) -> Verdict | None:
    """What a policy said, in either mode, but for the text of its reply. Raises NotRecorded."""
    if opinion.get("verdict") is None:
        return None
    try:
        decision, reason = Decision(opinion["verdict"].removeprefix("would-")), opinion["reason"]
        spoken = {key: opinion[key] for key in ("code", "status") if key in opinion}
        recipients = opinion.get("recipients")
        return Verdict(
            decision,
            reason,
            _REPLYING[decision](reason, **spoken).reply if decision in _REPLYING else None,
            opinion["detail"],
            tuple(map(_effect, opinion.get("effects", ()))),
            frozenset(opinion.get("exempt_from", ())),
            None if recipients is None else frozenset(map(parse_address, recipients)),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise NotRecorded(f"the opinion makes no sense: {error}") from None


def _effect(recorded: Mapping[str, str]) -> Effect:
    match Decision(recorded["effect"]):
        case Decision.MARK:
            return HeaderField(recorded["name"], recorded["value"])
        case Decision.SUBJECT:
            return SubjectPrefix(recorded["prefix"])
        case Decision.REDIRECT:
            return Redirect(parse_address(recorded["address"]))
        case Decision.ADD_RECIPIENT:
            return AddRecipient(parse_address(recorded["address"]))
        case Decision.COPY:
            return Copy(recorded["reason"])
        case decision:
            raise ValueError(f"{decision.value} is no effect")


class Rebuilt:
    """One record's session, envelope and message, as far as it has them.

    `last` is the stage to which policies can be asked about it. Raises Unreadable when created.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        if record.cut:
            raise Unreadable("the record was shortened")
        try:
            self.last = Stage(record.spoken)
            self._address = ip_address(record.client.address)
            self._reverse_path = _reverse_path(record.reverse_path)
            self.recipients = tuple(map(parse_address, record.recipients))
        except (ValueError, PathError) as error:
            raise Unreadable(f"the record makes no sense: {error}") from None
        if self.last is Stage.END_OF_DATA and record.message is None:
            raise Unreadable("the record has no message")

    @property
    def is_by_mta(self) -> bool:
        """Whether an MTA asked, which relays by rules of its own."""
        return self.record.mta is not None

    @property
    def has_all_recipients(self) -> bool:
        """Whether the message had no recipients but those of the record, as far as one can know."""
        return self.record.answers_for_each is False

    @property
    def is_about_several(self) -> bool:
        """Whether what was found out about a recipient need not be about the one in question."""
        is_message = self.last is Stage.END_OF_DATA
        return len(self.recipients) > 1 or (is_message and not self.has_all_recipients)

    def opinion(self, policy: str, fingerprint: str) -> Verdict | None:
        """What the policy with this fingerprint said then. Raises NotRecorded where another one did."""
        recorded = self.record.opinions.get(policy, {})
        if not fingerprint or recorded.get("fingerprint") != fingerprint:
            raise NotRecorded("an opinion of this very policy")
        return verdict(recorded)

    def has_found(self, kind: type[Finding]) -> bool:
        """Whether policies were told of it then."""
        recorded = self.record.evidence.get(kind.__name__)
        return recorded is not None and not recorded.keys() & {"unavailable", "skipped"}

    def transaction(
        self, stage: Stage, recipient: Path | None = None, recipients: Sequence[Path] | None = ()
    ) -> Transaction:
        """What policies saw at this stage; `recipients` are `None` where nobody knows them."""
        session = self._session(stage)
        if stage.is_before(Stage.MAIL):
            return Transaction(stage, session)
        envelope = self._envelope(recipient, recipients)
        if stage.is_before(Stage.END_OF_DATA):
            return Transaction(stage, session, envelope)
        assert self.record.message is not None
        message = RecordedMessage(self.record.message)
        judged: type[Transaction] = without(Transaction, "trace")
        return judged(stage, session, envelope, message)

    def _session(self, stage: Stage) -> Session:
        """The session as it stood then; of what came about between its stages the end is recorded."""
        client = self.record.client
        unknown: list[str] = []
        is_greeted = stage is not Stage.CONNECT
        if is_greeted and client.helo is not None and client.protocol is None:
            unknown += ["esmtp", "lmtp"]
        if not is_greeted and client.tls is not None:
            unknown.append("tls")
        if stage.is_before(Stage.MAIL) and client.authenticated is not None:
            unknown.append("authenticated")
        if self.is_by_mta and stage.is_before(Stage.MAIL):
            unknown.append("esmtp")
        kind = without(Session, *unknown) if unknown else Session
        return kind(
            client_address=self._address,
            client_port=client.port,
            listener=self.record.listener,
            client_name=client.name,
            helo_name=client.helo if is_greeted else None,
            esmtp=is_greeted and client.protocol in {"ESMTP", "LMTP"},
            lmtp=is_greeted and client.protocol == "LMTP",
            tls=_tls(client),
            authenticated=client.authenticated,
            mta=_mta(self.record),
        )

    def _envelope(self, recipient: Path | None, recipients: Sequence[Path] | None) -> Envelope:
        unknown = [] if self.record.parameters is not None else ["parameters"]
        if recipients is None:
            unknown.append("recipients")
        if recipient is not None:
            unknown.append("recipient_parameters")
        kind = without(Envelope, *unknown) if unknown else Envelope
        return kind(self._reverse_path, tuple(recipients or ()), recipient, self.record.parameters or {})


def _tls(client: ClientRecord) -> TLS | None:
    if client.tls is None:
        return None
    return TLS(client.tls, client.cipher) if client.cipher else without(TLS, "cipher")(client.tls, "")


def _mta(record: Record) -> MTA | None:
    return None if record.mta is None else MTA(record.mta.name, record.mta.daemon)


def _reverse_path(recorded: str | None) -> Path:
    return NULL_PATH if recorded in {None, "<>"} else parse_address(recorded)
