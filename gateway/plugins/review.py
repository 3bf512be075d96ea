"""What can be seen in a policy's code before it is ever asked.

A policy that would raise on every message is refused when it loads, with the line. Only what is
certain counts: where a name is bound again, or a fact is looked at before it is used, nothing is said.
It reads the code as a tree and calls nothing of it.
"""

import ast
import functools
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import policies
from filters.base import Filter
from filters.evidence import Finding
from gateway.plugins.modules import PREFIX
from gateway.plugins.slips import bad_verdicts, unknown_names
from gateway.plugins.trees import Tree, parsed
from gateway.smtp.address import Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.message import Message
from gateway.smtp.session import TLS, Session
from gateway.smtp.transaction import Stage, Transaction
from gateway.spelling import guess
from policies.policy import Policy

_LATE = frozenset({Stage.MAIL, Stage.RCPT, Stage.END_OF_DATA})
# What is `None` at other stages, by the way that leads to it from the transaction.
_STAGES = {
    ("message",): frozenset({Stage.END_OF_DATA}),
    ("envelope",): _LATE,
    ("envelope", "recipient"): frozenset({Stage.RCPT}),
}
_TYPES: Mapping[tuple[str, ...], type] = {
    (): Transaction,
    ("session",): Session,
    ("session", "tls"): TLS,
    ("envelope",): Envelope,
    ("envelope", "reverse_path"): Path,
    ("envelope", "recipient"): Path,
    ("message",): Message,
}


def review(policy: Policy) -> Iterator[str]:
    """What is certainly wrong with it: `FILE:LINE: policy 'NAME': WHAT`, in the order of lines."""
    function = policy.function
    # What another decorator has made has another code than is written there.
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        return
    code = _Code.of(function)
    if code is None:
        return
    found = [*_foreign_evidence(code, policy), *_missing_facts(code, policy.stage), *_unknown_facts(code)]
    options = {option.name for option in policy.options()}
    mistakes = [(code.file, line, what) for line, what in found]
    for tree in _within_reach(code, set()):
        slips = (*unknown_names(tree, options), *bad_verdicts(tree))
        mistakes += [(tree.file, line, what) for line, what in slips]
    for file, line, what in sorted(mistakes):
        yield f"{file}:{line}: policy {policy.name!r}: {what}"


def _within_reach(tree: Tree, seen: set[CodeType]) -> Iterator[Tree]:
    """It, and the functions of the plugins that it names where nobody would catch what they raise."""
    seen.add(tree.function.__code__)
    yield tree
    for node in tree.nodes:
        function = tree.value_of(node) if isinstance(node, ast.Name) else None
        if isinstance(function, functools._lru_cache_wrapper):
            function = function.__wrapped__
        if (
            isinstance(function, FunctionType)
            and not hasattr(function, "__wrapped__")
            and _is_of_plugins(function, tree.function)
            and function.__code__ not in seen
            and tree.is_certain(node, NameError, TypeError, ValueError)
        ):
            other = Tree.of(function)
            if other is not None:
                yield from _within_reach(other, seen)


def _is_of_plugins(function: FunctionType, beside: FunctionType) -> bool:
    return function.__module__ == beside.__module__ or str(function.__module__).startswith(PREFIX)


def replaced(module: ModuleType) -> Iterator[str]:
    """Policies and filters of a file that a later one of the same name has silently replaced."""
    file = str(module.__file__)
    tree = parsed(file)
    statements = [] if tree is None else tree.body
    deleted = {name for each in statements if isinstance(each, ast.Delete) for name in _deleted(each)}
    lines: dict[str, int] = {}
    for node in statements:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name in deleted:
            continue
        if any(_makes_a_plugin(each, module) for each in _makers(node)):
            first = lines.setdefault(node.name, node.lineno)
            if first != node.lineno:
                yield f"{file}:{node.lineno}: the name {node.name!r} is taken by {file}:{first}"


def _deleted(statement: ast.Delete) -> Iterator[str]:
    return (target.id for target in statement.targets if isinstance(target, ast.Name))


def _makers(node: ast.FunctionDef | ast.ClassDef) -> list[ast.expr]:
    """What makes something else of it than a function or class like any other."""
    if isinstance(node, ast.ClassDef):
        return node.bases
    return [decorator.func for decorator in node.decorator_list if isinstance(decorator, ast.Call)]


