"""Where a server listens: `host:port`, `[v6]:port` or `unix:/path`."""

import re
from dataclasses import dataclass
from typing import Self

_TCP = re.compile(r"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]):([0-9]{1,5})")
_MAX_PORT = 65_535

FORMS = '"host:port", "[v6-address]:port" or "unix:/path"'


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP address (`host`, `port`) or a Unix socket (`path`)."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, naming the allowed forms, for anything else."""
        if text.startswith("unix:"):
            if not text.startswith("unix:/"):
                raise ValueError(f"{text!r} is not absolute; allowed: {FORMS}")
            return cls(path=text.removeprefix("unix:"))
        found = _TCP.fullmatch(text)
        if found is None or int(found[3]) > _MAX_PORT:
            raise ValueError(f"{text!r} is not an address; allowed: {FORMS}")
        return cls(host=found[1] or found[2], port=int(found[3]))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
