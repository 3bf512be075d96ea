"""Durations in the configuration: numbers of seconds, or text such as "90s", "10m", "2h30m" and "7d"."""

import math
import re
from datetime import timedelta

MAX_DAYS = 3650
FORMS = f'a number of seconds, or text such as "90s", "10m", "2h30m" or "7d"; from 0 up to "{MAX_DAYS}d"'

_MAX = MAX_DAYS * 86400
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TEXT = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_MAX_DIGITS = 12


def parse_duration(value: object) -> timedelta:
    """Raises ValueError, without a word, for what is no duration or out of bounds."""
    seconds = _seconds(value)
    if not 0 <= seconds <= _MAX:  # so is "not a number"
        raise ValueError
    return timedelta(seconds=seconds)


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    found = _TEXT.fullmatch(value) if isinstance(value, str) and len(value) <= 4 * _MAX_DIGITS else None
    if found is None:
        return math.nan
    return sum(int(number) * unit for number, unit in zip(found.groups("0"), _UNITS.values(), strict=True))
