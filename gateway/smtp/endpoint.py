"""Where a server listens: `host:port`, `[v6]:port`, `unix:/path`, or a socket that systemd has opened."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

_TCP = re.compile(r"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]):([0-9]{1,5})")
_SOCKET_NAME = re.compile(r"[!-9;-~]{1,255}")
_MAX_PORT = 65_535

FORMS = '"host:port", "[v6-address]:port" or "unix:/path"'
_FORMS_OF_A_LISTENER = '"host:port", "[v6-address]:port", "unix:/path" or "systemd:NAME"'


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A TCP address (`host`, `port`) or a Unix socket (`path`); `lmtp` where LMTP is spoken there."""

    host: str = ""
    port: int = 0
    path: str = ""
    lmtp: bool = False

    @classmethod
    def parse(cls, text: str, forms: str = FORMS) -> Self:
        """Raises ValueError, naming the allowed `forms`, for anything else."""
        if text.startswith("unix:"):
            if not text.startswith("unix:/"):
                raise ValueError(f"{text!r} is not absolute; allowed: {forms}")
            return cls(path=text.removeprefix("unix:"))
        found = _TCP.fullmatch(text)
        if found is None or int(found[3]) > _MAX_PORT:
            raise ValueError(f"{text!r} is not an address; allowed: {forms}")
        return cls(host=found[1] or found[2], port=int(found[3]))

    @property
    def is_local(self) -> bool:
        """Whether what is said there never leaves this machine."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that the service manager opened, by its name there (sd_listen_fds(3))."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


def parse_listener(text: str) -> Endpoint | Inherited:
    """Where to listen. Raises ValueError, naming the allowed forms."""
    name = text.removeprefix("systemd:")
    if name == text:
        return Endpoint.parse(text, _FORMS_OF_A_LISTENER)
    if not _SOCKET_NAME.fullmatch(name):
        raise ValueError(f"{text!r} names no socket; allowed: systemd:NAME as in FileDescriptorName=")
    return Inherited(name)
