"""A private Postfix, the MTA behind the gateway: its own configuration, queue and mailboxes.

Standard library only. /etc/postfix is not read and not written. The master process must be started
by root: others need sudo.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .daemons import LOOPBACK, Daemon, DaemonError, dialogue, find_program, free_port, last_lines, poll

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = downstream.example.com
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
in_flow_delay = 0
# Messages are told apart by their queue IDs, and short ones come again.
enable_long_queue_ids = yes
message_size_limit = 104857600
mailbox_size_limit = 0

# What is delivered is what arrived: no completed addresses, no added fields.
local_header_rewrite_clients =
virtual_mailbox_domains = example.com
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_mailbox_limit = 0
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}

smtpd_relay_restrictions = {trusted} reject_unauth_destination
smtpd_authorized_xforward_hosts = 127.0.0.0/8
# The gateway is a local client, and those are excused by default from the check against smuggling.
smtpd_forbid_bare_newline = yes
smtpd_forbid_bare_newline_exclusions =
"""

_LOGINS = """
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = example.com
smtpd_sasl_authenticated_header = yes
"""

_SASL_CONF = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {directory}/config/sasl/passwords
mech_list: PLAIN LOGIN CRAM-MD5 DIGEST-MD5
"""

_PARAMETER = re.compile(r"(?m)^(\w+) *=")

_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Daemon):
    """Mailboxes in example.com for `users`; unknown users and other domains are refused at RCPT.

    With `passwords`, by login name, clients may log in; who does may send mail anywhere, and is named in
    the message.
    `services` are further lines of master.cf, and `settings` of main.cf, where they take the place of what is
    there already; for whoever sets them before it starts.
    """

    name = "postfix"
    users = ("a", "b", "postmaster")

    def __init__(self, passwords: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self._passwords = passwords or {}
        self.services: Sequence[str] = ()
        self.settings = ""
        self._may_run = False
        # virtual(8) delivers for no user ID below 100, so root takes nobody's.
        self._uid, self._gid = (65534, 65534) if os.getuid() == 0 else (os.getuid(), os.getgid())

    @property
    def address(self) -> str:
        """As `[[relay]] address` takes it."""
        return f"{LOOPBACK}:{self.port}"

    def configure(self) -> None:
        """main.cf and master.cf; queue and data directories are completed by Postfix itself."""
        mailboxes = ", ".join(f"{{ {user}@example.com = {user}/ }}" for user in self.users)
        for name in ("config", "queue", "mail"):
            (self.directory / name).mkdir(mode=0o755)
        os.chown(self.directory / "mail", self._uid, self._gid)
        main_cf = _MAIN_CF.format(
            directory=self.directory,
            mailboxes=mailboxes,
            uid=self._uid,
            gid=self._gid,
            trusted="permit_sasl_authenticated" if self._passwords else "",
        )
        main_cf += _LOGINS if self._passwords else ""
        (self.directory / "config/main.cf").write_text(_settle(main_cf, self.settings))
        (self.directory / "config/master.cf").write_text(
            "\n".join([_MASTER_CF.format(port=self.port), *self.services, ""])
        )
        if self._passwords:
            self._configure_logins()

    def _configure_logins(self) -> None:
        """Cyrus SASL, where Debian's Postfix looks for it; /etc/sasldb2 is not touched."""
        sasl = self.directory / "config/sasl"
        sasl.mkdir(mode=0o755)
        (sasl / "smtpd.conf").write_text(_SASL_CONF.format(directory=self.directory))
        database = sasl / "passwords"
        add = [find_program("saslpasswd2"), "-p", "-c", "-f", str(database), "-u", "example.com"]
        for user, password in self._passwords.items():
            subprocess.run([*add, user], input=password, text=True, capture_output=True, check=True)
        database.chmod(0o644)  # smtpd does not run as root

    def launch(self) -> None:
        """`postfix start`, which completes the directories, checks, and returns when the master runs."""
        self._may_run = True
        started = self._postfix("start")
        if started.returncode != 0:
            raise DaemonError(f"postfix did not start: {started.stderr.strip() or last_lines(self.log)}")

    def stop(self) -> None:
        """`postfix stop`, which waits, and takes the whole process group with it."""
        if self._may_run:
            self._postfix("stop")
            self._may_run = False

    def remove(self) -> None:
        """Most of the directory belongs to root and to Postfix."""
        self._as_root("rm", "-rf", str(self.directory))

    def is_ready(self) -> bool | None:
        """It greets."""
        return dialogue(self.port, b"").startswith(b"220 ") or None

    def has_died(self) -> bool:
        """Never between `start`, which has waited for the master already, and the greeting."""
        return False

    def delivered(self) -> list[bytes]:
        """The messages in all mailboxes, oldest first, lines ending in CRLF again."""
        files = sorted(self._mail_files(), key=lambda file: file.stat().st_mtime_ns)
        return [file.read_bytes().replace(b"\n", b"\r\n") for file in files]

    def message(self, queue_id: str, seconds: float = 30.0) -> bytes:
        """The delivered message of this queue ID, waited for. Raises DaemonError if it never comes."""
        trace = re.compile(rb"\bid %s\b" % queue_id.encode())

        def find() -> Path | None:
            return next((file for file in self._mail_files() if trace.search(_beginning(file))), None)

        file = poll(find, seconds)
        if file is None:
            raise DaemonError(f"{queue_id} was not delivered:\n{last_lines(self.log)}")
        return file.read_bytes().replace(b"\n", b"\r\n")

    def queue(self) -> list[dict[str, Any]]:
        """What is still in the queue: postqueue's objects, one a message."""
        lines = self._as_root("postqueue", "-c", f"{self.directory}/config", "-j").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def _mail_files(self) -> list[Path]:
        return list(self.directory.glob("mail/*/new/*"))

    def _postfix(self, command: str) -> subprocess.CompletedProcess[str]:
        return self._as_root("postfix", "-c", f"{self.directory}/config", command)

    def _as_root(self, *command: str) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(
            [*_sudo(), find_program(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                output, errors = process.communicate()
            except BaseException:
                process.wait()  # half a start could not be stopped
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _settle(main_cf: str, settings: str) -> str:
    """Both, each parameter once: Postfix warns of others."""
    later = set(_PARAMETER.findall(settings))
    lines = [line for line in main_cf.splitlines() if not (set(_PARAMETER.findall(line)) & later)]
    return "\n".join([*lines, settings])


def _beginning(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(4096)


def _sudo() -> list[str]:
    if os.getuid() == 0:
        return []
    if shutil.which("sudo") is None:
        raise DaemonError("Postfix must be started by root: run this as root, or install sudo")
    # Asking for a password makes sense only where somebody can type it.
    return ["sudo"] if sys.stdin.isatty() else ["sudo", "--non-interactive"]
