"""Whether the defaults of a function's options are what its annotations say."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.config.options import Option, OptionError, allowed


def check_defaults(function: Callable[..., Any], options: Mapping[str, Option]) -> None:
    """Raises OptionError, with file and line, for the first default that does not fit its annotation.

    What the configuration could not set to that value, its author did not mean either.
    """
    for name, option in options.items():
        if option.required:
            continue
        try:
            msgspec.convert(option.default, option.type)
        except msgspec.ValidationError:
            code = inspect.unwrap(function).__code__
            where = f"{code.co_filename}:{code.co_firstlineno}"
            problem = f"option {name!r}: its default {option.default!r} does not fit its annotation"
            raise OptionError(f"{where}: {problem}; {allowed(option.type)}") from None
