"""Values of kinds that TOML does not have, made from what it has.

Durations, sets of networks, regular expressions, files with sets in them, and lists and tables of these.
All else is msgspec's business. A file is only read by what the caller hands in.
"""

import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import msgspec

from gateway.config.durations import FORMS, parse_duration
from gateway.config.patterns import compile_pattern
from gateway.smtp.entries import FileSet
from gateway.smtp.networks import Networks

_MAX_SHOWN = 200

OpenFile = Callable[[str], FileSet]


class Unfit(ValueError):
    """A value is of another kind altogether; whoever knows its key says what is allowed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How one is read, and what it is called, alone and among others.

    `read` raises ValueError with the whole problem, and Unfit without a word.
    """

    read: Callable[[Any, OpenFile], Any]
    words: str
    plural: str


def kind_of(annotation: Any) -> Kind | None:
    """The kind for an annotation (`timedelta`, `Networks`, `FileSet`, `re.Pattern[str]`), if it is one.

    Raises TypeError for octets and what matches them, for TOML has none.
    """
    origin = typing.get_origin(annotation) or annotation
    if origin in (bytes, bytearray, memoryview):
        raise TypeError(f"TOML has no {origin.__name__}; write str")
    if origin is re.Pattern and typing.get_args(annotation) not in ((), (str,)):
        raise TypeError("write re.Pattern[str]")
    return _KINDS.get(origin) if isinstance(origin, type) else None


def convert(value: Any, kind: Any, open_file: OpenFile) -> Any:
    """A value of TOML as this type. Raises ValueError with the whole problem, and Unfit without a word."""
    own = kind_of(kind)
    if own is not None:
        return own.read(value, open_file)
    if not _has_kind(kind):
        return _check(value, kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        converted = convert(value, inner[0], open_file)
        # Of bounds, only those of how many there are can be meant.
        if isinstance(value, list):
            _check([None] * len(converted), Annotated[(list[None], *kind.__metadata__)])
        return converted
    if origin in (typing.Union, types.UnionType):
        return _convert_to_one(value, inner, open_file)
    if not isinstance(value, dict if origin is dict else list):
        raise Unfit
    if isinstance(value, dict):
        return {_check(key, inner[0]): convert(each, inner[1], open_file) for key, each in value.items()}
    return origin(convert(each, inner[0], open_file) for each in value)


def _convert_to_one(value: Any, kinds: Iterable[Any], open_file: OpenFile) -> Any:
    """The first kind of several that the value is of."""
    problem = ""
    for kind in kinds:
        try:
            return convert(value, kind, open_file)
        except ValueError as error:
            problem = problem or str(error)
    raise ValueError(problem) if problem else Unfit


def _check(value: Any, kind: Any) -> Any:
    """What msgspec makes of it. Raises Unfit."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise Unfit from None


def _has_kind(kind: Any) -> bool:
    """Whether there is a kind in it that msgspec does not know. Raises what `check_kind` raises."""
    if kind_of(kind) is not None:
        return True
    inner = [each for each in typing.get_args(kind) if each is not Ellipsis]
    if not any(_has_kind(each) for each in inner):
        return False
    is_list = typing.get_origin(kind) in (list, set, frozenset)
    if is_list or typing.get_origin(kind) in (dict, typing.Union, types.UnionType, Annotated):
        return True
    if typing.get_args(kind)[1:] == (...,):
        return True
    raise TypeError(f"{kind} has no form in TOML")


def check_kind(kind: Any) -> None:
    """Raises TypeError where a kind that msgspec does not know stands in something that cannot be read."""
    _has_kind(kind)


def _read_duration(value: object, _: OpenFile) -> timedelta:
    return parse_duration(value)


def _read_networks(value: object, _: OpenFile) -> Networks:
    return Networks(_strings(value))


def _read_pattern(value: object, _: OpenFile) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise Unfit
    try:
        return compile_pattern(value)
    except ValueError as error:
        raise ValueError(f"{shown(value)} {error}") from None


def _read_file_set(value: object, open_file: OpenFile) -> FileSet:
    if isinstance(value, str) and value:
        return open_file(value)
    return FileSet.of(*_strings(value))


def _strings(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unfit
    return value


def shown(value: object) -> str:
    """The beginning of a value, for a message."""
    text = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


_KINDS: Mapping[type, Kind] = {
    timedelta: Kind(_read_duration, FORMS, f"durations ({FORMS})"),
    Networks: Kind(_read_networks, "a list of addresses and networks", "lists of addresses and networks"),
    re.Pattern: Kind(
        _read_pattern, "a regular expression in Python's syntax", "regular expressions in Python's syntax"
    ),
    FileSet: Kind(
        _read_file_set,
        "the path of a text file with an entry on each line, or a list of strings",
        "paths of text files, or lists of strings",
    ),
}

KIND_PLURALS = {kind.words: kind.plural for kind in _KINDS.values()}