def _makes_a_plugin(maker: ast.expr, module: ModuleType) -> bool:
    match maker:
        case ast.Name(id=name):
            value = vars(module).get(name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            package = vars(module).get(owner)
            value = getattr(package, name, None) if isinstance(package, ModuleType) else None
        case _:
            return False
    return value is policies.policy or (isinstance(value, type) and issubclass(value, Filter))


def can_discard(policy: Policy) -> bool:
    """Whether it names `policies.discard`, itself or in a function of the plugins that it names."""
    function = inspect.unwrap(policy.function)
    return isinstance(function, FunctionType) and _names(function, policies.discard, set())


class _Code(Tree):
    """A policy's body: what it does with its two arguments, where these keep their names."""

    def __init__(self, definition: ast.FunctionDef, function: FunctionType) -> None:
        super().__init__(definition, function)
        arguments = definition.args
        positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        self.transaction, self.evidence = (None if name in self.stored else name for name in positional)

    def facts(self, *path: str) -> list[ast.expr]:
        """Where `tx`, `tx.envelope`, `tx.envelope.recipient` or the like stand, by their path."""
        return [node for node in self.nodes if isinstance(node, ast.expr) and self._path(node) == path]

    def is_read_from(self, node: ast.expr) -> bool:
        """Whether something of the value is asked for, so that `None` would not do."""
        parent = self.parent(node)
        return isinstance(parent, ast.Attribute | ast.Subscript) and parent.value is node

    def _path(self, node: ast.expr) -> tuple[str, ...] | None:
        if isinstance(node, ast.Name):
            return () if node.id == self.transaction else None
        if isinstance(node, ast.Attribute):
            above = self._path(node.value)
            return None if above is None else (*above, node.attr)
        return None


# What is wrong, by line


def _foreign_evidence(code: _Code, policy: Policy) -> Iterator[tuple[int, str]]:
    for node in code.nodes:
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=asked) if name == code.evidence:
                known, hint = {*policy.needs, *policy.wants}, "needs"
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[asked]) if (
                name == code.evidence
            ):
                known, hint = {*policy.needs, *policy.wants}, "wants"
            case _:
                continue
        kind = code.value_of(asked)
        if isinstance(kind, type) and issubclass(kind, Finding) and kind not in known:
            yield node.lineno, f"asks for {kind.__name__}, which is not among its {hint}"


def _missing_facts(code: _Code, stage: Stage) -> Iterator[tuple[int, str]]:
    for path, stages in _STAGES.items():
        places = code.facts(*path)
        # Who looks whether it is there knows what he does.
        if stage not in stages and all(map(code.is_read_from, places)):
            when = " or ".join(each.value for each in Stage if each in stages)
            what = f"reads tx.{'.'.join(path)}, which is there at {when} and not at {stage.value}"
            yield from ((place.lineno, what) for place in places)


def _unknown_facts(code: _Code) -> Iterator[tuple[int, str]]:
    # Who looks whether it is there knows what he does.
    if any(isinstance(node, ast.Name) and node.id == "hasattr" for node in code.nodes):
        return
    for path, kind in _TYPES.items():
        for place in code.facts(*path):
            parent = code.parent(place)
            if (
                isinstance(parent, ast.Attribute)
                and not hasattr(kind, parent.attr)
                and code.is_certain(parent, AttributeError)
            ):
                names = [name for name in dir(kind) if not name.startswith("_")]
                hint = guess(parent.attr, names) or f"there are {', '.join(names)}"
                yield parent.lineno, f"no {kind.__name__.lower()} has {parent.attr!r}; {hint}"


# What it can do


def _names(function: FunctionType, wanted: object, seen: set[CodeType]) -> bool:
    """Whether the function's code names that object, or another function that does."""
    return any(
        each is wanted
        or (isinstance(each, FunctionType) and _is_of_plugins(each, function) and _names(each, wanted, seen))
        for each in _named(function.__code__, function.__globals__, seen)
    )


def _named(code: CodeType, known: Mapping[str, Any], seen: set[CodeType]) -> Iterator[object]:
    if code in seen:
        return
    seen.add(code)
    for name in code.co_names:
        if name in known:
            yield known[name]
            if isinstance(known[name], ModuleType):
                yield from (getattr(known[name], other, None) for other in code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant, known, seen)
