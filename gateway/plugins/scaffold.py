"""The beginning of a policy, and of its test: what `sluicegate policies new` writes.

Texts from a name, a stage and evidence types. It writes no file.
"""

import ast
import dataclasses
import keyword
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from filters.evidence import Finding
from gateway.plugins.sources import is_for_tests
from gateway.smtp.transaction import Stage


class ScaffoldError(ValueError):
    """Nothing can be written for that; the text says why."""


@dataclass(frozen=True, slots=True)
class _Example:
    """What a policy at a stage can look at, in Python: one option, one fact, and two cases for the test."""

    purpose: str
    option: str
    default: str
    fact: str
    expression: str
    condition: str
    transaction: str
    hit: str
    miss: str


_EXAMPLES = {
    Stage.CONNECT: _Example(
        "a client with one of these addresses",
        "addresses",
        "192.0.2.99",
        "address",
        "str(tx.session.client_address)",
        "address in addresses",
        "session=session(client_address=address)",
        "192.0.2.99",
        "192.0.2.1",
    ),
    Stage.HELO: _Example(
        "a client that says it has one of these names",
        "names",
        "localhost",
        "name",
        '(tx.session.helo_name or "").lower()',
        "name in names",
        "session=session(helo_name=name)",
        "localhost",
        "mail.example.net",
    ),
    Stage.MAIL: _Example(
        "a sender of one of these domains",
        "domains",
        "junk.example",
        "domain",
        "tx.envelope.reverse_path.domain.lower()",
        "domain in domains",
        'reverse_path=f"anna@{domain}"',
        "junk.example",
        "example.net",
    ),
    Stage.RCPT: _Example(
        "one of these recipients",
        "mailboxes",
        "trap@example.com",
        "mailbox",
        "str(tx.envelope.recipient).lower()",
        "mailbox in mailboxes",
        "recipient=mailbox",
        "trap@example.com",
        "anna@example.com",
    ),
    Stage.END_OF_DATA: _Example(
        "a message with one of these words in its Subject",
        "words",
        "verify your account",
        "subject",
        '(tx.message.header("Subject") or "").lower()',
        "any(word in subject for word in words)",
        'message=message(header={"Subject": subject})',
        "Please verify your account",
        "Lunch?",
    ),
}

_POLICY = '''\
"""Refuse {purpose}."""

from policies import {imports}


@policy(at=Stage.{stage}{needs})
def {name}(
    tx: Transaction, evidence: Evidence, *, {option}: tuple[str, ...] = ("{default}",)
) -> Verdict | None:
    """Reject {purpose}: `{option}`."""
    {fact} = {expression}
    if {condition}:
        return reject("{reason}", detail={detail})
    return None
'''

_TEST = '''\
"""`{name}`: who is refused, and who is not."""

import pytest
from {name} import {name}
from policies import {types}
from policies.testing import {builders}
{found}

def about({fact}: str) -> Transaction:
    return transaction({transaction})


@pytest.mark.parametrize(
    ("{fact}", "reason"),
    [
        ("{hit}", "{reason}"),
        ("{miss}", None),
    ],
)
def test_{name}(judge: Judge, {fact}: str, reason: str | None) -> None:
    verdict = judge({name}, about({fact}){findings})
    assert (verdict and verdict.reason) == reason


def test_{name}_by_a_list_of_ones_own(judge: Judge) -> None:
    verdict = judge({name}, about("{miss}"){findings}, {option}=["{own}"])
    assert verdict is not None
'''

# No module, function or variable is called like that.
_NOBODY = "_NOBODY"


def scaffold(name: str, stage: Stage, kinds: Sequence[type[Finding]]) -> tuple[str, str]:
    """The policy and its test, both as Python. Raises ScaffoldError.

    `kinds` come from `policies`.
    """
    if keyword.iskeyword(name):
        raise ScaffoldError(f"{name!r} is a keyword of Python and no name for a function")
    if not name.isidentifier() or not name.isascii():
        raise ScaffoldError(f"{name!r} is no name for a function; take ASCII letters, digits and _")
    if is_for_tests(f"{name}.py"):
        raise ScaffoldError(f"{name!r} is a name for a test: {name}.py would not be loaded")
    if not re.search(r"[A-Za-z0-9]", name):
        raise ScaffoldError(f"{name!r} has neither a letter nor a digit")
    for text in _texts(_NOBODY, stage, kinds):
        if name in _names_in(text):
            raise ScaffoldError(f"{name!r} is a name that a policy or its test uses for something else")
    return _texts(name, stage, kinds)


def _texts(name: str, stage: Stage, kinds: Sequence[type[Finding]]) -> tuple[str, str]:
    example = _EXAMPLES[stage]
    names = {kind.__name__ for kind in kinds}
    is_end = stage is Stage.END_OF_DATA
    samples = [_sample(kind) for kind in kinds]
    values = {
        **dataclasses.asdict(example),
        "name": name,
        "reason": "-".join(re.findall(r"[a-z0-9]+", name.lower())),
        "stage": stage.name,
        "own": example.miss.lower(),
        "imports": _joined({"Evidence", "Stage", "Transaction", "Verdict", *names}, "policy", "reject"),
        "needs": f", needs=[{', '.join(kind.__name__ for kind in kinds)}]" if kinds else "",
        "detail": _detail(example.fact, kinds),
        "types": _joined({"Transaction", *names, *(() if is_end else ("Stage",))}),
        "builders": _joined({"Judge"}, *_builders(example)),
        "transaction": example.transaction if is_end else f"stage=Stage.{stage.name}, {example.transaction}",
        "found": f"\nFOUND = ({', '.join(samples)},)\n" if samples else "",
        "findings": ", *FOUND" if samples else "",
    }
    return _POLICY.format_map(values), _TEST.format_map(values)


def _names_in(text: str) -> set[str]:
    """Every name that the code uses or makes."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.alias(name=name) | ast.FunctionDef(name=name):
                names.add(name)
    return names


def _builders(example: _Example) -> list[str]:
    used = [name for name in ("message", "session") if f"={name}(" in example.transaction]
    return [*used, "transaction"]


def _joined(names: set[str], *more: str) -> str:
    return ", ".join([*sorted(names), *more])


def _detail(fact: str, kinds: Sequence[type[Finding]]) -> str:
    if not kinds:
        return fact
    return 'f"{' + fact + "}" + "".join(f", {{evidence[{kind.__name__}]}}" for kind in kinds) + '"'


def _sample(kind: type[Finding]) -> str:
    """A finding of that kind, in Python, with something in each field that has to be given."""
    types = typing.get_type_hints(kind)
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    return f"{kind.__name__}({', '.join(f'{name}={_value(kind, name, types[name])}' for name in required)})"


def _value(kind: type[Finding], name: str, wanted: object) -> str:
    plain = typing.get_origin(wanted) or wanted
    if plain in {float, int, str, bool, tuple}:
        return repr(plain())
    raise ScaffoldError(f"{kind.__name__}.{name} is of a type that has no value to begin with")
