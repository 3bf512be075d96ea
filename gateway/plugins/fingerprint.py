"""What a policy was when it was asked, in a few characters: the same again only while it would say the same.

It is made of what decides: the lines of the policy's module and of what that imports from its own package or
directory, the values of its options, and the version of the gateway, which shows it the message. Not in it
are other people's packages. Nothing is run here, and no file is opened but by `linecache`.
"""

import ast
import functools
import hashlib
import inspect
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway import __version__
from gateway.plugins.modules import PREFIX
from gateway.smtp.entries import FileSet
from policies.policy import Policy

# Hexadecimal digits: by chance two versions of one policy never have the same.
_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Of a policy and its options; `sets` are those of them whose entries may change meanwhile.

    `fixed` is about all the rest; empty for a policy of which nobody can say whether it is the same.
    """

    fixed: str = ""
    sets: tuple[FileSet, ...] = ()

    @property
    def now(self) -> str:
        """Twelve hexadecimal digits; empty where nobody can say."""
        if not self.sets or not self.fixed:
            return self.fixed
        return _hash(self.fixed, *(each.entries.digest for each in self.sets))


def fingerprint_of(policy: Policy, options: Mapping[str, Any], spelled: Callable[[Any], str]) -> Fingerprint:
    """The policy's fingerprint; `options` are those given, and `spelled` writes the value of one.

    Empty where the source is not there, and for what was made in another function, by a decorator
    perhaps: on what that depends, nobody can see.
    """
    sources = _sources(policy.__module__)
    if sources is None or policy.function.__closure__ or hasattr(policy.function, "__wrapped__"):
        return Fingerprint()
    values = {each.name: each.default for each in policy.options()} | dict(options)
    sets: list[FileSet] = []
    texts = [f"{name} = {spelled(_apart(values[name], sets))}" for name in sorted(values)]
    return Fingerprint(_hash(__version__, *sources, "", *texts), tuple(sets))


def _hash(*texts: str) -> str:
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:_LENGTH]


def _apart(value: Any, sets: list[FileSet]) -> Any:
    """The value without the entries of the sets in it, which are added to `sets`."""
    match value:
        case FileSet():
            sets.append(value)
            return "a set"
        case Mapping():
            return {key: _apart(each, sets) for key, each in value.items()}
        case list() | tuple():
            return [_apart(each, sets) for each in value]
        case _:
            return value


def _sources(name: str) -> list[str] | None:
    """The texts of a module and of those of its own that it imports; `None` where one is not there."""
    texts: dict[str, str] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        module = sys.modules.get(each) or sys.modules.get(f"{PREFIX}{each}")
        if module is None and _belong_together(name, each) and not _is_attribute(each):
            return None  # imported later, perhaps, and what it is then, nobody can see
        if module is None or module.__name__ in texts or not _belong_together(name, module.__name__):
            continue
        file = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
        # The lines that were compiled, whatever the file says by now.
        text = "".join(linecache.getlines(file or "", vars(module)))
        if file is None or file not in linecache.cache:
            return None
        texts[module.__name__] = text
        waiting += _imports(text, module.__package__ or "")
    return [f"{each}\n{texts[each]}" for each in sorted(texts)] or None


def _belong_together(name: str, other: str) -> bool:
    """Whether both are in one package, or in the operator's directory."""
    is_own = name.startswith(PREFIX)
    return other.startswith(PREFIX) if is_own else other.partition(".")[0] == name.partition(".")[0]


def _is_attribute(name: str) -> bool:
    """Whether this is something in a module that is there."""
    module, _, last = name.rpartition(".")
    return last == "*" or hasattr(sys.modules.get(module), last)


@functools.lru_cache(maxsize=256)
def _imports(text: str, package: str) -> frozenset[str]:
    """The names of all that may be a module, wherever in the text it is imported."""
    return frozenset(_named(ast.parse(text), package))


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.ImportFrom(names=aliases):
                names = [f"{_base(node, package)}.{alias.name}" for alias in aliases]
            case _:
                continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:number]) for number in range(1, len(parts) + 1))


def _base(node: ast.ImportFrom, package: str) -> str:
    """The module from which something is imported, perhaps by its place beside this one."""
    parents = package.split(".") if node.level else []
    return ".".join(filter(None, [*parents[: len(parents) + 1 - node.level], node.module]))
