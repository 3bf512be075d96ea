"""The same mail by both front ends: through the proxy to Postfix, and to a Postfix that asks the milter.

`python -m tests.integration.front_ends PLACE` compares what becomes of the messages in a directory or a
tar archive, with real scanners. Both ways end in one Postfix, whose smtpd for the proxy asks nobody, and in
one sink.
"""

import contextlib
import hashlib
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import click

from deploy.demo.client import Client, Reply
from deploy.demo.daemons import Clamd, Spamd, free_port, interrupt_on_termination
from deploy.demo.gateway_process import Gateway, GatewayProcess, MilterGateway, clamav, spamassassin
from deploy.demo.postfix_milter import MilterPostfix
from gateway.smtp.content import normalized
from tests.fakes.mta import EXTENSIONS, Attempt, FakeMTA
from tests.waiting import soon

ORDER = ("recipients", "virus", "spam", "stamp", "announce", "keep_copy")
# Each changes what is sent by the sender that has it in its name.
POLICIES = '''
from policies import Evidence, Stage, Transaction, Verdict, mark, policy, quarantine, subject


@policy(at=Stage.END_OF_DATA)
def stamp(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """Marks, one of them said twice and one long enough to be folded."""
    if "marked" not in str(tx.envelope.reverse_path):
        return None
    long = mark("X-Checked", " ".join(["by somebody with many words"] * 5))
    return mark("X-Class", "a") & mark("x-class", "b") & long & mark("X-Class", "a")


@policy(at=Stage.END_OF_DATA)
def announce(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """Words before the Subject; what is beyond ASCII is encoded, and may take a line of its own."""
    sender = str(tx.envelope.reverse_path)
    if "marked" in sender:
        return subject("[Prüfung]")
    return subject("[Check]") if "kept" in sender else None


@policy(at=Stage.END_OF_DATA)
def keep_copy(tx: Transaction, evidence: Evidence) -> Verdict | None:
    """A copy in quarantine."""
    return quarantine("asked-for", deliver=True) if "kept" in str(tx.envelope.reverse_path) else None
'''
SENDERS = {kind: f"{kind}@example.org" for kind in ("plain", "marked", "kept")}
RECIPIENT = "a@example.com"

Fate = dict[str, Any]

_JUDGED = ("verdict", "reason", "policy", "recipients", "opinions")
_OF_FIELDS = ("message_id", "subject", "from", "fields")
_NAME = rb"[!-9;-~]+"
_DROPPED = re.compile(rb"(?mi)^(?:Bcc|Content-Length|Resent-Bcc|Return-Path):[^\n]*\n(?:[ \t][^\n]*\n)*")
_SECTION = re.compile(rb"(?:%s[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*" % _NAME)

_RECEIVED = rb"Received:.*\r\n(?:[ \t].*\r\n)*"
_QUEUE_ID = re.compile(rb"\bid (\w+)")
_REFERENCE = re.compile(rb"(?m)^(X-Sluicegate-Reference: ).*\r\n")
_OF_ONE_MESSAGE = re.compile(r"(queued as |\(ref )[0-9A-Za-z-]+")
_PATIENCE = 120.0


def completed(content: bytes) -> bytes:
    """As Postfix has it before it asks a milter, and after it got it from anybody.

    A bare CR is made a blank, and a bare LF a CRLF. A mailbox line is made a field, and a fold behind it is
    no part of it. Nothing stands before a colon, and an empty line ends the header section. Some fields are
    for no receiver (message_drop_headers).
    """
    content = normalized(re.sub(rb"\r(?!\n)", b" ", content))
    content = re.sub(rb"\A>?From [^\n]*\n(?=[ \t])", rb"\g<0>\r\n", content)
    content = re.sub(rb"\A(?=>?From )", b"X-Mailbox-Line: ", content)
    section = _SECTION.match(content)
    assert section
    rest = content[section.end() :]
    fields = _DROPPED.sub(b"", re.sub(rb"(?m)^(%s)[ \t]+:" % _NAME, rb"\1:", section[0]))
    return fields + (b"" if rest.startswith(b"\r\n") else b"\r\n") + rest


