"""The milters that are compared, the scanners behind them, and the one Postfix that asks them all.

Everything is private: directories of their own, free loopback ports, no system service and nobody's
configuration in /etc.
"""

import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.daemons import EICAR, LOOPBACK, ChildDaemon, Clamd, Spamd, dialogue, free_port
from deploy.demo.gateway_process import Gateway, clamav, spamassassin
from deploy.demo.postfix import Postfix

# In two pieces, lest somebody's filter takes this file for spam.
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
_REJECT_SCORE = 8  # the default of the gateway's policy `spam`

_GATEWAY = """\
[gateway]
hostname = "mx.example.com"
state_directory = "{directory}/state"
workers = {workers}

[[listener]]
protocol = "milter"
address = "unix:{socket}"
socket_mode = "666"

{filters}
[policies]
order = [{order}]
"""

_CLAMAV_MILTER = """\
MilterSocket unix:{socket}
MilterSocketMode 666
ClamdSocket tcp:{clamd}
User {user}
TemporaryDirectory {directory}
Foreground yes
OnInfected Reject
AddHeader Replace
MaxFileSize 25M
"""


class QuickScanners(ChildDaemon):
    """The two of `quick_scanners` in one process."""

    name = "quick-scanners"

    def __init__(self) -> None:
        self.clamd_port, self.spamd_port = free_port(), free_port()

    def configure(self) -> None:
        """It has no configuration."""

    def command(self) -> Sequence[str]:
        """By the interpreter that runs this."""
        clamd, spamd = [str(self.clamd_port), EICAR.decode()], [str(self.spamd_port), GTUBE.decode()]
        return [*_script("quick_scanners.py"), *clamd, *spamd]

    def is_ready(self) -> bool | None:
        """The second answers; the first listens before it."""
        return b" PONG" in dialogue(self.spamd_port, b"PING SPAMC/1.2\r\n\r\n") or None


class Milter(ChildDaemon):
    """What listens on a Unix socket in its directory, which every user may connect to."""

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "milter"

    def is_ready(self) -> bool | None:
        """The socket is there; who is early waits in its backlog."""
        if not self.socket.is_socket():
            return None
        self.socket.chmod(0o666)
        return True


class BareMilter(Milter):
    """pymilter that lets everything pass."""

    name = "bare-milter"

    def configure(self) -> None:
        """It has no configuration."""

    def command(self) -> Sequence[str]:
        """By the interpreter that runs this."""
        return [*_script("bare_milter.py"), str(self.socket)]


class ClamavMilter(Milter):
    """ClamAV's, which refuses what is infected and adds its header fields, as Debian configures it."""

    name = "clamav-milter"

    def __init__(self, clamd_port: int) -> None:
        self._clamd = f"{LOOPBACK}:{clamd_port}"

    def configure(self) -> None:
        """Its own configuration file."""
        user = pwd.getpwuid(os.getuid()).pw_name
        text = _CLAMAV_MILTER.format(
            socket=self.socket, clamd=self._clamd, user=user, directory=self.directory
        )
        (self.directory / "clamav-milter.conf").write_text(text)

    def command(self) -> Sequence[str]:
        """In the foreground, as the configuration says."""
        return ["clamav-milter", "--config-file", f"{self.directory}/clamav-milter.conf"]


class SpamassMilter(Milter):
    """SpamAssassin's for sendmail, with a spamc for each message; it rejects, and leaves bodies alone."""

    name = "spamass-milter"

    def __init__(self, spamd_port: int) -> None:
        self._port = spamd_port

    def configure(self) -> None:
        """All of it is on the command line."""

    def command(self) -> Sequence[str]:
        """Behind `--` stands what spamc is told."""
        reject = ["-m", "-r", str(_REJECT_SCORE)]
        return [
            "spamass-milter",
            "-p",
            str(self.socket),
            *reject,
            "--",
            "-d",
            LOOPBACK,
            "-p",
            str(self._port),
        ]


class MilterGateway(Gateway):
    """The gateway with one milter listener and no relay."""

    def __init__(self, filters: Sequence[str], order: Sequence[str], workers: int = 1) -> None:
        super().__init__("", filters, order, workers)
        self._text = {
            "filters": "\n".join(filters),
            "order": ", ".join(f'"{policy}"' for policy in order),
            "workers": workers,
        }

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / "milter"

    def configure(self) -> None:
        """Write the configuration file."""
        (self.directory / "state").mkdir()
        text = _GATEWAY.format(directory=self.directory, socket=self.socket, **self._text)
        self.configuration.write_text(text)


