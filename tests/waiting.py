"""Waiting for something to become true: polled, with a deadline, never a fixed sleep."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 10.0
_INTERVAL = 0.005


async def eventually(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The first true value of `condition`; fails after so many seconds."""
    until = asyncio.get_running_loop().time() + seconds
    while not (value := condition()):
        assert asyncio.get_running_loop().time() < until, "it did not come true in time"
        await asyncio.sleep(_INTERVAL)
    return value


def soon(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The same for tests without an event loop."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(_INTERVAL)
    return value
