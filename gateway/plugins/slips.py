"""Slips in a function that a policy is made of: names that nothing has, verdicts that cannot be built.

Only what is certain. Python alone knows a name's scope, so the compiled code says which names are
looked up among the globals, and the tree where they stand. Verdicts are built from what is written
there as a constant; of the code itself nothing is called.
"""

import ast
import builtins
import dis
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import policies
from gateway.plugins.modules import PREFIX
from gateway.plugins.trees import Tree, codes, parsed
from gateway.spelling import guess
from policies.verdict import Verdict

# Who uses one of these may bind names that nobody sees.
_BINDERS = frozenset({"__dict__", "exec", "globals", "setattr", "vars"})
_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_STORES_OF_A_MODULE = _STORES | {"STORE_NAME", "DELETE_NAME"}

_BUILDERS: tuple[Callable[..., Verdict], ...] = (
    policies.accept,
    policies.add_recipient,
    policies.discard,
    policies.mark,
    policies.quarantine,
    policies.redirect,
    policies.reject,
    policies.subject,
    policies.tempfail,
)
# For what is known only when it runs, something that will do.
_WILL_DO = {"reason": "x", "name": "X-X", "value": "x", "prefix": "x", "address": "x@example.org"}


def unknown_names(tree: Tree, options: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with a name that is neither a global nor built in, and what to say about it.

    `options` are the policy's, which its other functions do not see.
    """
    known = {*tree.function.__globals__, *dir(builtins)}
    used = [(name, line, column) for name, line, column in _globals_used(tree) if name not in known]
    bindable = _names_bound_later(tree.file) if used else set()
    if bindable is None:
        return
    places = {
        (node.lineno, node.col_offset): node
        for node in tree.nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for name, line, column in used:
        node = places.get((line, column))
        if name not in bindable and node is not None and tree.is_certain(node, NameError):
            hint = " here; hand the policy's option on" if name in options else _meant(name, tree, known)
            yield line, f"nothing is called {name!r}{hint}"


def _meant(name: str, tree: Tree, known: Iterable[str]) -> str:
    hint = guess(name, [*tree.function.__code__.co_varnames, *tree.stored, *known])
    return f"; {hint}" if hint else ""


def _globals_used(tree: Tree) -> Iterator[tuple[str, int, int]]:
    """Name, line and column of what the function, or one written in it, looks up among the globals."""
    for code in codes(tree.function.__code__):
        for each in dis.get_instructions(code):
            where = each.positions
            if each.opname == "LOAD_GLOBAL" and where and where.lineno and where.col_offset is not None:
                yield each.argval, where.lineno, where.col_offset


def _names_bound_later(file: str) -> set[str] | None:
    """What may become a global of that file although it is none now; `None`: anything."""
    module = parsed(file)
    if module is None:
        return None
    names = _attributes_set_by_plugins()
    for node in ast.walk(module):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _BINDERS:
                return None
            case ast.ImportFrom(names=[ast.alias(name="*")]) if node not in module.body:
                return None
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    compiled = compile(module, file, "exec", dont_inherit=True)
    for code in codes(compiled):
        stores = _STORES_OF_A_MODULE if code is compiled else _STORES
        names.update(each.argval for each in dis.get_instructions(code) if each.opname in stores)
    return names


def _attributes_set_by_plugins() -> set[str]:
    """Names as in `module.name = value`, which binds a global of another file."""
    files = [module.__file__ for name, module in list(sys.modules.items()) if name.startswith(PREFIX)]
    trees = [tree for file in files if file and (tree := parsed(file))]
    return {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
    }


def bad_verdicts(tree: Tree) -> Iterator[tuple[int, str]]:
    """Lines that call one of the builders of verdicts with what it cannot take, and why not."""
    for node in tree.nodes:
        if not isinstance(node, ast.Call) or not tree.is_certain(node, TypeError, ValueError):
            continue
        called = tree.value_of(node.func)
        for builder in (each for each in _BUILDERS if each is called):
            problem = _problem(builder, node)
            if problem:
                yield node.lineno, problem


def _problem(builder: Callable[..., Verdict], call: ast.Call) -> str | None:
    keywords = {each.arg: each.value for each in call.keywords if each.arg is not None}
    if len(keywords) < len(call.keywords) or any(isinstance(each, ast.Starred) for each in call.args):
        return None
    signature = inspect.signature(builder)
    try:
        written = signature.bind(*call.args, **keywords).arguments
    except TypeError as error:
        unknown = next((name for name in keywords if name not in signature.parameters), "")
        hint = guess(unknown, signature.parameters)
        return f"{builder.__name__}(...): {error}" + (f"; {hint}" if hint else "")
    try:
        builder(**_arguments(written))
    except (TypeError, ValueError) as error:
        return f"{builder.__name__}(...): {error}"
    return None


def _arguments(written: Mapping[str, ast.expr]) -> dict[str, Any]:
    """The constants among what is written, and for the rest nothing, or something that will do."""
    constants = {name: node.value for name, node in written.items() if isinstance(node, ast.Constant)}
    unknown = written.keys() - constants.keys()
    code, status = constants.get("code"), constants.get("status")
    made: dict[str, Any] = {name: _WILL_DO[name] for name in unknown if name in _WILL_DO}
    if "status" in unknown and isinstance(code, int):
        made["status"] = f"{code // 100}.7.1"
    if "code" in unknown and isinstance(status, str) and status[:1] in set("245"):
        made["code"] = int(status[0]) * 100 + 50
    return {**constants, **made}
