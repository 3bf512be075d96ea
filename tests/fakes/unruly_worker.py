"""A worker of the sandbox that does not do as it is told: `python -m tests.fakes.unruly_worker HOW`."""

import json
import os
import sys
import time
from collections.abc import Callable

from filters.sandbox.pool import MAX_ANSWER


def _question() -> tuple[str, bytes]:
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit()
    question = json.loads(line)
    return question["token"], sys.stdin.buffer.read(question["size"])


def _say(octets: bytes) -> None:
    sys.stdout.buffer.write(octets)
    sys.stdout.buffer.flush()


def _repeat(state: str) -> None:
    """As it should be: the answer is what was sent."""
    token, content = _question()
    _say(f"{token} {state} ".encode() + content + b"\n")


def _answer_before_being_asked() -> None:
    _say(b"0123456789abcdef more early\n")
    _question()
    time.sleep(60)


def _die(say: bytes = b"") -> None:
    _question()
    _say(say)
    os._exit(3)


def _say_without_end() -> None:
    _question()
    while True:
        _say(b"x" * 65_536)


def _read_nothing() -> None:
    time.sleep(60)


def _say_token(answer: Callable[[str], bytes]) -> None:
    token, _ = _question()
    _say(answer(token))
    time.sleep(60)


def _leave_unread() -> None:
    sys.stdin.buffer.read(10)
    os._exit(4)


HOW: dict[str, Callable[[], None]] = {
    "repeat": lambda: _repeat("more"),
    "repeat-last": lambda: _repeat("last"),
    "early": _answer_before_being_asked,
    "die": _die,
    "die-in-the-answer": lambda: _die(b"0123456789abcdef mo"),
    "endless": _say_without_end,
    "long": lambda: _say_token(lambda token: f"{token} more ".encode() + b"x" * MAX_ANSWER + b"\n"),
    "hang": _read_nothing,
    "leave": _leave_unread,
    "wrong-token": lambda: _say_token(lambda _: b"0123456789abcdef more x\n"),
    "no-state": lambda: _say_token(lambda token: f"{token}\n".encode()),
    "wrong-state": lambda: _say_token(lambda token: f"{token} MORE x\n".encode()),
    "empty": lambda: _say_token(lambda _: b"\n"),
    "nothing": sys.exit,
    "mute": _read_nothing,
}

if __name__ == "__main__":
    how = sys.argv[1]
    if how != "mute":
        _say(b"hello\n")
    while True:
        HOW[how]()
