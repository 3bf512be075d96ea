"""What a policy can answer at all, as far as its source says so for certain.

Reads the file in which the policy stands and runs nothing. Whatever could make a verdict in a way that
cannot be followed makes every answer possible.
"""

import ast
import functools
import inspect
import linecache
import sys
from collections.abc import Iterator
from typing import Final

import policies
from policies.policy import Policy
from policies.verdict import Decision

EVERYTHING: Final = frozenset(Decision)

# The names by which `policies` offers verdicts.
_BUILDERS: Final = {decision.value.replace("-", "_"): frozenset({decision}) for decision in Decision} | {
    "quarantine": frozenset({Decision.QUARANTINE, Decision.COPY})
}
# By these a verdict can be made, changed or fetched without naming what it is.
_LOOPHOLES: Final = frozenset(
    {"Verdict", "Decision", "getattr", "vars", "globals", "locals", "eval", "exec", "compile", "__import__"}
)
_LOOPHOLE_MODULES: Final = frozenset(
    {"builtins", "copy", "ctypes", "gc", "importlib", "inspect", "marshal", "operator", "pickle", "sys"}
)
_CANNOT_ANSWER: Final = ("filters", "gateway.smtp")


def possible_answers(policy: Policy) -> frozenset[Decision]:
    """The decisions that a verdict of this policy may have; all of them where that is not certain."""
    function = policy.function
    if hasattr(function, "__wrapped__") or not inspect.isfunction(function):
        return EVERYTHING
    return _answers_in(function.__code__.co_filename)


@functools.cache
def _answers_in(file: str) -> frozenset[Decision]:
    try:
        # The lines that were compiled, whatever the file says by now.
        tree = ast.parse("".join(linecache.getlines(file)))
    except (ValueError, SyntaxError):
        return EVERYTHING
    if not tree.body:
        return EVERYTHING
    nodes = list(_without_annotations(tree))
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        *(node.id for node in nodes if isinstance(node, ast.Name)),
        *(node.attr for node in nodes if isinstance(node, ast.Attribute)),
    }
    if names & _LOOPHOLES or not all(map(_is_harmless, imports)):
        return EVERYTHING
    # Under another name, a builder is still imported by its own.
    names |= {alias.name for node in imports for alias in node.names}
    return frozenset().union(*(decisions for name, decisions in _BUILDERS.items() if name in names))


def _without_annotations(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below this one that can do something."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from _without_annotations(child)


def _is_harmless(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether no verdict can come from there but by its builder's name."""
    names = {alias.name for alias in node.names}
    if isinstance(node, ast.Import):
        return all(map(_cannot_answer, names))
    if node.level or "*" in names:
        return False
    if node.module == "policies":
        return names <= set(policies.__all__)
    return _cannot_answer(node.module or "") and not (node.module == "dataclasses" and "replace" in names)


def _cannot_answer(module: str) -> bool:
    if any(module == each or module.startswith(f"{each}.") for each in _CANNOT_ANSWER):
        return True
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names and top not in _LOOPHOLE_MODULES
