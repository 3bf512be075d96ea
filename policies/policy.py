"""The decorator that makes a policy out of a function, and checks what can be checked at once."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import NoReturn

from filters.evidence import Evidence, Finding
from gateway.smtp.transaction import Stage, Transaction
from policies.verdict import Verdict

_NAME = re.compile(r"[A-Za-z0-9_]+")


class PolicyError(TypeError):
    """A function cannot be a policy; the text says which, where and why."""


class Policy:
    """A pure, synchronous function with its stage and its needs. Calling it calls the function."""

    def __init__(
        self,
        function: Callable[..., Verdict | None],
        at: Stage,
        needs: Iterable[type[Finding]],
        wants: Iterable[type[Finding]] = (),
    ) -> None:
        if not inspect.isfunction(inspect.unwrap(function)):
            raise TypeError(f"@policy makes a policy of a function, and {function!r} is none")
        self.function = function
        self.name: str = function.__name__
        self.stage = at
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        code = inspect.unwrap(function).__code__
        self.location = f"{code.co_filename}:{code.co_firstlineno}"
        self._check()
        self.needs = self._checked("needs", needs)
        self.wants = self._checked("wants", wants)

    def __call__(self, tx: Transaction, evidence: Evidence, **options: object) -> Verdict | None:
        return self.function(tx, evidence, **options)

    def __repr__(self) -> str:
        return f"<policy {self.name} at {self.stage.value}>"

    def _check(self) -> None:
        stage: object = self.stage  # what an author wrote, whatever the annotation says
        if not isinstance(stage, Stage):
            self._refuse(f"at takes a Stage, not {stage!r}")
        if not _NAME.fullmatch(self.name):
            self._refuse("its name stands in the configuration: take ASCII letters, digits and _")
        function = inspect.unwrap(self.function)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            self._refuse("a policy decides and never waits: write `def`, not `async def`")
        if inspect.isgeneratorfunction(function):
            self._refuse("a policy has one verdict: write `return`, not `yield`")
        positional = [p for p in self._parameters() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        if len(positional) != 2 or any(p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD} for p in positional):
            self._refuse("it must take (tx, evidence); options are keyword-only, behind `*`")
        for parameter in self.options():
            if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
                self._refuse(f"option {parameter.name!r} needs an annotation and a default")

    def _checked(self, argument: str, types: Iterable[type[Finding]]) -> tuple[type[Finding], ...]:
        if not isinstance(types, Iterable):
            self._refuse(f"{argument} takes a list of evidence types, not {types!r}")
        kinds = tuple(types)
        written: tuple[object, ...] = kinds
        for kind in written:
            if not (isinstance(kind, type) and issubclass(kind, Finding)):
                self._refuse(f"{argument} takes evidence types, not {kind!r}")
        return kinds

    def options(self) -> list[inspect.Parameter]:
        """The keyword-only parameters, which are the options in the configuration."""
        return [p for p in self._parameters() if p.kind is inspect.Parameter.KEYWORD_ONLY]

    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.function).parameters.values())

    def _refuse(self, why: str) -> NoReturn:
        raise PolicyError(f"{self.location}: policy {self.name!r}: {why}")


def policy(
    *, at: Stage, needs: Iterable[type[Finding]] = (), wants: Iterable[type[Finding]] = ()
) -> Callable[[Callable[..., Verdict | None]], Policy]:
    """Make a policy of a function: `@policy(at=Stage.END_OF_DATA, needs=[SpamReport])`.

    The function's name is the policy's name. Without what it `needs` it is not asked. What it `wants`
    is asked for where a filter for it is configured, and may be missing all the same: `evidence.get`.
    Raises PolicyError with file and line.
    """

    def decorate(function: Callable[..., Verdict | None]) -> Policy:
        return Policy(function, at, needs, wants)

    return decorate
