"""Validating a table of TOML values against a struct, or against a function's signature.

One value at a time, so that an error names its key and says what would be allowed.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from gateway.config.schema import ConfigError

T = TypeVar("T", bound=msgspec.Struct)


def read_table(section: str, table: object, kind: type[T]) -> T:
    """A struct from a TOML table. Raises ConfigError."""
    values = as_table(section, table)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    check_known(section, values, fields)
    read = {}
    for key, field in fields.items():
        if key in values:
            read[field.name] = read_value(section, key, values[key], field.type)
        elif field.required:
            raise ConfigError(section, key, f"is required; {allowed(field.type)}")
    return kind(**read)


def read_options(
    section: str, values: Mapping[str, Any], parameters: Mapping[str, "Option"], also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A function's options from a TOML table; `also` are keys read elsewhere. Raises ConfigError."""
    check_known(section, values, [*also, *parameters])
    for name, option in parameters.items():
        if option.required and name not in values:
            raise ConfigError(section, name, f"is required; {allowed(option.type)}")
    return {name: read_value(section, name, value, parameters[name].type) for name, value in values.items()}


class Option(msgspec.Struct, frozen=True):
    """One keyword-only parameter of a filter or policy."""

    type: Any
    default: Any
    required: bool


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The keyword-only parameters of a function, which are its options in the configuration."""
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        parameter.name: Option(
            hints.get(parameter.name, Any), parameter.default, parameter.default is parameter.empty
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def as_table(section: str, value: object) -> dict[str, Any]:
    """The value as a TOML table. Raises ConfigError if it is something else."""
    if not isinstance(value, dict):
        raise ConfigError(section, "", f"must be a section, not {_shown(value)}")
    return value


def check_known(section: str, values: Mapping[str, Any], known: typing.Iterable[str]) -> None:
    """Raises ConfigError for the first key that is not known, with the one probably meant."""
    known = list(known)
    for key in values:
        if key not in known:
            raise ConfigError(section, key, f"unknown key; {meant(key, known)}")


def meant(word: str, known: typing.Iterable[str]) -> str:
    """What a mistyped word may have been, and what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(known) or 'none'}"


def read_value(section: str, key: str, value: object, kind: Any) -> Any:
    """One value of a TOML table. Raises ConfigError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ConfigError(section, key, f"{_shown(value)} will not do; {allowed(kind)}") from None


def allowed(kind: Any) -> str:
    """What a type allows, in the words of TOML."""
    return f"allowed: {describe(kind)}"


def describe(kind: Any) -> str:
    """A type in words: `one of "a", "b"`, `a number above 0`, `a list of strings`."""
    info = msgspec.inspect.type_info(kind)
    return _describe(info)


def _describe(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.Metadata(type=inner):
            return _describe(inner)
        case msgspec.inspect.LiteralType(values=values):
            return "one of " + ", ".join(f'"{value}"' for value in values)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return _describe_number(info)
        case msgspec.inspect.StrType():
            return "a string"
        case msgspec.inspect.NoneType():
            return "nothing"
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(
                _describe(each) for each in types if not isinstance(each, msgspec.inspect.NoneType)
            )
        case msgspec.inspect.DictType(value_type=value):
            return f"a table of {_plural(_describe(value))}"
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            return f"a list of {_plural(_describe(item))}"
        case _:
            return "a table"


def _describe_number(info: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    words = "a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number"
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("above", info.gt), ("from", info.ge), ("up to", info.le), ("below", info.lt))
        if bound is not None
    ]
    return " ".join([words, *bounds])


def _plural(words: str) -> str:
    return {"a string": "strings", "a whole number": "whole numbers", "a number": "numbers"}.get(words, words)


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)
