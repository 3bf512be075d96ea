"""The language of `tests/dialogs`: read a transcript, run it. README.md there explains it."""

import ast
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.journal.record import Record
from gateway.smtp.content import BareNewline
from gateway.smtp.networks import Networks
from tests.client import Client
from tests.fakes.mta import FakeMTA, say
from tests.waiting import eventually


def _peers(text: str) -> Networks:
    return Networks(text.split(","))


_SETTINGS = {"speak": str, "max_message_size": int, "bare_newline": BareNewline, "xclient": _peers}
_UNCOUNTED = ("EHLO", "HELO", "XFORWARD", "QUIT")


class TranscriptError(ValueError):
    """The transcript itself is wrong."""


@dataclass
class Transcript:
    """One file. `steps` are `(what, argument)` in order."""

    settings: dict[str, Any] = field(default_factory=dict)
    script: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)
    downstream: list[str] | None = None
    records: list[dict[str, str]] | None = None


def read(path: Path) -> Transcript:
    """Raises TranscriptError with the line."""
    transcript = Transcript()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            what, _, argument = line.partition(" ")
            try:
                _take(transcript, what, argument)
            except (KeyError, ValueError) as error:
                raise TranscriptError(f"{path.name}:{number}: {error}") from error
    return transcript


def _take(transcript: Transcript, what: str, argument: str) -> None:
    match what:
        case "set":
            key, value = argument.split(" ")
            transcript.settings[key] = _SETTINGS[key](value)
        case "mta":
            # The last colon: a command line has one of its own.
            command, reply = re.fullmatch(r"(.*): (\d.*)", argument).groups()
            transcript.script[command] = reply
        case "->" | "=>" | "<-" | "<|" | "|>":
            transcript.steps.append((what, argument))
        case "downstream":
            transcript.downstream = transcript.downstream or []
            transcript.downstream += [] if argument == "nothing" else [argument]
        case "record":
            transcript.records = transcript.records or []
            words = [] if argument == "nothing" else [word.split("=", 1) for word in shlex.split(argument)]
            transcript.records += [dict(words)] if words else []
        case _:
            raise ValueError(f"{what!r} is not in the language")


async def run(transcript: Transcript, port: int) -> None:
    """Say and expect everything in order. Fails with the step that did not go as written."""
    async with Client(port) as client:
        pending = b""
        for what, argument in transcript.steps:
            if what in {"->", "=>"}:
                pending += _octets(what, argument)
                continue
            if pending:
                client.say(pending)
                pending = b""
            if what == "|>":
                client.half_close()
            elif what == "<|":
                assert await client.is_closed(), f"{what} {argument}"
            else:
                line = await client.line()
                assert _matches(argument, line), f"expected {argument!r}, got {line!r}"
        assert not pending, "a transcript ends with what the gateway says"


def _octets(what: str, argument: str) -> bytes:
    if what == "->":
        return argument.encode() + b"\r\n"
    octets = ast.literal_eval(f"b'{argument}'")
    assert isinstance(octets, bytes)
    return octets


def prepare(transcript: Transcript, mta: FakeMTA) -> None:
    """Tell the MTA what to say."""
    for command, reply in transcript.script.items():
        mta.script[command] = say(reply)


async def check(transcript: Transcript, mta: FakeMTA, records: Iterable[Record]) -> None:
    """What the MTA heard, which may be on its way to it yet, and what was recorded."""
    if (commands := transcript.downstream) is not None:
        await eventually(lambda: len(_heard(mta)) >= len(commands))
        assert _heard(mta) == commands
        assert commands or not mta.connections
    if transcript.records is not None:
        found = [_facts(record, wanted) for record, wanted in _pairs(records, transcript.records)]
        assert found == transcript.records


def _heard(mta: FakeMTA) -> list[str]:
    return [command for command in mta.commands if not command.startswith(_UNCOUNTED)]


def _pairs(
    records: Iterable[Record], wanted: list[dict[str, str]]
) -> Iterable[tuple[Record, dict[str, str]]]:
    records = list(records)
    assert len(records) == len(wanted), records
    return zip(records, wanted, strict=True)


def _facts(record: Record, wanted: dict[str, str]) -> dict[str, str]:
    return {key: _text(getattr(record, key)) for key in wanted}


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _matches(pattern: str, line: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), line) is not None
