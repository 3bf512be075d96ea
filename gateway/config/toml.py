"""Values in the syntax of TOML, which the standard library only reads."""

import json
from typing import Any

import msgspec


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else toml_value(key)


def toml_value(value: Any) -> str:
    """A value in TOML's syntax; JSON's is the same for whole numbers, truth values and most strings."""
    value = msgspec.to_builtins(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_key(key)} = {toml_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    if isinstance(value, float):
        return repr(value)
    # TOML has no surrogate pairs, and no DEL in a string.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
