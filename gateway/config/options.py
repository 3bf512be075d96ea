"""Validating a table of TOML values against a struct, or against a function's signature.

What msgspec knows, it checks; what it does not is in `kinds`.

One value at a time, so that an error names its key and says what would be allowed.
"""

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from gateway.config.kinds import KIND_PLURALS, OpenFile, Unfit, check_kind, convert, kind_of, shown
from gateway.config.patterns import check_pattern
from gateway.config.schema import ConfigError
from gateway.config.toml import toml_value
from gateway.spelling import guess

T = TypeVar("T", bound=msgspec.Struct)


class OptionError(TypeError):
    """A signature cannot be made options of; the text says which, where and why."""


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
    section: str,
    values: Mapping[str, Any],
    parameters: Mapping[str, "Option"],
    open_file: OpenFile,
    also: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A function's options from a TOML table; `also` are keys read elsewhere. Raises ConfigError.

    `open_file` makes a set of the entries of a file. It raises ValueError.
    """
    check_known(section, values, [*also, *parameters])
    for name, option in parameters.items():
        if option.required and name not in values:
            raise ConfigError(section, name, f"is required; {allowed(option.type)}")
    return {
        name: read_value(section, name, value, parameters[name].type, open_file)
        for name, value in values.items()
    }


class Option(msgspec.Struct, frozen=True):
    """One keyword-only parameter of a filter or policy."""

    type: Any
    default: Any
    required: bool


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The keyword-only parameters of a function, which are its options in the configuration.

    Raises OptionError where one has a type that no value in TOML can be checked against, or where its
    default is a regular expression that would be refused in the configuration.
    """
    return {
        parameter.name: _option(parameter, function)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _option(parameter: inspect.Parameter, function: Callable[..., Any]) -> Option:
    try:
        kind = _type_of(parameter, function)
        msgspec.inspect.type_info(kind)
        check_kind(kind)
        _check_patterns(parameter.default)
    except Exception as error:
        code = getattr(inspect.unwrap(function), "__code__", None)
        where = f"{code.co_filename}:{code.co_firstlineno}: " if code else ""
        raise OptionError(f"{where}option {parameter.name!r} cannot be configured: {error}") from None
    return Option(kind, parameter.default, parameter.default is parameter.empty)


def _type_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The parameter's type, which may be written as a string.

    Each is looked up alone: what the rest of the signature names may only be there for mypy.
    """
    if parameter.annotation is parameter.empty:
        return Any
    alone = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    namespace = getattr(function, "__globals__", {})
    return typing.get_type_hints(alone, namespace, include_extras=True)["it"]


def _check_patterns(default: object) -> None:
    """Raises ValueError for a regular expression in there that could backtrack without end."""
    if isinstance(default, re.Pattern):
        try:
            check_pattern(default)
        except ValueError as error:
            raise ValueError(f"its default {toml_value(default)} {error}") from None
    elif isinstance(default, Mapping):
        _check_patterns(tuple(default.values()))
    elif isinstance(default, tuple | list | set | frozenset):
        for each in default:
            _check_patterns(each)


def as_table(section: str, value: object) -> dict[str, Any]:
    """The value as a TOML table. Raises ConfigError if it is something else."""
    if not isinstance(value, dict):
        raise ConfigError(section, "", f"must be a section, not {shown(value)}")
    return value


def check_known(section: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises ConfigError for the first key that is not known, with the one probably meant."""
    known = list(known)
    for key in values:
        if key not in known:
            raise ConfigError(section, key, f"unknown key; {meant(key, known)}")


def meant(word: str, known: Iterable[str]) -> str:
    """What a mistyped word may have been, and what there is."""
    known = sorted(known)
    there = f"allowed: {', '.join(known) or 'none'}"
    return " ".join(filter(None, (guess(word, known), there)))


def _no_files(path: str) -> typing.NoReturn:
    raise ValueError(f'"{path}" cannot be opened here')


def read_value(section: str, key: str, value: object, kind: Any, open_file: OpenFile = _no_files) -> Any:
    """One value of a TOML table. Raises ConfigError."""
    try:
        # Nothing is more or less than TOML's `nan`: a bound of that would never hold and never break.
        if isinstance(value, float) and math.isnan(value):
            raise Unfit
        return convert(value, kind, open_file)
    except ValueError as error:
        problem = str(error) or f"{shown(value)} will not do; {allowed(kind)}"
        raise ConfigError(section, key, problem) from None


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
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return _describe_number(info)
        case msgspec.inspect.StrType(pattern=pattern):
            return "a string" if pattern is None else f"a string that matches {pattern}"
        case msgspec.inspect.NoneType():
            return "nothing"
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(
                _describe(each) for each in types if not isinstance(each, msgspec.inspect.NoneType)
            )
        case msgspec.inspect.DictType(value_type=value):
            return f"a table of {_plural(_describe(value))}"
        case (
            msgspec.inspect.ListType(item_type=item)
            | msgspec.inspect.VarTupleType(item_type=item)
            | msgspec.inspect.SetType(item_type=item)
            | msgspec.inspect.FrozenSetType(item_type=item)
        ):
            least = "" if info.min_length is None else f", at least {info.min_length}"
            return f"a list of {_plural(_describe(item))}{least}"
        case _:
            return _describe_other(info)


def _describe_other(info: msgspec.inspect.Type) -> str:
    if isinstance(info, msgspec.inspect.LiteralType):
        return _one_of(info.values)
    if isinstance(info, msgspec.inspect.EnumType):
        return _one_of(member.value for member in info.cls)
    cls = timedelta if isinstance(info, msgspec.inspect.TimeDeltaType) else getattr(info, "cls", None)
    kind = kind_of(cls)
    return "a table" if kind is None else kind.words


def _one_of(values: Iterable[object]) -> str:
    words = [f'"{value}"' for value in values]
    return ("one of " if len(words) > 1 else "") + ", ".join(words)


def _describe_number(info: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    words = "a whole number" if isinstance(info, msgspec.inspect.IntType) else "a number"
    bounds = [
        f"{word} {bound:.15g}"
        for word, bound in (("above", info.gt), ("from", info.ge), ("up to", info.le), ("below", info.lt))
        if bound is not None
    ]
    return " ".join([words, *bounds])


def _plural(words: str) -> str:
    plurals = {"a string": "strings", "a whole number": "whole numbers", "a number": "numbers"}
    plural = (plurals | KIND_PLURALS).get(words, words)
    return f"({plural})" if " or " in plural else plural
