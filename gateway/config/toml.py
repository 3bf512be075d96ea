"""Values in the syntax of TOML, which the standard library only reads."""

import json
import re
from collections.abc import Mapping, Set
from datetime import timedelta
from typing import Any

import msgspec

from gateway.config.patterns import pattern_text
from gateway.smtp.networks import Networks


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else toml_value(key)


def toml_value(value: Any) -> str:
    """A value in TOML's syntax; JSON's is the same for whole numbers, truth values and most strings."""
    value = _plain(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_key(key)} = {toml_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    if isinstance(value, float):
        return repr(value)
    # TOML has no surrogate pairs, and no DEL in a string.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    """The value as TOML can have it: durations in seconds, sets as lists in order."""
    match value:
        case timedelta():
            seconds = value.total_seconds()
            return int(seconds) if seconds.is_integer() else seconds
        case re.Pattern():
            return pattern_text(value)
        case Networks():
            return value.texts()
        case Set():
            return sorted(map(_plain, value))
        case list() | tuple() | Mapping():
            return value
        case _:
            return msgspec.to_builtins(value)
