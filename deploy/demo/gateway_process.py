"""The gateway itself as a private daemon: its configuration, its process, its records."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from .daemons import LOOPBACK, ChildDaemon, DaemonError, free_port, poll

_CONFIGURATION = """\
[gateway]
hostname = "mx.example.com"
state_directory = "{directory}/state"
workers = {workers}
{gateway}

{front}
{filters}
[policies]
order = [{order}]
{policies}
"""

_PROXY = """\
[[listener]]
protocol = "smtp"
address = "{address}"
{listener}

[[relay]]
domains = ["{domain}"]
address = ["{downstream}"]
{relay}
"""

_MILTER = """\
[[listener]]
protocol = "milter"
address = "unix:{socket}"
"""


def clamav(address: str, unavailable: str = "tempfail") -> str:
    """The section that makes the gateway ask this clamd."""
    return f'[filters.clamav]\naddress = "{address}"\nunavailable = "{unavailable}"\n'


def spamassassin(address: str, unavailable: str = "tempfail") -> str:
    """The section that makes the gateway ask this spamd."""
    return f'[filters.spamassassin]\naddress = "{address}"\nunavailable = "{unavailable}"\n'


def icap(address: str, service: str, unavailable: str = "tempfail") -> str:
    """The section that makes the gateway ask this ICAP server."""
    return f'[filters.icap]\naddress = "{address}"\nservice = "{service}"\nunavailable = "{unavailable}"\n'


def rspamd(address: str, unavailable: str = "tempfail") -> str:
    """The section that makes the gateway ask this Rspamd."""
    return f'[filters.rspamd]\naddress = "{address}"\nunavailable = "{unavailable}"\n'


def dnsbl(nameserver: str, zone: str) -> str:
    """The section that makes the gateway look up clients in this block list."""
    return (
        f'[filters.dnsbl]\nnameservers = ["{nameserver}"]\nunavailable = "accept"\n'
        f'[filters.dnsbl.zones]\n"{zone}" = 5\n'
    )


def certificate(chain: Path, key: Path) -> str:
    """The lines that make the listener offer STARTTLS."""
    return f'tls_certificate = "{chain}"\ntls_key = "{key}"\n'


class GatewayProcess(ChildDaemon):
    """`sluicegate run` with these sections for listeners and relays, filter sections and policies.

    `gateway` and `policies` are further lines of these sections.
    Its directory is removed at the end, unless one is given: that is made anew and kept.
    """

    name = "sluicegate"

    def __init__(
        self,
        front: str,
        filters: Sequence[str],
        order: Sequence[str],
        workers: int,
        directory: Path | None,
        gateway: str = "",
        policies: str = "",
    ) -> None:
        self._settings = {
            "front": front,
            "filters": "\n".join(filters),
            "order": ", ".join(f'"{policy}"' for policy in order),
            "workers": workers,
            "gateway": gateway,
            "policies": policies,
        }
        self._kept = directory
        self._log_start = 0

    def __enter__(self) -> Self:
        if self._kept is None:
            return super().__enter__()
        shutil.rmtree(self._kept, ignore_errors=True)
        self._kept.mkdir()
        self.directory = self._kept
        self.configure()
        self.start()
        return self

    @property
    def configuration(self) -> Path:
        """The configuration file, for `--config`."""
        return self.directory / "sluicegate.toml"

    def configure(self) -> None:
        """Write the configuration file."""
        (self.directory / "state").mkdir()
        self.configuration.write_text(_CONFIGURATION.format(directory=self.directory, **self._settings))

    def command(self) -> Sequence[str]:
        """All roles in the foreground."""
        return [_executable(), "run", "--config", str(self.configuration)]

    def launch(self) -> None:
        """Start it; an earlier run's `ready` in the log does not count."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        super().launch()

    def is_ready(self) -> bool | None:
        """It says so once every listener accepts."""
        return bool(re.search(rb"\bready\b", self.log.read_bytes()[self._log_start :])) or None

    def remove(self) -> None:
        """Remove the directory, unless it was asked for."""
        if self._kept is None:
            super().remove()

    def ask(self, command: str, *arguments: str) -> str:
        """What `sluicegate COMMAND` prints. Raises DaemonError if it fails."""
        done = subprocess.run(
            [_executable(), command, *arguments, "--config", str(self.configuration)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DaemonError(f"sluicegate {command} failed: {done.stderr.strip()}")
        return done.stdout

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        """What `sluicegate log` finds, oldest first; all of it without arguments."""
        lines = self.ask("log", "--json", "--limit", "100000", *arguments).splitlines()
        return [json.loads(line) for line in lines]

    def record(self, reference: str, seconds: float = 10.0) -> dict[str, Any]:
        """The record of this reference, waited for. Raises DaemonError if there is none."""

        def find() -> dict[str, Any] | None:
            return next((r for r in reversed(self.records()) if r["reference"] == reference), None)

        found = poll(find, seconds)
        if found is None:
            raise DaemonError(f"no record of {reference}")
        return found


class Gateway(GatewayProcess):
    """The one in front of `downstream`; `listener` and `relay` are further lines of these sections."""

    def __init__(
        self,
        downstream: str,
        filters: Sequence[str] = (),
        order: Sequence[str] = ("recipients",),
        workers: int = 1,
        listener: str = "",
        relay: str = "",
        directory: Path | None = None,
        domain: str = "example.com",
        policies: str = "",
    ) -> None:
        self.port = free_port()
        front = _PROXY.format(
            address=self.address, listener=listener, domain=domain, downstream=downstream, relay=relay
        )
        super().__init__(front, filters, order, workers, directory, policies=policies)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{LOOPBACK}:{self.port}"


class MilterGateway(GatewayProcess):
    """The one that an MTA asks at `socket`, in a directory that is there before it starts."""

    def __init__(
        self,
        socket: Path,
        filters: Sequence[str] = (),
        order: Sequence[str] = ("recipients",),
        workers: int = 1,
        directory: Path | None = None,
        gateway: str = "",
        policies: str = "",
    ) -> None:
        front = _MILTER.format(socket=socket)
        super().__init__(front, filters, order, workers, directory, gateway, policies)


def _executable() -> str:
    return str(Path(sys.executable).with_name("sluicegate"))