def _script(name: str) -> list[str]:
    """A file beside this one, which sees none of its neighbours."""
    return [sys.executable, "-P", str(Path(__file__).with_name(name))]


class AskingPostfix(Postfix):
    """One smtpd for each contestant, on a port of its own; what was accepted is thrown away."""

    def __init__(self, milters: Sequence[Sequence[Path]]) -> None:
        super().__init__()
        self.ports = [free_port() for _ in milters]
        self.services = [
            f"{LOOPBACK}:{port} inet n - n - - smtpd -o {{ smtpd_milters = {_names(sockets)} }}"
            for port, sockets in zip(self.ports, milters, strict=True)
        ]
        self.services += ["discard unix - - n - - discard"]

    def configure(self) -> None:
        """And no mailboxes: delivery is nothing that milters have to do with."""
        super().configure()
        with (self.directory / "config/main.cf").open("a") as main_cf:
            main_cf.write("virtual_transport = discard:\nmilter_default_action = tempfail\n")

    @property
    def pid(self) -> int:
        """The master, which leads the process group."""
        return int((self.directory / "queue/pid/master.pid").read_text())


def _names(sockets: Sequence[Path]) -> str:
    return ", ".join(f"unix:{socket}" for socket in sockets)


@dataclass(frozen=True)
class Contestant:
    """One way to have mail judged, by the port that leads there and the process groups that work for it.

    `beside` is the contestant that does the same job, for the ratio.
    """

    name: str
    port: int
    milters: Sequence[int]
    finds: frozenset[str] = frozenset()
    beside: str = ""


@dataclass(frozen=True)
class Arena:
    """All that runs: the contestants, the groups of the scanners, and Postfix's."""

    contestants: Sequence[Contestant]
    scanners: Sequence[int]
    postfix: int


NOBODY, BARE = "no milter", "pymilter that does nothing"


@contextmanager
def arena(workers: int, is_quick: bool) -> Iterator[Arena]:
    """Start everything, with quick scanners or with real ones. Raises DaemonError."""
    with ExitStack() as running:
        scanners, clamd_port, spamd_port = _scanners(running, is_quick)
        clamd, spamd = clamav(f"{LOOPBACK}:{clamd_port}"), spamassassin(f"{LOOPBACK}:{spamd_port}")
        clamav_milter, spamass_milter = ClamavMilter(clamd_port), SpamassMilter(spamd_port)
        virus, spam = frozenset({"virus"}), frozenset({"spam"})
        line_up: list[tuple[str, list[Milter | MilterGateway], frozenset[str], str]] = [
            (NOBODY, [], frozenset(), ""),
            (BARE, [BareMilter()], frozenset(), ""),
            ("clamav-milter", [clamav_milter], virus, ""),
            ("Sluicegate, ClamAV", [MilterGateway([clamd], ["virus"], workers)], virus, "clamav-milter"),
            ("spamass-milter", [spamass_milter], spam, ""),
            ("Sluicegate, SpamAssassin", [MilterGateway([spamd], ["spam"], workers)], spam, "spamass-milter"),
            ("clamav-milter, spamass-milter", [clamav_milter, spamass_milter], virus | spam, ""),
            (
                "Sluicegate, both",
                [MilterGateway([clamd, spamd], ["virus", "spam"], workers)],
                virus | spam,
                "clamav-milter, spamass-milter",
            ),
        ]
        for daemon in dict.fromkeys(daemon for _, daemons, _, _ in line_up for daemon in daemons):
            running.enter_context(daemon)
        postfix = AskingPostfix([[daemon.socket for daemon in daemons] for _, daemons, _, _ in line_up])
        running.enter_context(postfix)
        contestants = [
            Contestant(name, port, [daemon.pid for daemon in daemons], finds, beside)
            for (name, daemons, finds, beside), port in zip(line_up, postfix.ports, strict=True)
        ]
        yield Arena(contestants, scanners, postfix.pid)


def _scanners(running: ExitStack, is_quick: bool) -> tuple[list[int], int, int]:
    if is_quick:
        quick = running.enter_context(QuickScanners())
        return [quick.pid], quick.clamd_port, quick.spamd_port
    clamd, spamd = running.enter_context(Clamd()), running.enter_context(Spamd())
    return [clamd.pid, spamd.pid], clamd.port, spamd.port
