"""The inside of the sandbox: `python -m filters.sandbox.worker LIMITS SECONDS`, started by `pool`.

A question is a line of JSON and so many octets of a message, on standard input; the answer is one
line on standard output. It imports everything first, gives up what it will not need (`confinement`),
and only then looks at what strangers made.
"""

import encodings
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import time
import warnings
from dataclasses import asdict
from types import FrameType
from typing import Any

from filters.sandbox import archives, documents, true_types
from filters.sandbox.confinement import confine, die_with_parent, limit_resources
from filters.sandbox.dissection import Dissection, HeldContent
from filters.sandbox.limits import Limits

# A worker that has computed for so long is replaced before its next question.
_CPU_SECONDS = 120
# Of the time for a question, so that what was found until then can still be said.
_OUR_PART = 0.8
# Whatever swallows the first interruption is interrupted again.
_AGAIN = 0.2
_PIECE = 1_048_576
_MAX_LINE = 4096


class TimeIsUpError(BaseException):
    """Raised wherever the work happens to be; not an Exception, for libraries catch those."""


class _Alarm:
    """Interrupts the work when its time is over."""

    def __init__(self) -> None:
        self._is_set = False
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, _signum: int, _frame: FrameType | None) -> None:
        if self._is_set:
            raise TimeIsUpError

    def set(self, until: float) -> None:
        self._is_set = True
        # Zero would be never.
        signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 0.001), _AGAIN)

    def clear(self) -> None:
        self._is_set = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Answer questions until there are no more, or until it is better to start afresh."""
    die_with_parent()
    limits = Limits(**json.loads(sys.argv[1]))
    limit_resources(limits.memory, _CPU_SECONDS + 2 * int(float(sys.argv[2])) + 1)
    # What strangers made makes libraries warn; nobody reads that.
    warnings.simplefilter("ignore")
    load_codecs()
    alarm = _Alarm()
    _say(json.dumps(f"{_versions()}; {confine()}").encode())
    is_fresh = True
    while is_fresh and (question := _read_line()):
        until = time.monotonic() + question["seconds"] * _OUR_PART
        answer, is_fresh = _answer(_read(question["size"]), limits, until, alarm)
        is_fresh = is_fresh and _cpu_seconds() < _CPU_SECONDS
        _say(f"{question['token']} {'more' if is_fresh else 'last'} ".encode() + answer)


def _answer(octets: bytes, limits: Limits, until: float, alarm: _Alarm) -> tuple[bytes, bool]:
    """What was found, and whether the process is as good as new."""
    dissection, is_fresh = Dissection(limits), False
    try:
        try:
            alarm.set(until)
            dissection.run(HeldContent(octets))
            is_fresh = True
        finally:
            alarm.clear()
    except TimeIsUpError:
        dissection.add_defect("time-out")
    except (MemoryError, RecursionError):
        dissection.add_defect("too-much-memory")
    return encoded(dissection), is_fresh


def encoded(dissection: Dissection) -> bytes:
    """What was found, as one line of JSON for `filters.attachments.understand`."""
    answer = {
        "files": [{**asdict(file), "macros": list(file.macros)} for file in dissection.files],
        "urls": ["".join(char if char.isprintable() else "?" for char in url) for url in dissection.urls],
        "defects": list(dissection.defects),
    }
    return json.dumps(answer, ensure_ascii=False).encode("utf-8")


def load_codecs() -> None:
    """Charsets are loaded when they are first met, which is too late in a process that is confined."""
    for module in pkgutil.iter_modules(encodings.__path__):
        if module.name not in {"mbcs", "oem"}:
            importlib.import_module(f"encodings.{module.name}")


def _versions() -> str:
    return ", ".join((true_types.version(), archives.version(), documents.version()))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _read_line() -> dict[str, Any] | None:
    """The next question, or `None` when there are no more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        octet = os.read(0, 1)
        if not octet or len(line) > _MAX_LINE:
            return None
        line += octet
    question: dict[str, Any] = json.loads(line)
    return question


def _read(size: int) -> bytes:
    octets = bytearray()
    while len(octets) < size:
        piece = os.read(0, min(_PIECE, size - len(octets)))
        if not piece:
            # Whoever asked has gone.
            sys.exit()
        octets += piece
    return bytes(octets)


def _say(line: bytes) -> None:
    rest = memoryview(line + b"\n")
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    main()