class Way:
    """One front end.

    `port` is where its clients connect, `hops` how many trace fields there are above the gateway's others in
    the end, and `shown` what is judged of a message that comes there.
    """

    def __init__(
        self,
        gateway: GatewayProcess,
        port: int,
        hops: int,
        shown: Callable[[bytes], bytes],
    ) -> None:
        self.gateway = gateway
        self.port = port
        self._hops = hops
        self._shown = shown

    def send(self, content: bytes, sender: str) -> Reply:
        """The decisive reply."""
        with Client(self.port) as client:
            return client.send(content, [RECIPIENT], sender)[-1]

    def records(self) -> dict[str, Any]:
        """The records by the name that a reply has for its message: Postfix's if it has one, else ours."""
        return {_named(record): record for record in self.gateway.records()}

    def fate(
        self, content: bytes, reply: Reply, record: Mapping[str, Any] | None, delivered: bytes | None
    ) -> Fate:
        """What became of one message, without what is of that one only, or of this way only.

        There is no record where Postfix refused it without having asked.
        """
        said = (reply.code, _OF_ONE_MESSAGE.sub(r"\1...", reply.text))
        if record is None:
            return {"reply": said, "content": None}
        about = record["message"] or {}
        is_whole = about.get("digest") == hashlib.sha256(self._shown(content)).hexdigest()
        kept = self.gateway.directory / "state/quarantine" / f"{record['reference']}.eml"
        return {
            "reply": said,
            **{key: record[key] for key in _JUDGED},
            "fields": [about.get(key) for key in _OF_FIELDS],
            "judged": "what came" if is_whole else about.get("digest"),
            "evidence": {kind: _timeless(found) for kind, found in record["evidence"].items()},
            "content": None if delivered is None else _without_trace(delivered, self._hops),
            "kept": completed(_without_trace(kept.read_bytes(), self._hops - 1)) if kept.exists() else None,
        }


def _named(record: Mapping[str, Any]) -> str:
    if record["verdict"] != "accepted":
        return str(record["reference"])
    return str(record["mta"]["queue_id"] if record["mta"] else record["downstream"]["reply"].split()[-1])


def _timeless(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in {"elapsed", "joined", "age"}}


def _without_trace(content: bytes, hops: int) -> bytes:
    trace = re.match(rb"(?:%s){%d}" % (_RECEIVED, hops), content)
    assert trace, content[:1000]
    return _REFERENCE.sub(rb"\1...\r\n", content[trace.end() :], count=1)


class BothWays:
    """Both gateways, asking these scanners, and Postfix and the sink behind them."""

    def __init__(self, clamd: str, spamd: str) -> None:
        self._filters = [clamav(clamd), spamassassin(spamd)]
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as running:
            directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
            (directory / "both.py").write_text(POLICIES, encoding="utf-8")
            self._sink = running.enter_context(FakeMTA(extensions=(*EXTENSIONS, "SMTPUTF8")))
            self._postfix = MilterPostfix(self._sink.address)
            plain = free_port()
            unasked = [f"127.0.0.1:{plain} inet n - n - - smtpd", "  -o smtpd_milters="]
            self._postfix.services = [*self._postfix.services, *unasked]
            running.enter_context(self._postfix)
            settings = {
                "filters": self._filters,
                "order": ORDER,
                "policies": f'directory = "{directory}"\n[policies.spam]\nmark_score = 2.0',
            }
            proxy = running.enter_context(
                Gateway(f"127.0.0.1:{plain}", domain="*", listener='bare_newline = "normalize"', **settings)
            )
            milter = running.enter_context(MilterGateway(self._postfix.socket, **settings))
            self.ways = (Way(proxy, proxy.port, 2, normalized), Way(milter, self._postfix.port, 1, completed))
            self._running = running.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()

    def carry(self, messages: Mapping[str, tuple[str, bytes]]) -> dict[str, tuple[Fate, Fate]]:
        """By the same names, what became of each message by the proxy and by the milter.

        A message is its sender and its content. Several are under way at once.
        """
        with ThreadPoolExecutor(4) as threads:
            replies = [
                list(threads.map(lambda each, way=way: way.send(each[1], each[0]), messages.values()))
                for way in self.ways
            ]
        self._wait_for_delivery([reply.queue_id for way in replies for reply in way if reply.queue_id])
        delivered = self._delivered()
        fates = [
            [
                way.fate(content, reply, record, _content(delivered.get(reply.queue_id or "")))
                for (_, content), reply, record in zip(
                    messages.values(), heard, _records(way, heard), strict=True
                )
            ]
            for way, heard in zip(self.ways, replies, strict=True)
        ]
        return dict(zip(messages, zip(*fates, strict=True), strict=True))

    def _wait_for_delivery(self, queue_ids: Sequence[str]) -> None:
        """Until each is in the sink, or bounced."""
        soon(
            lambda: (
                self._delivered().keys() >= set(queue_ids)
                or not {each["queue_id"] for each in self._postfix.queue()} & set(queue_ids)
            ),
            _PATIENCE,
        )

    def _delivered(self) -> dict[str, Attempt]:
        """What is in the sink, by Postfix's names."""
        trace = ((_QUEUE_ID.search(each.raw[:1000]), each) for each in self._sink.messages)
        return {name[1].decode(): each for name, each in trace if name}


