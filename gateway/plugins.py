"""Finding policies and filters: by entry point, or in the configured directory.

The built-in ones are found in exactly the same way as other people's. Whatever is wrong with one is
said with its file and line, before any mail is taken.
"""

import importlib.metadata
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from filters.base import Filter
from policies.policy import Policy, PolicyError

FILTERS = "sluicegate.filters"
POLICIES = "sluicegate.policies"

T = TypeVar("T")


class PluginError(Exception):
    """A policy or filter cannot be used; the text says which, where and why."""


@dataclass(frozen=True, slots=True)
class Plugin(Generic[T]):
    """Something found under a name, not necessarily imported yet."""

    name: str
    origin: str
    load: Callable[[], T]


@dataclass(frozen=True, slots=True)
class Plugins:
    """Everything found, by name."""

    policies: dict[str, Plugin[Policy]]
    filters: dict[str, Plugin[type[Filter]]]


def discover(directory: Path | None) -> Plugins:
    """All installed plugins, and those in `directory`. Raises PluginError."""
    modules = [] if directory is None else _import_directory(directory)
    return Plugins(
        policies=_by_name(
            [
                *_installed(POLICIES, _as_policy),
                *(found for module in modules for found in _policies_in(module)),
            ]
        ),
        filters=_by_name(
            [
                *_installed(FILTERS, _as_filter),
                *(found for module in modules for found in _filters_in(module)),
            ]
        ),
    )


def _by_name(plugins: Iterable[Plugin[T]]) -> dict[str, Plugin[T]]:
    found: dict[str, Plugin[T]] = {}
    for plugin in plugins:
        if plugin.name in found:
            raise PluginError(
                f"{plugin.origin}: the name {plugin.name!r} is taken by {found[plugin.name].origin}"
            )
        found[plugin.name] = plugin
    return found


# Installed packages


def _installed(group: str, check: Callable[[str, object], T]) -> list[Plugin[T]]:
    return [
        Plugin(
            entry.name, f"{entry.value} ({entry.dist.name if entry.dist else group})", _loader(entry, check)
        )
        for entry in importlib.metadata.entry_points(group=group)
    ]


def _loader(entry: importlib.metadata.EntryPoint, check: Callable[[str, object], T]) -> Callable[[], T]:
    def load() -> T:
        try:
            loaded = entry.load()
        except Exception as error:
            raise PluginError(f"{entry.value}: {_cause(error)}") from error
        return check(entry.value, loaded)

    return load


def _as_policy(origin: str, loaded: object) -> Policy:
    if not isinstance(loaded, Policy):
        raise PluginError(f"{origin} is no policy: it lacks the decorator @policy(...)")
    return loaded


def _as_filter(origin: str, loaded: object) -> type[Filter]:
    if not (isinstance(loaded, type) and issubclass(loaded, Filter)):
        raise PluginError(f"{origin} is no filter: it is not derived from filters.Filter")
    return loaded


# The operator's directory


def _import_directory(directory: Path) -> list[ModuleType]:
    if not directory.is_dir():
        raise PluginError(f"{directory}: no such directory")
    return [_import_file(file) for file in sorted(directory.glob("*.py"))]


def _import_file(file: Path) -> ModuleType:
    name = f"sluicegate_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except PolicyError as error:
        raise PluginError(str(error)) from None
    except (Exception, SystemExit) as error:
        raise PluginError(f"{_line_in(file, error)}: {_cause(error)}") from error
    return module


def _line_in(file: Path, error: BaseException) -> str:
    """File and line to look at: where a syntax error is, else the last line of the file that ran."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"


def _policies_in(module: ModuleType) -> list[Plugin[Policy]]:
    found = [member for member in vars(module).values() if isinstance(member, Policy)]
    return [
        Plugin(policy.name, policy.location, _constant(policy))
        for policy in found
        if policy.__module__ == module.__name__
    ]


def _filters_in(module: ModuleType) -> list[Plugin[type[Filter]]]:
    found = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, Filter) and not inspect.isabstract(member)
    ]
    return [
        Plugin(kind.name, f"{module.__file__}", _constant(kind))
        for kind in found
        if kind.__module__ == module.__name__
    ]


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
