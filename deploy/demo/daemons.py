"""Private instances of clamd and spamd, and what every private daemon has in common.

Standard library only. Each is a context manager on a free loopback port with a directory of its
own, is ready when it answers in its own protocol, and takes down with it only what it started.
`stop` and `start` may be called in between, to see what others make of it; address and directory
stay the same.
"""

import abc
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self, TypeVar

# AppArmor lets Debian's clamd read configuration and signatures here and in few other places, so
# TMPDIR is not asked.
_BASE = "/tmp"

LOOPBACK = "127.0.0.1"
# In two pieces, lest a scanner on a developer's machine takes this file away.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-" rb"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
EICAR_SIGNATURE = "Eicar-Test-Signature"

T = TypeVar("T")


class DaemonError(RuntimeError):
    """A daemon did not do what it was started for; the text quotes the end of its log."""


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP what Ctrl-C is, lest private daemons outlive the program that left them."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def find_program(name: str) -> str:
    """Its path. Raises DaemonError if it is not installed."""
    # Debian keeps daemons where not everybody's PATH leads.
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise DaemonError(f"{name} is not installed; deploy/install-daemons.sh does it")
    return path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def poll(ask: Callable[[], T | None], seconds: float) -> T | None:
    """The first answer of `ask` that is not None, or None when the time is over."""
    deadline = time.monotonic() + seconds
    while (answer := ask()) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def dialogue(port: int, request: bytes, timeout: float = 2.0) -> bytes:
    """What 127.0.0.1:port sends first when told `request`; nothing where nobody answers."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout) as peer:
        peer.sendall(request)
        return peer.recv(1024)
    return b""


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for an error message."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"    {line}" for line in lines[-count:]) or "    (it logged nothing)"


class Daemon(abc.ABC):
    """What all have in common: a directory with a log in it, a start, a readiness and an end."""

    name: ClassVar[str]
    patience: ClassVar[float] = 60.0  # seconds until it must answer; a slow machine is no failure
    directory: Path

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix=f"sluicegate-{self.name}-", dir=_BASE))
        self.directory.chmod(0o755)  # daemons that drop root must get in
        try:
            self.configure()
            self.start()
        except DaemonError:
            raise  # the text names the log, so the directory stays
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.remove()

    @property
    def log(self) -> Path:
        """Where the daemon's own messages go."""
        return self.directory / "log"

    def start(self) -> None:
        """Start it and wait until it answers. Raises DaemonError, with nothing left running."""
        try:
            self.launch()
            if not poll(lambda: self.is_ready() or (False if self.has_died() else None), self.patience):
                raise DaemonError(f"{self.name} did not start; {self.log} ends:\n{last_lines(self.log)}")
        except BaseException:
            self.stop()
            raise

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.directory)

    @abc.abstractmethod
    def configure(self) -> None:
        """Write configuration into the directory."""

    @abc.abstractmethod
    def launch(self) -> None:
        """Start it without waiting."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop what was started and wait for its end; nothing to do if nothing runs."""

    @abc.abstractmethod
    def is_ready(self) -> bool | None:
        """True once it answers, else None."""

    @abc.abstractmethod
    def has_died(self) -> bool:
        """Whether waiting for it is pointless."""


class ChildDaemon(Daemon):
    """A daemon that stays in the foreground, in a process group of its own."""

    _process: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def command(self) -> Sequence[str]:
        """What to execute."""

    @property
    def pid(self) -> int:
        """The process that was started; it leads the process group."""
        if self._process is None:
            raise DaemonError(f"{self.name} is not running")
        return self._process.pid

    def launch(self) -> None:
        """Start it with its standard output and error in the log."""
        program, *arguments = self.command()
        path = find_program(program)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [path, *arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def has_died(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.poll() is not None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to the whole group for those that do not mind it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill(self) -> None:
        """SIGKILL to the whole group: the crash, for those who want to see one."""
        os.killpg(self.pid, signal.SIGKILL)
        self.stop()


class Clamd(ChildDaemon):
    """clamd that knows one signature, EICAR, raw and inside of what it unpacks."""

    name = "clamd"

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def address(self) -> str:
        """TCP, as `[filters.clamav] address` takes it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def unix_address(self) -> str:
        """The same over a Unix socket."""
        return f"unix:{self.directory}/clamd.socket"

    def configure(self) -> None:
        """One line of signatures, so that no database of hundreds of megabytes has to be there."""
        database = self.directory / "database"
        database.mkdir()
        (database / "eicar.ndb").write_text(f"{EICAR_SIGNATURE}:0:*:{EICAR.hex()}\n")
        (self.directory / "clamd.conf").write_text(
            f"DatabaseDirectory {database}\n"
            f"TemporaryDirectory {self.directory}\n"
            f"TCPSocket {self.port}\n"
            f"TCPAddr {LOOPBACK}\n"
            f"LocalSocket {self.directory}/clamd.socket\n"
            "StreamMaxLength 100M\n"
            "MaxThreads 4\n"
            "Foreground yes\n"
            f"User {pwd.getpwuid(os.getuid()).pw_name}\n"
        )

    def command(self) -> Sequence[str]:
        """In the foreground, as the configuration says."""
        return ["clamd", "--config-file", f"{self.directory}/clamd.conf"]

    def is_ready(self) -> bool | None:
        """It answers PING."""
        return dialogue(self.port, b"zPING\0") == b"PONG\0" or None


class Spamd(ChildDaemon):
    """spamd with the rules of the package, local tests only, nothing learnt and nobody's preferences."""

    name = "spamd"

    def __init__(self, children: int = 2) -> None:
        self.port = free_port()
        self._children = children

    @property
    def address(self) -> str:
        """TCP, as `[filters.spamassassin] address` takes it."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def unix_address(self) -> str:
        """The same over a Unix socket."""
        return f"unix:{self.directory}/spamd.socket"

    def configure(self) -> None:
        """A home for its helpers, which as root run as nobody."""
        home = self.directory / "home"
        home.mkdir()
        home.chmod(0o777)

    def command(self) -> Sequence[str]:
        """Both listeners; as root the children run as nobody, else as whoever started it."""
        return [
            "spamd",
            "--local",
            f"--listen={self.address}",
            f"--listen={self.directory}/spamd.socket",
            "--socketmode=666",
            "--nouser-config",
            "--cf=use_bayes 0",
            f"--max-children={self._children}",
            f"--min-children={self._children}",
            f"--max-spare={self._children}",
            f"--helper-home-dir={self.directory}/home",
            f"--pidfile={self.directory}/pid",
            "--syslog=stderr",
            *(["--username=nobody"] if os.getuid() == 0 else []),
        ]

    def is_ready(self) -> bool | None:
        """It answers PING."""
        return b" PONG" in dialogue(self.port, b"PING SPAMC/1.2\r\n\r\n") or None
