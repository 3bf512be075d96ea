"""A private Postfix that asks a milter about every message, with the settings of deploy/postfix/milter.cf.

Standard library only. Whatever else these settings need is here: the directory of the socket, and where mail
goes.
"""

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .daemons import LOOPBACK, free_port
from .postfix import Postfix

MILTER_CF = Path(__file__).parents[1] / "postfix" / "milter.cf"

# Instead of mailboxes. Nothing is folded or converted on the way.
_RELAY = """
virtual_mailbox_domains =
virtual_mailbox_maps =
relay_domains = example.com
relay_recipient_maps = inline:{{ {recipients} }}
relay_transport = smtp:[{host}]:{port}
smtp_line_length_limit = 0
"""


class MilterPostfix(Postfix):
    """Its smtpd asks whoever listens on `socket`, which may come and go while it runs.

    Unknown users and other domains are refused before a milter hears of them. Mail goes into mailboxes, or
    to the MTA at `sink` (`127.0.0.1:port`). At `confined_port` is an smtpd in its chroot, as on Debian.
    """

    def __init__(self, sink: str | None = None, passwords: Mapping[str, str] | None = None) -> None:
        super().__init__(passwords)
        self.confined_port = free_port()
        self.services = [f"{LOOPBACK}:{self.confined_port} inet n - y - - smtpd"]
        self.settings = MILTER_CF.read_text(encoding="utf-8")
        if sink is not None:
            self._relay_to(*sink.rsplit(":", 1))

    @property
    def socket(self) -> Path:
        """Where the milter has to listen; its group is Postfix's, which must have permission to write."""
        return self.directory / "queue/sluicegate/milter"

    def configure(self) -> None:
        """And the directory of the socket, as milter.cf says."""
        super().configure()
        owner = ["-o", getpass.getuser(), "-g", "postfix", "-m", "2750"]
        self._as_root("install", "-d", *owner, str(self.socket.parent))

    def held(self) -> list[dict[str, Any]]:
        """What is in the hold queue: postqueue's objects, one a message."""
        return [message for message in self.queue() if message["queue_name"] == "hold"]

    def release(self, queue_id: str, option: str = "-H") -> None:
        """Let go what is held: `-H` on its way at once, or `-r` once more through cleanup, by pickup."""
        configuration = ["-c", f"{self.directory}/config"]
        self._as_root("postsuper", *configuration, option, queue_id)
        self._as_root("postqueue", *configuration, "-f")

    def _relay_to(self, host: str, port: str) -> None:
        recipients = ", ".join(f"{{ {user}@example.com = OK }}" for user in self.users)
        self.settings += _RELAY.format(recipients=recipients, host=host, port=port)
        self.services = [*self.services, "smtp unix - - n - - smtp"]
