"""What a message brings along: files, archives and what is in them, macros, links.

The filter itself looks at nothing: it hands the message to a worker process that may do nothing but
compute (`filters.sandbox`), and reads the answer as it would a stranger's. What is damaged, encrypted
or too much is part of the finding. Only a worker that ends, hangs or answers nonsense is an error.
"""

import functools
import json
import logging
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from filters.base import Cost, Filter, FilterError, TooLarge
from filters.evidence import AttachedFile, Attachments
from filters.sandbox.limits import CONFINED, Limits
from filters.sandbox.pool import Sandbox, command, environment
from gateway.smtp.reply import printable
from gateway.smtp.transaction import Transaction

WORKER = "filters.sandbox.worker"
# Of the time for a message, so that we know before the gateway's own limit whose silence it was.
_OUR_PART = 0.95
_START_TIMEOUT = 30.0
# Memory that a worker takes before it has a message; and how often it has the same content while it
# reads, joins and decodes it.
_LIBRARIES = 167_772_160
_COPIES = 6
_MAX_FILES = 1000
_MAX_DEPTH = 20
_MAX_TEXT = 4096
_MAX_ITEMS = 1000
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")


_log = logging.getLogger(__name__)


class AttachmentScanner(Filter):
    """Takes messages apart, in `workers` processes for each SMTP process.

    A message of more than `max_size` octets is not looked at. All that comes out of its archives may
    be `max_unpacked` octets, and out of one archive `max_ratio` times its size; there may be
    `max_files` files, within each other down to `max_depth`. `memory` is the address space of one
    worker, in octets: content, what is unpacked and libraries have to fit.
    """

    name = "attachments"
    finds = Attachments
    cost = Cost.SCAN

    def __init__(
        self,
        *,
        max_size: int = 52_428_800,
        max_unpacked: int = 134_217_728,
        max_ratio: int = 200,
        max_files: int = 500,
        max_depth: int = 6,
        memory: int = 805_306_368,
        workers: int = 2,
    ) -> None:
        _check("max_size", max_size, 1)
        _check("max_unpacked", max_unpacked, 1)
        _check("max_ratio", max_ratio, 1)
        _check("max_files", max_files, 1, _MAX_FILES)
        _check("max_depth", max_depth, 0, _MAX_DEPTH)
        _check("workers", workers, 1, 64)
        if memory < _LIBRARIES + max_unpacked + _COPIES * max_size:
            raise ValueError(
                f"memory must be at least {_LIBRARIES}, max_unpacked and {_COPIES} times max_size together"
            )
        self._max_size = max_size
        self._limits = Limits(max_unpacked, max_ratio, max_files, max_depth, memory)
        self._workers = workers
        _try_worker(WORKER, *self._arguments(_START_TIMEOUT))

    async def find(self, tx: Transaction) -> Attachments:
        """What is in the message."""
        content = tx.message.content
        if content.size > self._max_size:
            raise TooLarge(f"{content.size} octets are more than max_size = {self._max_size}")
        answer = await self._sandbox.ask(content.size, content.chunks(), self.timeout * _OUR_PART)
        return understand(answer, self._limits)

    def subject(self, tx: Transaction) -> str:
        """The content alone."""
        return tx.message.digest

    async def probe(self) -> str:
        """The versions of the libraries, and how the workers are confined."""
        return _text(await self._sandbox.greet(self.timeout * _OUR_PART))

    async def close(self) -> None:
        """End the workers."""
        await self._sandbox.close()

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that wait for a message."""
        return self._sandbox.process_ids

    @functools.cached_property
    def _sandbox(self) -> Sandbox:
        """Made when first needed: only then the gateway has said what `timeout` is."""
        return Sandbox(WORKER, self._arguments(self.timeout), self._workers)

    def _arguments(self, seconds: float) -> list[str]:
        return [json.dumps(asdict(self._limits)), str(seconds)]


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        allowed = f"from {least} to {most}" if most is not None else f"at least {least}"
        raise ValueError(f"{name} must be {allowed}")


@functools.cache
def _try_worker(module: str, *arguments: str) -> None:
    """Start one, to no other purpose. Raises ValueError if it does not come up, with the reason if known."""
    try:
        tried = subprocess.run(  # noqa: S603 - our own module, by our own interpreter
            command(module, arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=_START_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"no worker came up within {_START_TIMEOUT:.0f} s") from None
    if tried.returncode == 0:
        if not (greeting := _text(tried.stdout)).endswith(CONFINED):
            _log.warning("attachments are looked at without the protection there should be: %s", greeting)
        return
    said = printable((tried.stderr.strip().splitlines() or [b"nothing"])[-1].decode("latin-1"))[:200]
    if "ImportError" in said or "ModuleNotFoundError" in said or "OSError" in said:
        raise ValueError(
            "needs pip install 'sluicegate[attachments]', and libmagic and libarchive of the operating "
            f"system (Debian: libmagic1, libarchive13); {said}"
        )
    raise ValueError(f"no worker comes up: {said}")


def _text(greeting: bytes) -> str:
    return printable(greeting.decode("latin-1").strip().strip('"'))[:_MAX_TEXT]


# The answer


def understand(answer: bytes, limits: Limits) -> Attachments:
    """The finding. Raises FilterError for whatever no worker in its senses says."""
    try:
        said = json.loads(answer)
        return Attachments(
            tuple(_file(each) for each in _items(said.pop("files"), limits.max_files)),
            _strings(said.pop("urls")),
            _strings(said.pop("defects"), _SLUG.fullmatch),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FilterError(f"a worker answered nonsense ({type(error).__name__})") from None


def _file(said: dict[str, Any]) -> AttachedFile:
    return AttachedFile(
        name=_string(said.pop("name")),
        declared_type=_optional(said.pop("declared_type")),
        true_type=_optional(said.pop("true_type")),
        size=_number(said.pop("size")),
        digest=_optional(said.pop("digest"), _DIGEST.fullmatch),
        depth=_number(said.pop("depth")),
        is_encrypted=_truth(said.pop("is_encrypted")),
        is_archive=_truth(said.pop("is_archive")),
        macros=_strings(said.pop("macros")),
        **said,
    )


def _items(said: object, most: int = _MAX_ITEMS) -> list[Any]:
    if not isinstance(said, list) or len(said) > most:
        raise ValueError
    return said


def _string(said: object, check: Callable[[str], object] = str.isprintable) -> str:
    if not isinstance(said, str) or len(said) > _MAX_TEXT or not said.isprintable() or not check(said):
        raise ValueError
    return said


def _optional(said: object, check: Callable[[str], object] = str.isprintable) -> str | None:
    return None if said is None else _string(said, check)


def _strings(said: object, check: Callable[[str], object] = str.isprintable) -> tuple[str, ...]:
    return tuple(_string(each, check) for each in _items(said))


def _number(said: object) -> int:
    if type(said) is not int or not 0 <= said < 2**63:
        raise ValueError
    return said


def _truth(said: object) -> bool:
    if not isinstance(said, bool):
        raise TypeError
    return said
