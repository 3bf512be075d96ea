"""What can be seen in a policy's code before it is ever asked.

A policy that would raise on every message is refused when it loads, with the line. Only what is
certain counts: where a name is bound again, or a fact is looked at before it is used, nothing is said.
It reads the code as a tree and calls nothing.
"""

import ast
import difflib
import inspect
import linecache
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import policies
from filters.evidence import Finding
from gateway.modules import PREFIX
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import Session
from gateway.smtp.transaction import Stage, Transaction
from policies.policy import Policy

_LATE = frozenset({Stage.MAIL, Stage.RCPT, Stage.END_OF_DATA})
# What is `None` at other stages, by the way that leads to it from the transaction.
_STAGES = {
    ("message",): frozenset({Stage.END_OF_DATA}),
    ("envelope",): _LATE,
    ("envelope", "recipient"): frozenset({Stage.RCPT}),
}
_TYPES: Mapping[tuple[str, ...], type] = {(): Transaction, ("session",): Session, ("envelope",): Envelope}


def review(policy: Policy) -> Iterator[str]:
    """What is certainly wrong with it: `FILE:LINE: policy 'NAME': WHAT`, in the order of lines."""
    function = policy.function
    # What another decorator has made has another code than is written there.
    tree = _definition(function) if isinstance(function, FunctionType) else None
    if tree is None or hasattr(function, "__wrapped__"):
        return
    assert isinstance(function, FunctionType)
    code = _Code(tree, function)
    found = [*_foreign_evidence(code, policy), *_missing_facts(code, policy.stage), *_unknown_facts(code)]
    for line, what in sorted(found):
        yield f"{function.__code__.co_filename}:{line}: policy {policy.name!r}: {what}"


def can_discard(policy: Policy) -> bool:
    """Whether it names `policies.discard`, itself or in a function of the plugins that it names."""
    function = inspect.unwrap(policy.function)
    return isinstance(function, FunctionType) and _names(function, policies.discard, set())


def _definition(function: FunctionType) -> ast.FunctionDef | None:
    """The tree of a function that is written as a `def` in a file; `None` for every other."""
    code = function.__code__
    try:
        module = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:  # another file by now than the one that was compiled
        return None
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    here = (node for node in functions if _first_line(node) == code.co_firstlineno)
    return next((node for node in here if node.name == code.co_name), None)


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


class _Code:
    """A policy's body: what it does with its two arguments, where these keep their names."""

    def __init__(self, tree: ast.FunctionDef, function: FunctionType) -> None:
        self.nodes = [node for statement in tree.body for node in ast.walk(statement)]
        self._globals = function.__globals__
        self._parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self._bound = {name for node in self.nodes for name in _names_bound(node)}
        positional = [argument.arg for argument in (*tree.args.posonlyargs, *tree.args.args)]
        self.transaction, self.evidence = (None if name in self._bound else name for name in positional)
        self._bound.update(function.__code__.co_varnames, function.__code__.co_freevars)

    def value_of(self, node: ast.expr) -> object:
        """What a global name stands for; `None` for whatever is known only when it runs."""
        if isinstance(node, ast.Name) and node.id not in self._bound:
            return self._globals.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.value_of(node.value)
            return getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
        return None

    def facts(self, *path: str) -> list[ast.expr]:
        """Where `tx`, `tx.envelope`, `tx.envelope.recipient` or the like stand, by their path."""
        return [node for node in self.nodes if isinstance(node, ast.expr) and self._path(node) == path]

    def is_read_from(self, node: ast.expr) -> bool:
        """Whether something of the value is asked for, so that `None` would not do."""
        parent = self._parents.get(node)
        return isinstance(parent, ast.Attribute | ast.Subscript) and parent.value is node

    def parent(self, node: ast.expr) -> ast.AST | None:
        """What the expression is a part of."""
        return self._parents.get(node)

    def _path(self, node: ast.expr) -> tuple[str, ...] | None:
        if isinstance(node, ast.Name):
            return () if node.id == self.transaction else None
        if isinstance(node, ast.Attribute):
            above = self._path(node.value)
            return None if above is None else (*above, node.attr)
        return None


def _names_bound(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0]
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
            yield name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.ExceptHandler(name=str(name)):
            yield name


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
    for path, kind in _TYPES.items():
        for place in code.facts(*path):
            parent = code.parent(place)
            if isinstance(parent, ast.Attribute) and not hasattr(kind, parent.attr):
                names = [name for name in dir(kind) if not name.startswith("_")]
                close = difflib.get_close_matches(parent.attr, names, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
                yield parent.lineno, f"no {kind.__name__.lower()} has {parent.attr!r}; {hint}"


# What it can do


def _names(function: FunctionType, wanted: object, seen: set[CodeType]) -> bool:
    """Whether the function's code names that object, or another function that does."""
    return any(
        each is wanted
        or (
            isinstance(each, FunctionType)
            and (each.__module__ == function.__module__ or each.__module__.startswith(PREFIX))
            and _names(each, wanted, seen)
        )
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
