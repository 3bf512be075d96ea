"""A private c-icap with the service virus_scan, which asks a private clamd. Standard library only."""

import grp
import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from .daemons import LOOPBACK, ChildDaemon, Clamd, DaemonError, dialogue, free_port

_MAGIC = Path("/etc/c-icap/c-icap.magic")
_LIBRARIES = Path("/usr/lib")
_OPTIONS = "OPTIONS icap://localhost/avscan ICAP/1.0\r\nHost: localhost\r\nEncapsulated: null-body=0\r\n\r\n"


class CICAP(ChildDaemon):
    """c-icap in front of `clamd`.

    Three services: `virus_scan` with the package's settings, which looks at some types of files and at
    nothing above 5 MB; `avscan`, the package's, without the limit; and `scan_all`, which looks at everything.
    """

    name = "c-icap"

    def __init__(self, clamd: Clamd) -> None:
        self.port = free_port()
        self._clamd = clamd

    @property
    def address(self) -> str:
        """TCP, as `[filters.icap] address` takes it."""
        return f"{LOOPBACK}:{self.port}"

    def configure(self) -> None:
        """Modules from where the package has put them; everything else in the directory."""
        modules = next(_LIBRARIES.glob("*/c_icap/virus_scan.so"), None)
        if modules is None:
            raise DaemonError("c-icap has no virus_scan; deploy/install-daemons.sh installs it")
        (self.directory / "c-icap.conf").write_text(
            f"PidFile {self.directory}/pid\n"
            f"CommandsSocket {self.directory}/control\n"
            f"Port {self.address}\n"
            f"User {pwd.getpwuid(os.getuid()).pw_name}\n"
            f"Group {grp.getgrgid(os.getgid()).gr_name}\n"
            "ServerName localhost\n"
            "ServerAdmin postmaster@localhost\n"
            "StartServers 1\n"
            "MaxServers 2\n"
            "ThreadsPerChild 20\n"
            "MinSpareThreads 5\n"
            "MaxSpareThreads 30\n"
            f"TmpDir {self.directory}\n"
            f"ModulesDir {modules.parent}\n"
            f"ServicesDir {modules.parent}\n"
            "TemplateDir /usr/share/c_icap/templates/\n"
            f"LoadMagicFile {_MAGIC}\n"
            f"ServerLog {self.log}\n"
            f"AccessLog {self.directory}/access.log\n"
            "Module common clamd_mod.so\n"
            f"clamd_mod.ClamdSocket {self._clamd.unix_address.removeprefix('unix:')}\n"
            "Service antivirus virus_scan.so\n"
            "ServiceAlias avscan virus_scan?allow204=on&sizelimit=off&mode=simple\n"
            "ServiceAlias scan_all virus_scan?allow204=on&sizelimit=off&mode=simple&force=on\n"
            "virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE\n"
            "virus_scan.MaxObjectSize 5M\n"
            "virus_scan.DefaultEngine clamd\n"
        )

    def command(self) -> Sequence[str]:
        """In the foreground."""
        return ["c-icap", "-N", "-f", f"{self.directory}/c-icap.conf"]

    def is_ready(self) -> bool | None:
        """It answers OPTIONS."""
        return dialogue(self.port, _OPTIONS.encode()).startswith(b"ICAP/1.0 200 ") or None