def _content(attempt: Attempt | None) -> bytes | None:
    return None if attempt is None else attempt.content


def _records(way: Way, replies: Sequence[Reply]) -> list[Mapping[str, Any] | None]:
    """The record of each reply that names one, waited for."""
    names = [reply.reference or reply.queue_id for reply in replies]

    def find() -> list[Mapping[str, Any] | None] | None:
        records = way.records()
        wanted = {name for name in names if name}
        return [records[name] if name else None for name in names] if records.keys() >= wanted else None

    return soon(find, _PATIENCE)


def differences(fates: tuple[Fate, Fate]) -> dict[str, tuple[Any, Any]]:
    """What is not the same by both ways, by its name."""
    proxy, milter = fates
    both = {key: (proxy.get(key), milter.get(key)) for key in {**proxy, **milter}}
    return {key: values for key, values in both.items() if values[0] != values[1]}


# As a command


def _read(place: Path) -> Iterator[tuple[str, bytes]]:
    """Each message and its name, with lines that end as they do in SMTP."""
    if place.is_dir():
        files = sorted(each for each in place.rglob("*") if each.is_file())
        yield from ((str(file.relative_to(place)), _lines(file.read_bytes())) for file in files)
        return
    with tarfile.open(place) as archive:
        for member in archive:
            if content := archive.extractfile(member):
                yield member.name, _lines(content.read())


def _lines(octets: bytes) -> bytes:
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    return lines if lines.endswith(b"\r\n") else lines + b"\r\n"


@click.command()
@click.argument("place", type=click.Path(exists=True, path_type=Path))
@click.option("--complete", is_flag=True, help="Send what Postfix would make of each: nothing may differ.")
def main(place: Path, complete: bool) -> None:
    """Say which messages at PLACE meet another fate by the one front end than by the other."""
    interrupt_on_termination()
    kinds = list(SENDERS.values())
    messages = {
        name: (kinds[number % len(kinds)], completed(content) if complete else content)
        for number, (name, content) in enumerate(_read(place))
    }
    with Clamd() as clamd, Spamd() as spamd, BothWays(clamd.address, spamd.address) as both:
        fates = both.carry(messages)
    different = {name: found for name, each in fates.items() if (found := differences(each))}
    for name, found in different.items():
        click.echo(f"{name}: {', '.join(found)}")
        for key, values in found.items():
            click.echo("".join(f"    {key}: {_beginning(*pair)!r}\n" for pair in (values, values[::-1])))
    delivered = sum(each[0]["content"] is not None for each in fates.values())
    click.echo(f"{len(fates)} messages, {delivered} delivered, {len(different)} with a difference")
    sys.exit(bool(different))


def _beginning(value: Any, other: Any) -> Any:
    """What is worth showing of a value that differs from another."""
    if not isinstance(value, bytes) or not isinstance(other, bytes):
        return value
    shorter = min(len(value), len(other))
    at = next((n for n in range(shorter) if value[n] != other[n]), shorter)
    return value[max(0, at - 40) : at + 100]


if __name__ == "__main__":
    main()
