"""A function's code as a tree, with what its global names stand for.

For whoever looks for mistakes in it. It calls nothing, and where something is known only when the
function runs it says so.
"""

import ast
import builtins
import functools
import linecache
import os
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Self

# They differ from one machine to the next, and so does what they say.
_SURROUNDINGS = (os, sys, os.name, sys.platform, sys.version_info)
_TESTS = ast.If | ast.IfExp | ast.While
_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | ast.GeneratorExp
_UNKNOWN = object()


class Tree:
    """The body of a function that is written as a `def` in a file."""

    def __init__(self, definition: ast.FunctionDef, function: FunctionType) -> None:
        self.function = function
        self.definition = definition
        self.nodes = [node for statement in definition.body for node in ast.walk(statement)]
        self._parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.stored = {name for node in self.nodes for name in _names_bound(node)}
        code = function.__code__
        self._imported = dict(item for node in self.nodes for item in _imported(node))
        self._bound = {*self.stored, *code.co_varnames, *code.co_freevars}

    @classmethod
    def of(cls, function: FunctionType) -> Self | None:
        """The tree; `None` for a lambda, and for what has no source or another one by now."""
        code = function.__code__
        module = parsed(code.co_filename)
        if module is None:
            return None
        functions = (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef))
        here = (node for node in functions if _first_line(node) == code.co_firstlineno)
        definition = next((node for node in here if node.name == code.co_name), None)
        return None if definition is None else cls(definition, function)

    @property
    def file(self) -> str:
        """Where it is written."""
        return self.function.__code__.co_filename

    def value_of(self, node: ast.expr) -> object:
        """What a global name stands for; `None` for whatever is known only when it runs."""
        value = self._resolved(node)
        return None if value is _UNKNOWN else value

    def parent(self, node: ast.AST) -> ast.AST | None:
        """What the node is a part of."""
        return self._parents.get(node)

    def is_certain(self, node: ast.AST, *errors: type[Exception]) -> bool:
        """Whether these errors get out of the function, if one is raised here, and it may come to that.

        Not where a `try` or a `with` may catch them, nor under a test of what is fixed, like `TYPE_CHECKING`
        or `sys.version_info`: such code may be for another world than this.
        """
        below, above = node, self.parent(node)
        while above is not None:
            # It is raised where that is called.
            if isinstance(above, _SCOPES) and any(self._may_catch(each, errors) for each in self.nodes):
                return False
            if self._may_catch(above, errors) and below in above.body:  # type: ignore[attr-defined]
                return False
            if isinstance(above, _TESTS) and below is not above.test and self._is_fixed(above.test):
                return False
            if isinstance(above, ast.BoolOp) and any(map(self._is_fixed, above.values)):
                return False
            below, above = above, self.parent(above)
        return True

    def _may_catch(self, node: ast.AST, errors: Iterable[type[Exception]]) -> bool:
        """Whether it is a statement that keeps one of these to itself."""
        if isinstance(node, ast.With | ast.AsyncWith):
            return True
        if not isinstance(node, ast.Try | ast.TryStar):
            return False
        if node.finalbody or any(handler.type is None for handler in node.handlers):
            return True
        written = [handler.type for handler in node.handlers if handler.type is not None]
        types = [each for one in written for each in (one.elts if isinstance(one, ast.Tuple) else [one])]
        caught = [self._resolved(each) for each in types]
        return any(not isinstance(each, type) or any(issubclass(e, each) for e in errors) for each in caught)

    def _is_fixed(self, test: ast.expr) -> bool:
        """Whether something that it asks for was settled before the function was called."""
        if isinstance(test, ast.Constant):
            return not test.value
        names = [node for node in ast.walk(test) if isinstance(node, ast.Name | ast.Attribute)]
        values = [self._settled(node) for node in names]
        if any(value is None or isinstance(value, bool) for value in values):
            return True
        if any(value is each for value in values for each in _SURROUNDINGS):
            return True
        return bool(names) and not any(
            isinstance(each, ast.Name) and each.id in self._bound for each in names
        )

    def _settled(self, node: ast.expr) -> object:
        """What a global name stands for, or one that the function imports."""
        if isinstance(node, ast.Name) and node.id in self._imported:
            return self._imported[node.id]
        return self._resolved(node)

    def _resolved(self, node: ast.expr) -> object:
        if isinstance(node, ast.Name) and node.id not in self._bound:
            return self.function.__globals__.get(node.id, vars(builtins).get(node.id, _UNKNOWN))
        if isinstance(node, ast.Attribute):
            owner = self._resolved(node.value)
            # Not what a module's `__getattr__` would make: that is somebody's code.
            return vars(owner).get(node.attr, _UNKNOWN) if isinstance(owner, ModuleType) else _UNKNOWN
        return _UNKNOWN


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def parsed(file: str) -> ast.Module | None:
    """The tree of a whole file, by the lines that `linecache` has of it."""
    return _parse("".join(linecache.getlines(file)))


def codes(code: CodeType) -> Iterator[CodeType]:
    """It, and all code that is written in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


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


def _imported(node: ast.AST) -> Iterator[tuple[str, object]]:
    """Names that an import in a function binds, with what they stand for if that has been imported."""
    match node:
        case ast.Import(names=names):
            yield from ((each.asname or each.name.partition(".")[0], _module(each)) for each in names)
        case ast.ImportFrom(module=str(module), names=names):
            owner = sys.modules.get(module)
            yield from ((each.asname or each.name, getattr(owner, each.name, _UNKNOWN)) for each in names)


def _module(imported: ast.alias) -> object:
    name = imported.name if imported.asname else imported.name.partition(".")[0]
    return sys.modules.get(name, _UNKNOWN)
