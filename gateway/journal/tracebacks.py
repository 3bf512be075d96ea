"""What a traceback in a record says in one line, and where in a policy it happened.

Pure, and knows nothing about records. There are two kinds: Python's own of an exception, its innermost
call last, and the interpreter's last words (faulthandler) of a worker that died, its innermost call first
and the gateway's words about the death in front.
"""

import re
from itertools import dropwhile
from typing import Final

_CALL: Final = re.compile(r'^ +File "(?P<file>.+)", line (?P<line>\d+)(?P<comma>,?) in (?P<name>.+)$', re.M)
_LAST_BLOCK: Final = "Traceback (most recent call last):"
_DYING: Final = "Current thread "
# Through what the gateway calls a policy; of an exception nothing of it is recorded.
_CALLER: Final = "gateway/watch.py"
_WRAPPER: Final = ("policies/policy.py", "__call__")
# Of an interruption the class is the gateway's own, and says no more than the words.
_CLASS: Final = "gateway.watch.Interrupted: "


def essence(detail: str) -> str:
    """The line of a detail with a traceback that says what happened; any other detail as it is."""
    calls = list(_CALL.finditer(detail))
    if _DYING in detail or (calls and not calls[-1]["comma"]):
        return detail.splitlines()[0]
    if not calls and _LAST_BLOCK not in detail:
        return detail.strip()
    rest = detail[calls[-1].end() :] if calls else detail.rpartition(_LAST_BLOCK)[2]
    # Source and marks under it are indented, what happened is not, nor the other lines of its text.
    happened = next((line for line in rest.splitlines() if line[:1].strip()), "")
    return happened.removeprefix(_CLASS) or detail.strip().splitlines()[-1]


def place(detail: str) -> str | None:
    """Where the policy itself was, as `FILE:LINE, in NAME`; `None` if the detail does not say."""
    calls = _calls(detail)
    outer = next(iter(calls), None)
    if outer is None:
        return None
    inner = next(call for call in reversed(calls) if call["file"] == outer["file"])
    return f"{inner['file']}:{inner['line']}, in {inner['name']}"


def shortened(detail: str) -> str:
    """Of the last words of a worker no more than its end and the policy's calls; any other as it is."""
    calls = _calls(detail) if _DYING in detail else []
    return "\n".join([essence(detail), *(call[0] for call in reversed(calls))]) if calls else detail


def _calls(detail: str) -> list[re.Match[str]]:
    """From the policy inwards, in the thread and in the exception that it is about."""
    if _DYING not in detail:
        return list(_CALL.finditer(detail.rpartition(_LAST_BLOCK)[2]))
    dying = detail.partition(_DYING)[2].partition("\n\n")[0]
    calls = list(_CALL.finditer(dying))
    number = next((n for n, call in enumerate(calls) if call["file"].endswith(_CALLER)), len(calls))
    return list(dropwhile(_is_wrapper, reversed(calls[:number])))


def _is_wrapper(call: re.Match[str]) -> bool:
    file, name = _WRAPPER
    return call["file"].endswith(file) and call["name"] == name
