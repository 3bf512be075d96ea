"""Where a server listens: `host:port`, `[v6]:port` or `unix:/path`."""

from dataclasses import dataclass
from typing import Self

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
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r} is not an address; allowed: {FORMS}")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address; allowed: {FORMS}")
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
