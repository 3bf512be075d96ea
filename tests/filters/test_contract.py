"""The contract finds out careless filters, each by its own fault, with pytest alone."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAD = """
import asyncio
from dataclasses import dataclass

from filters import Filter, FilterError, Finding
from filters.backend import Pool, connect
from filters.testing import FilterContract, ProbeContract, ScannerContract


@dataclass(frozen=True, slots=True)
class Count(Finding):
    count: int


class Counter(Filter):
    name = "counter"
    finds = Count

    def __init__(self, *, address):
        self._pool = Pool(address)

    async def find(self, tx):
        return await self._pool.ask(lambda endpoint: self.ask(tx, endpoint))

    async def ask(self, tx, endpoint):
        async with connect(endpoint) as connection:
            await connection.send(self.question(tx))
            connection.finish()
            return self.understand(await connection.receive(100), connection)

    def question(self, tx):
        return [b"?\\n"]

    def understand(self, answer, connection):
        if not (answer.endswith(b"\\n") and answer.strip().isdigit()):
            raise FilterError(f"answered {answer!r}")
        return Count(int(answer))


class Counting(FilterContract):
    finding = Count(17)
    filter = Counter

    def build(self, address):
        return self.filter(address=address)

    def converse(self, talk):
        talk.read_until(b"\\n")
        talk.say(b"17\\n")
"""

# What is wrong with a filter, and the tests that must say so.
CARELESS = {
    "believes_half_an_answer": (
        """
        class Careless(Counter):
            def understand(self, answer, connection):
                return super().understand(answer.strip() + b"\\n", connection)

        class TestIt(Counting):
            filter = Careless
        """,
        {"test_an_answer_that_breaks_off_is_an_error"},
    ),
    "takes_a_failure_for_a_finding": (
        """
        class Careless(Counter):
            async def find(self, tx):
                try:
                    return await super().find(tx)
                except FilterError:
                    return Count(0)

        class TestIt(Counting):
            filter = Careless
        """,
        {
            "test_a_refused_connection_is_an_error",
            "test_a_broken_daemon_is_an_error",
            "test_an_answer_that_breaks_off_is_an_error",
            "test_an_answer_that_goes_astray_and_never_ends_is_an_error",
            "test_a_daemon_that_is_back_is_believed",
            "test_every_address_is_named_when_all_fail",
        },
    ),
    "reads_without_end": (
        """
        class Careless(Counter):
            async def ask(self, tx, endpoint):
                async with connect(endpoint) as connection:
                    await connection.send(self.question(tx))
                    connection.finish()
                    return self.understand(await connection.receive(1_000_000_000), connection)

        class TestIt(Counting):
            filter = Careless
        """,
        {
            "test_a_broken_daemon_is_an_error",
            "test_an_answer_that_goes_astray_and_never_ends_is_an_error",
        },
    ),
    "leaves_a_task": (
        """
        class Careless(Counter):
            async def find(self, tx):
                self.left = asyncio.create_task(asyncio.sleep(3600))
                return await super().find(tx)

        class TestIt(Counting):
            filter = Careless
        """,
        {"test_a_good_answer_is_understood", "test_cancelling_closes_the_connection"},
    ),
    "keeps_a_connection": (
        """
        import socket

        class Careless(Counter):
            async def ask(self, tx, endpoint):
                self.kept = socket.create_connection((endpoint.host, endpoint.port))
                return await super().ask(tx, endpoint)

        class TestIt(Counting):
            filter = Careless
            unix_sockets = False
        """,
        {"test_a_good_answer_is_understood"},
    ),
    "does_not_let_go": (
        """
        class Careless(Counter):
            async def find(self, tx):
                try:
                    return await super().find(tx)
                except asyncio.CancelledError:
                    raise FilterError("cancelled") from None

        class TestIt(Counting):
            filter = Careless
        """,
        {"test_cancelling_closes_the_connection", "test_cancelling_within_an_answer_closes_the_connection"},
    ),
    "does_not_name_the_daemon": (
        """
        class Careless(Counter):
            async def find(self, tx):
                try:
                    return await super().find(tx)
                except FilterError:
                    raise FilterError("something is wrong") from None

        class TestIt(Counting):
            filter = Careless
        """,
        {"test_a_refused_connection_is_an_error", "test_every_address_is_named_when_all_fail"},
    ),
    "asks_one_address_only": (
        """
        class Careless(Counter):
            def __init__(self, *, address):
                super().__init__(address=address if isinstance(address, str) else address[0])

        class TestIt(Counting):
            filter = Careless
        """,
        {"test_another_address_is_asked", "test_every_address_is_named_when_all_fail"},
    ),
    "compares_by_identity": (
        """
        class Careless(Counter):
            def subject(self, tx):
                return id(object()), object()

        class TestIt(Counting):
            filter = Careless
        """,
        {"test_equal_transactions_are_equal_subjects"},
    ),
    "forgets_the_trace_and_believes_early_answers": (
        """
        class Careless(Counter):
            def question(self, tx):
                yield b"%d\\n" % tx.message.size
                yield from tx.message.content.chunks()

        class TestIt(ScannerContract, Counting):
            filter = Careless

            def converse(self, talk):
                talk.content = talk.read_exactly(int(talk.read_until(b"\\n")))
                talk.say(b"17\\n")
        """,
        {"test_the_daemon_is_sent_what_will_be_relayed", "test_an_answer_to_half_a_message"},
    ),
    "is_always_well": (
        """
        class Careless(Counter):
            async def probe(self):
                return "well"

        class TestIt(ProbeContract, Counting):
            filter = Careless
        """,
        {
            "test_probing_a_good_daemon_says_where_it_is",
            "test_probing_a_broken_daemon_is_an_error",
            "test_probing_where_nobody_is_is_an_error",
        },
    ),
}


def run(directory: Path, text: str, *names: str) -> set[str]:
    """Which of these tests, or of all, fail when pytest runs them without any plugin or settings."""
    (directory / "test_it.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-c", os.devnull, f"--rootdir={directory}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*command, "-k", " or ".join(names), "test_it.py"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return set(re.findall(r"^(?:FAILED|ERROR) .*?::(test_\w+)", done.stdout, re.MULTILINE))


@pytest.mark.parametrize(("faults", "noticed"), CARELESS.values(), ids=CARELESS)
def test_a_careless_filter_is_found_out(tmp_path: Path, faults: str, noticed: set[str]) -> None:
    assert run(tmp_path, HEAD + textwrap.dedent(faults), *noticed) == noticed


def test_a_careful_one_passes(tmp_path: Path) -> None:
    assert run(tmp_path, f"{HEAD}\n\nclass TestIt(Counting):\n    pass\n") == set()


def test_without_pytest_it_says_what_is_missing() -> None:
    program = "import sys; sys.modules['pytest'] = None; import filters.testing"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.rstrip().endswith("ImportError: filters.testing needs pytest, which is not installed")
