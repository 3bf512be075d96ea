"""The figures of both proofs as tables."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from tests.proofs.matrix import Case
from tests.proofs.promises import Outcome
from tests.proofs.scene import Victim
from tests.proofs.soak import GROWTH, KINDS, Result, growth
from tests.proofs.states import STATES

_SHOWN = 50


def print_kills(console: Console, outcomes: Mapping[Case, Outcome | str]) -> bool:
    """The matrix; true if nothing failed. What failed is a text."""
    table = Table("state", caption="first reply to the sender ('-': none), copies delivered in the end")
    for victim in Victim:
        table.add_column(victim.value, justify="right")
    for state in STATES:
        cells = (outcomes[victim, state] for victim in Victim)
        table.add_row(state.name, *(str(cell) if isinstance(cell, Outcome) else "FAILED" for cell in cells))
    console.print(table)
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, str)]
    copies = Counter(outcome.copies for outcome in outcomes.values() if isinstance(outcome, Outcome))
    _print_lines(console, failed)
    console.print(
        f"{len(outcomes)} cases, {len(failed)} failed; delivered once in {copies[1]}, twice in {copies[2]}, "
        "which is where the downstream had the end of data and the client no 250 (RFC 1047)",
        highlight=False,
    )
    return not failed


def print_soak(console: Console, result: Result) -> bool:
    """Kinds of sessions, memory and descriptors; true if nothing was violated."""
    console.print(_sessions(result), _processes(result))
    _print_lines(console, result.violations)
    plan = result.plan
    console.print(
        f"{plan.sessions} sessions of seed {plan.seed}, {plan.reloads} reloads, {plan.kills} workers killed: "
        f"{plan.sessions / result.seconds:.0f} sessions/s, {result.messages} messages delivered, "
        f"{result.records} records, {len(result.violations)} violations",
        highlight=False,
    )
    return not result.violations


def _sessions(result: Result) -> Table:
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    violations: Counter[str] = Counter()
    for visit in result.ledger.visits:
        outcomes[visit.kind][visit.outcome] += 1
        violations[visit.kind] += bool(visit.violation)
    table = Table("kind of session", "count", "outcomes", "violations")
    for kind in KINDS:
        words = ", ".join(f"{outcome}: {count}" for outcome, count in outcomes[kind].most_common())
        table.add_row(kind, str(outcomes[kind].total()), words, str(violations[kind]))
    return table


def _processes(result: Result) -> Table:
    table = Table(
        "process",
        "after warm-up",
        "at the end",
        "peak",
        caption=f"MiB resident of those that ran through; medians of a quarter; allowed growth {GROWTH:.0f}",
    )
    for each in sorted(growth(result.samples), key=lambda each: each.role):
        table.add_row(each.role, *(f"{size:.1f}" for size in (each.warm, each.late, each.peak)))
    if result.idle is not None:
        final = ", ".join(str(look.descriptors) for look in result.final.values())
        table.add_row("a fresh worker", f"{result.idle.resident:.1f}", "", "")
        table.add_row("descriptors of workers", f"{result.idle.descriptors} when fresh", final, "")
        tasks = ", ".join(map(str, result.final_tasks))
        table.add_row("tasks of workers", f"{result.idle_tasks} when fresh", tasks, "")
    return table


def _print_lines(console: Console, lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        console.print(line, style="red", highlight=False, markup=False)
