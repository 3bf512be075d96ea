"""The whole story of one decision, for people: what is in its record, and what would change it.

Pure: a record in, text out. What the sender chose cannot steer a terminal.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.journal.advice import is_death, what_would_change
from gateway.journal.deeds import Deed, deeds, is_held, taking
from gateway.journal.record import ClientRecord, MessageRecord, MTARecord, Record
from gateway.journal.text import padded, visible, width
from gateway.journal.tracebacks import essence, place, shortened

_Rows = list[tuple[str, ...]]


def explain(record: Record, *, is_trial: bool = False) -> str:
    """Several lines of aligned text, without a newline at the end.

    `is_trial` is for a message that nobody has sent: nothing was done to it, and nothing is kept.
    """
    lost = "what was known until then ended with the worker" if is_death(record) else ""
    lines = [
        *_table(list(_facts(record)), ""),
        *_section("Filters asked", list(_evidence(record.evidence)), lost or "no filter was asked"),
        *_section(
            "Policies, in the order they spoke", list(_opinions(record.opinions)), lost or "none was asked"
        ),
        *_done(record, is_trial),
        *_section("What would change it", [("-", advice) for advice in what_would_change(record)], ""),
    ]
    return "\n".join(visible(line) for line in lines)


def _facts(record: Record) -> Iterator[tuple[str, ...]]:
    yield "Reference", record.reference
    yield "Verdict", f"{record.verdict}: {record.reason}"
    yield "Decided", _decided(record)
    where = place(record.detail) if record.reason == "policy-error" else None
    if where is not None:
        yield "Where", where
    for number, line in enumerate(shortened(record.detail).splitlines()):
        yield "" if number else "Detail", line
    yield "When", f"{record.time} on {record.node}, listener {record.listener}"
    yield "Client", _client(record.client)
    yield "Sender", record.reverse_path or "not given yet"
    yield "Recipients", " ".join(record.recipients) or "none"
    if record.profile:
        yield "Profile", f"the first [[profile]] with {record.profile}"
    if record.message:
        yield from _message(record.message)
    yield "Reply", _reply(record)
    if record.mta:
        yield "MTA", _mta(record.mta)
    if record.downstream:
        said = record.downstream.reply or "nothing"
        yield "Downstream", f"{record.downstream.address} said: {said}"
    if record.elapsed:
        times = (f"{stage} {_duration(seconds)}" for stage, seconds in record.elapsed.items())
        yield "Time taken", ", ".join(times)


def _decided(record: Record) -> str:
    by = f"by policy {record.policy}" if record.policy else "by the gateway itself"
    spoken = "" if record.spoken == record.stage else f", told to the client at {record.spoken}"
    return f"{by}, at {record.stage}{spoken}"


def _client(client: ClientRecord) -> str:
    parts = [
        f"{client.address} port {client.port}",
        f"name {client.name}" if client.name else "no verified name",
        f"HELO {client.helo}" if client.helo else "no HELO",
        client.tls or "no TLS",
    ]
    if client.authenticated:
        parts.append(f"authenticated as {client.authenticated}")
    return ", ".join(parts)


def _message(message: MessageRecord) -> Iterator[tuple[str, ...]]:
    yield "Message", f"{message.size} octets, SHA-256 {message.digest}"
    for name, value in (("Subject", message.subject), ("From", message.from_)):
        if value is not None:
            yield name, value
    if message.message_id is not None:
        yield "Message-ID", message.message_id


def _mta(mta: MTARecord) -> str:
    queue_id = f"queue id {mta.queue_id}" if mta.queue_id else "no queue id yet"
    return f"{mta.name}, daemon {mta.daemon}, {queue_id}"


def _reply(record: Record) -> str:
    reply = record.reply
    if reply is None:
        return "the MTA's own" if record.mta and record.verdict != "aborted" else "none was sent"
    return " ".join(filter(None, (str(reply.code), reply.status, reply.text)))


def _evidence(evidence: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for kind, fields in evidence.items():
        values = {name: value for name, value in fields.items() if name not in {"source", "elapsed"}}
        answer = ", ".join(f"{name}: {_value(value)}" for name, value in values.items())
        source = str(fields.get("source", "unknown"))
        yield kind, f"from {source}", _duration(fields.get("elapsed")), answer or "no details"


def _opinions(opinions: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for policy, opinion in opinions.items():
        mode = f"mode {opinion.get('mode', 'unknown')}"
        yield policy, f"at {opinion.get('stage', 'unknown')}", mode, _opinion(opinion)


def _opinion(opinion: Mapping[str, Any]) -> str:
    verdict = opinion.get("verdict")
    said = " ".join(str(part) for part in (verdict, opinion.get("reason")) if part) or "no opinion"
    detail = str(opinion.get("detail") or "").strip()
    # Of a traceback that decided, the rest is above, under "Detail".
    return f"{said}: {essence(detail)}" if detail else said


def _done(record: Record, is_trial: bool) -> list[str]:
    taken = taking(record)
    done = deeds(record) if taken is None else [*deeds(record), taken]
    title = "What policies would have done to it" if is_trial else "What policies did to it"
    rows: _Rows = [
        (deed.policy, f"{deed.phrase} ({deed.reason}){'' if is_trial else _see(record, deed)}")
        for deed in done
    ]
    return _section(title, rows, "") if done else []


def _see(record: Record, deed: Deed) -> str:
    """The commands for a message that waits somewhere, if it does."""
    if deed.is_kept:
        return f"; see: sluicegate quarantine show {record.reference}"
    if not is_held(record) or deed.kind != "quarantine":
        return ""
    queue_id = record.mta.queue_id if record.mta and record.mta.queue_id else "ID"
    return f"; Postfix shows it with postcat -q {queue_id} and lets it go with postsuper -H {queue_id}"


def _value(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(_value(item) for item in value) or "none"
        case dict():
            return (
                " ".join(f"{name}={_value(item).replace(' ', ',')}" for name, item in value.items()) or "none"
            )
        case _:
            return str(value)


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return "time unknown"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _section(title: str, rows: _Rows, otherwise: str) -> list[str]:
    return ["", title, *(_table(rows, "  ") if rows else [f"  {otherwise}"])]


def _table(rows: _Rows, indent: str) -> list[str]:
    """Aligned columns, the last as wide as it likes. Widths are those of what will be shown."""
    shown = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*shown, strict=True)][:-1]
    return [indent + "  ".join([*map(padded, row[:-1], widths), row[-1]]).rstrip() for row in shown]
