"""Finding policies and filters: by entry point, or in the configured directory.

The built-in ones are found in exactly the same way as other people's. Whatever is wrong with one is
said with its file and line, before any mail is taken.
"""

import builtins
import importlib.metadata
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Generic, TypeVar

from filters.base import Filter
from filters.evidence import Finding
from gateway.plugins.modules import Modules
from gateway.plugins.review import replaced, review
from gateway.plugins.sources import Source
from gateway.spelling import guess
from policies.policy import Policy, PolicyError

FILTERS = "sluicegate.filters"
POLICIES = "sluicegate.policies"

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BARE = re.compile(r"policy\(\) (?:takes 0 positional arguments|missing 1 required keyword-only argument)")
_NOT_THERE = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")

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
    # The files of the directory, by the names they have without `.py`.
    files: dict[str, str]

    def why_not(self, policy: str) -> str:
        """Why there is no policy of that name, as far as a file of that name says it."""
        if policy not in self.files:
            return ""
        file = self.files[policy]
        others = [each.name for each in self.policies.values() if each.origin.rpartition(":")[0] == file]
        if others:
            return f"{file} defines {' and '.join(map(repr, others))}"
        return f"{file} defines no policy: it lacks @policy(...)"


def discover(sources: Sequence[Source] = ()) -> Plugins:
    """All installed plugins, and those in the files of a directory. Raises PluginError."""
    modules = _modules(sources)
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
        files={source.name: source.path for source in sources},
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
    return _reviewed(loaded)


def _reviewed(policy: Policy) -> Policy:
    for problem in review(policy):
        raise PluginError(problem)
    return policy


def _as_filter(origin: str, loaded: object) -> type[Filter]:
    if not (isinstance(loaded, type) and issubclass(loaded, Filter)):
        raise PluginError(f"{origin} is no filter: it is not derived from filters.Filter")
    return _checked(origin, loaded)


def _checked(origin: str, kind: type[Filter]) -> type[Filter]:
    """The filter, if the gateway can ask it."""
    name: object = getattr(kind, "name", None)
    finds: object = getattr(kind, "finds", None)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise PluginError(f"{origin}: filter {kind.__name__} lacks a name of letters, digits, - and _")
    if not (isinstance(finds, type) and issubclass(finds, Finding)):
        raise PluginError(f"{origin}: filter {name!r} does not say which kind of Finding it finds")
    if not inspect.iscoroutinefunction(kind.find):
        raise PluginError(f"{origin}: filter {name!r}: write `async def find`, for asking takes time")
    _, *parameters = inspect.signature(kind.__init__).parameters.values()
    if any(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
        raise PluginError(f"{origin}: filter {name!r}: options are keyword-only, behind `*`")
    return kind


# The operator's directory


def _modules(sources: Sequence[Source]) -> list[ModuleType]:
    if not sources:
        return []
    modules = Modules(sources)
    modules.install()
    paths = {source.path for source in sources}
    return [_module(modules, source, paths) for source in sources]


def _module(modules: Modules, source: Source, paths: Set[str]) -> ModuleType:
    try:
        module = modules.load(source)
    except PolicyError as error:
        raise PluginError(str(error)) from None
    except (Exception, SystemExit) as error:
        raise PluginError(f"{_place(source, paths, error)}: {_cause(error)}") from error
    for problem in replaced(module):
        raise PluginError(problem)
    return module


def _place(source: Source, paths: Set[str], error: BaseException) -> str:
    """File and line to look at: where a syntax error is, else the last line of a plugin that ran."""
    if isinstance(error, SyntaxError) and error.filename in paths and error.lineno:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in paths]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else source.path


def _cause(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    if isinstance(error, TypeError) and _BARE.match(str(error)):
        return f"{text}; write @policy(at=Stage.END_OF_DATA), or at another stage"
    hint = _meant(error)
    return f"{text}; {hint}" if hint else text


def _meant(error: BaseException) -> str:
    """A guess where a name was mistyped."""
    match error:
        case ImportError() if found := _NOT_THERE.match(str(error)):
            name, known = found[1], dir(sys.modules.get(found[2]))
        case AttributeError(name=str(name), obj=owner):
            known = dir(owner)
        case NameError(name=str(name)):
            known = _names_at(error.__traceback__)
        case _:
            return ""
    return guess(name, known)


def _names_at(trace: TracebackType | None) -> list[str]:
    """The names that are known where something was raised."""
    frame = None
    for frame, _ in traceback.walk_tb(trace):  # noqa: B007 - the last one
        pass
    return [] if frame is None else [*frame.f_locals, *frame.f_globals, *dir(builtins)]


def _policies_in(module: ModuleType) -> list[Plugin[Policy]]:
    # Under two names it is the same one.
    found = {member: None for member in vars(module).values() if isinstance(member, Policy)}
    return [
        Plugin(policy.name, policy.location, _constant(_reviewed(policy)))
        for policy in found
        if policy.__module__ == module.__name__
    ]


def _filters_in(module: ModuleType) -> list[Plugin[type[Filter]]]:
    found = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, Filter) and not inspect.isabstract(member)
    ]
    own = [_checked(_location(kind), kind) for kind in found if kind.__module__ == module.__name__]
    return [Plugin(kind.name, _location(kind), _constant(kind)) for kind in own]


def _location(kind: type) -> str:
    file = inspect.getsourcefile(kind)
    try:
        return f"{file}:{inspect.getsourcelines(kind)[1]}"
    except OSError:  # not written as a class statement
        return str(file)


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
