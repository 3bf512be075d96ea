"""Tracebacks in one line, and the place in the policy, from what Python itself writes."""

import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal.tracebacks import essence, place

BROKEN = """
def divides(): return 1 / 0
def speaks(): raise ValueError("one line" + chr(10) + "and another")
def imports(): import json; json.loads("{")
def chained():
    try: divides()
    except ZeroDivisionError as error: raise KeyError("no such thing") from error
"""


@pytest.mark.parametrize(
    ("name", "said", "line"),
    [
        ("divides", "ZeroDivisionError: division by zero", 2),
        ("speaks", "ValueError: one line", 3),
        ("imports", "json.decoder.JSONDecodeError: Expecting property name", 4),
        ("chained", "KeyError: 'no such thing'", 7),
    ],
)
def test_an_exception_is_its_text_and_a_line_of_the_policy(name: str, said: str, line: int):
    namespace: dict[str, Callable[[], None]] = {}
    exec(compile(BROKEN, "/etc/policies/broken.py", "exec"), namespace)
    with pytest.raises(Exception) as raised:
        namespace[name]()
    told = traceback.TracebackException.from_exception(raised.value)
    del told.stack[0]
    detail = "".join(told.format())
    assert essence(detail).startswith(said)
    assert place(detail) == f"/etc/policies/broken.py:{line}, in {name}"


DYING = """
import ctypes, faulthandler
faulthandler.enable()
def load(name, text):
    space = dict(ctypes=ctypes)
    exec(compile(text, name, "exec"), space)
    return space
mine = load("/etc/policies/policy.py", '''
def crashes(): ctypes.string_at(0)
def mine(*_): crashes()
''')["mine"]
wrapper = load("/lib/policies/policy.py", '''
def __call__(mine): mine()
''')["__call__"]
load("/lib/gateway/watch.py", '''
def call(wrapper, mine): wrapper(mine)
''')["call"](wrapper, mine)
"""


def test_of_a_dead_worker_the_first_line_counts_and_the_policy_s_own_call():
    died = subprocess.run(
        [sys.executable, "-c", DYING], capture_output=True, text=True, check=False, timeout=60
    )
    detail = f"the worker died (Segmentation fault), 0.1 s after it had called policy mine\n{died.stderr}"
    assert "Current thread" in detail
    assert essence(detail) == detail.splitlines()[0]
    assert place(detail) == "/etc/policies/policy.py:2, in crashes"


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ("", ""),
        ("9.1 BAYES_99", "9.1 BAYES_99"),
        ("two lines\nof a policy's own", "two lines\nof a policy's own"),
        ("Traceback (most recent call last):\nTypeError: returned 5\n", "TypeError: returned 5"),
        ("the worker died (exit status 3)", "the worker died (exit status 3)"),
        (
            "gateway.watch.Interrupted: interrupted: it took",
            "gateway.watch.Interrupted: interrupted: it took",
        ),
        (
            "Traceback (most recent call last):\ngateway.watch.Interrupted: interrupted: it took 5 s",
            "interrupted: it took 5 s",
        ),
        ("Traceback (most recent call last):\n", "Traceback (most recent call last):"),
    ],
)
def test_what_has_no_calls_has_no_place(detail: str, said: str):
    assert (essence(detail), place(detail)) == (said, None)


def test_a_traceback_may_have_lost_its_beginning(tmp_path: Path):
    detail = 'r 9\n  File "/p/a.py", line 3, in a\n    b()\n  File "/p/b.py", line 1, in b\nValueError: x\n'
    assert (essence(detail), place(detail)) == ("ValueError: x", "/p/a.py:3, in a")
