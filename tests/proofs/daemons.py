"""The processes of a proof: the gateway, and the fakes around it, each to be killed and started again."""

import os
import re
import signal
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import trustme

from gateway.journal.layout import Layout
from gateway.journal.record import Record
from gateway.journal.search import Query, search
from gateway.roles.control import IN_HAND
from gateway.spool import content_directory
from tests.proofs.fakes import ZONE
from tests.proofs.gates import Gates
from tests.proofs.mailbox import Mailbox
from tests.supervisor.process import Process
from tests.waiting import eventually

_CONFIGURATION = """\
[gateway]
hostname = "mx.our.example"
state_directory = "{directory}/state"
workers = {workers}
max_message_size = {max_message_size}

[[listener]]
address = "127.0.0.1:{port}"
tls_certificate = "{directory}/certificate.pem"
tls_key = "{directory}/key.pem"
max_connections_per_client = {per_client}

[[relay]]
domains = ["our.example"]
address = ["{downstream}"]

[filters.clamav]
address = "{clamd}"
timeout = {scan_timeout}

[filters.spamassassin]
address = "{spamd}"
timeout = {scan_timeout}

[filters.dnsbl]
nameservers = ["{names}"]
query_timeout = 0.5
unavailable = "accept"
zones = {{ "{zone}" = 5 }}

[policies]
order = ["recipients", "blocklist", "virus", "spam"]
"""
MAX_MESSAGE_SIZE = 8 * 1024 * 1024
PER_CLIENT = 10
_SCAN_TIMEOUT = 5


class Daemon:
    """A fake in a process of its own. It keeps its port when it is started again."""

    def __init__(self, kind: str, directory: Path) -> None:
        self._kind = kind
        self._directory = directory
        self.addresses = [":0"] * (2 if kind == "scanners" else 1)

    @property
    def address(self) -> str:
        """The only place where it listens, or the first one."""
        return self.addresses[0]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Return when it listens."""
        ports = [address.rpartition(":")[2] for address in self.addresses]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.proofs.fakes", self._kind, str(self._directory), *ports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.addresses = [self._process.stdout.readline().decode().strip() for _ in ports]
        assert all(self.addresses), f"{self._kind} did not start"

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Gateway(Process):
    """`sluicegate run` with scanners, a list and TLS, and with what it has on disk."""

    def __init__(self, directory: Path, around: "Surroundings", workers: int) -> None:
        super().__init__(directory, around.mta.address, workers)
        self._around = around

    def configure(self, extra: str = "", port: int | None = None) -> None:
        clamd, spamd = self._around.scanners.addresses
        text = _CONFIGURATION.format(
            directory=self.directory,
            workers=self._workers,
            port=port or self.port,
            per_client=PER_CLIENT,
            max_message_size=MAX_MESSAGE_SIZE,
            scan_timeout=_SCAN_TIMEOUT,
            downstream=self._downstream,
            clamd=clamd,
            spamd=spamd,
            names=self._around.names.address,
            zone=ZONE,
        )
        self.file.write_text(text + extra)

    async def tasks(self, pid: int) -> int:
        """How many asyncio tasks a process has, by its own word in the log."""
        before = len(self.log)
        os.kill(pid, signal.SIGUSR1)
        said = re.compile(rf"{IN_HAND} .*process={pid} tasks=(\d+)")
        return int((await eventually(lambda: said.search(self.log, before)))[1])

    def records_of(self, client: str | None = None) -> list[Record]:
        """The records about one client address, or all, read without a process of their own."""
        layout = Layout(self.directory / "state")
        return search(layout.index, layout.spool, Query(client=client, limit=None))

    def content_files(self) -> list[str]:
        """Files of content, those without a name that a worker still has open among them."""
        directory = content_directory(self.directory / "state")
        held = [link for pid in self.children("smtp") for link in _open_files(pid)]
        return [*map(str, directory.iterdir()), *(link for link in held if link.startswith(f"{directory}/"))]

    def unread(self, client_port: int) -> int:
        """Octets from the client's port that the gateway's kernel has and no worker has read (proc(5))."""
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if (_port(local), _port(remote)) == (self.port, client_port):
                return int(queues.partition(":")[2], 16)
        return 0


class Surroundings:
    """The downstream, the scanners and the name server, and what one needs to speak to the gateway."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.gates = Gates(directory)
        self.mailbox = Mailbox(directory / "mailbox")
        self.mta = Daemon("mta", directory)
        self.scanners = Daemon("scanners", directory)
        self.names = Daemon("names", directory)
        authority = trustme.CA()
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
        issued.private_key_pem.write_to_path(directory / "key.pem")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for daemon in (self.mta, self.scanners, self.names):
                stack.enter_context(daemon)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()


def _open_files(pid: int) -> list[str]:
    try:
        return [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []  # gone in between


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)
