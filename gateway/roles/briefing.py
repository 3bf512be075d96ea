"""What the supervisor tells its processes on standard input: all that was read from files.

It is the very text and the very octets that were checked, so a process started again later does
not meet a file that was edited meanwhile.
"""

from pathlib import Path

import msgspec

from gateway.config import Config, parse
from gateway.plugins.sources import Source

# JSON has no NUL in it.
END = b"\0"


class _Briefing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The text of the configuration file, and the plugins of its directory (`None`: not for you)."""

    text: bytes
    plugins: tuple[Source, ...] | None


def pack(config: Config) -> bytes:
    """The octets for standard input, `END` behind them."""
    return msgspec.json.encode(_Briefing(config.source, config.plugins)) + END


def unpack(file: Path, octets: bytes) -> Config:
    """The configuration from what `pack` made, without `END`; `file` is for messages.

    Raises ConfigError for a text that is none, and msgspec.DecodeError for octets of another origin.
    """
    told = msgspec.json.decode(octets, type=_Briefing)
    return msgspec.structs.replace(parse(file, told.text), plugins=told.plugins)
