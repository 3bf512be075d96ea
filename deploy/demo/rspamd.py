"""A private Rspamd: the package's rules about the message itself, and nobody else asked.

Standard library only.
"""

import grp
import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path

from .daemons import LOOPBACK, ChildDaemon, dialogue, free_port

_CONFIGURATION = Path("/etc/rspamd")
_SUFFIXES = Path("/usr/share/rspamd/effective_tld_names.dat")
# Modules that ask name servers or servers of Rspamd's makers, or keep what they learn in Redis.
_ASKING_OTHERS = (
    *(
        "arc",
        "asn",
        "bimi",
        "dkim",
        "dkim_signing",
        "dmarc",
        "fuzzy_check",
        "greylist",
        "hfilter",
        "mx_check",
    ),
    *("neural", "phishing", "ratelimit", "rbl", "replies", "reputation", "spf", "surbl", "url_redirector"),
)


class Rspamd(ChildDaemon):
    """One normal worker for every `workers`, with local tests only: no DNS, no Redis, nothing learnt."""

    name = "rspamd"

    def __init__(self, workers: int = 1) -> None:
        self.port = free_port()
        self._workers = workers

    @property
    def address(self) -> str:
        """TCP, as `[filters.rspamd] address` takes it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def unix_address(self) -> str:
        """The same over a Unix socket."""
        return f"unix:{self.directory}/rspamd.socket"

    def configure(self) -> None:
        """The package's configuration, of which much is turned off."""
        self.directory.chmod(0o777)  # as root it runs as nobody, and writes here
        local = self.directory / "local.d"
        local.mkdir()
        for module in _ASKING_OTHERS:
            (local / f"{module}.conf").write_text("enabled = false;\n")
        # Of all 10,000 public suffixes it takes ten seconds to make a search tree.
        suffixes = re.findall(r"^[a-z]{2,4}$", _SUFFIXES.read_text(encoding="utf-8"), re.MULTILINE)
        (self.directory / "suffixes").write_text("\n".join(suffixes) + "\n")
        (self.directory / "options.inc").write_text(
            f'pidfile = "{self.directory}/pid";\n'
            f'tempdir = "{self.directory}";\n'
            f'url_tld = "{self.directory}/suffixes";\n'
            'filters = "chartable,regexp";\n'
            f'dns {{ nameserver = ["{LOOPBACK}:1"]; timeout = 0.1s; retransmits = 1; sockets = 1; }}\n'
        )
        (self.directory / "rspamd.conf").write_text(
            f'.include "{_CONFIGURATION}/common.conf"\n'
            "options {\n"
            f'  .include "{_CONFIGURATION}/options.inc"\n'
            f'  .include(priority=10) "{self.directory}/options.inc"\n'
            "}\n"
            'logging { type = "console"; level = "warning"; color = false; }\n'
            'worker "normal" {\n'
            f'  bind_socket = ["{self.address}", "{self.directory}/rspamd.socket mode=0666"];\n'
            f"  count = {self._workers};\n"
            "}\n"
        )

    def command(self) -> Sequence[str]:
        """In the foreground; as root it runs as nobody, else as whoever started it."""
        places = (f"--var={name}={self.directory}" for name in ("DBDIR", "RUNDIR", "LOGDIR", "LOCAL_CONFDIR"))
        command = ["rspamd", "--no-fork", f"--config={self.directory}/rspamd.conf", *places]
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            command += [f"--user={nobody.pw_name}", f"--group={grp.getgrgid(nobody.pw_gid).gr_name}"]
        return command

    def is_ready(self) -> bool | None:
        """It answers a ping."""
        return b"200 OK" in dialogue(self.port, b"GET /ping HTTP/1.0\r\n\r\n") or None
