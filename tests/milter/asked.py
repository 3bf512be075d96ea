"""`sluicegate run` for an MTA that asks, and policies that do what the mail itself orders.

The policy of each stage obeys a word (`_obey`): at connect the one that belongs to the client's address
(`WORDS`), at HELO the first label of the name, at MAIL and RCPT the local part. At the end of data it
evaluates the field X-Order, in which everything of `policies` can be used.
"""

import json
import uuid
from pathlib import Path
from typing import Any, Self

from gateway.journal.layout import Layout
from gateway.journal.search import Query, search_lines
from tests.fakes.milter_mta import MTA, Response
from tests.supervisor.process import Process, free_port
from tests.waiting import eventually

HOSTNAME = "mx.our.example"
A, B, C = b"<a@example.net>", b"<b@our.example>", b"<c@our.example>"
PLAIN = b"From: a@example.net\r\nSubject: x\r\n\r\nHello\r\n"
WORDS = {
    "192.0.2.50": "refused",
    "192.0.2.40": "deferred",
    "192.0.2.20": "accepted",
    "192.0.2.90": "broken",
    "192.0.2.80": "loops",
}
_POLICIES = f"""
from policies import *
from filters.evidence import *

WORDS = {WORDS!r}

def _obey(word):
    match word:
        case "refused":
            return reject("told-so", text="No, 100% no")
        case "deferred":
            return tempfail("told-so")
        case "accepted":
            return accept("told-so")
        case "exempt":
            return accept("told-so", exempt_from=["at_end"])
        case "sent-on":
            return redirect("target@our.example")
        case "broken":
            raise ValueError("told so")
        case "loops":
            while True:
                pass

@policy(at=Stage.CONNECT)
def at_connect(tx, evidence):
    return _obey(WORDS.get(str(tx.session.client_address)))

@policy(at=Stage.HELO)
def at_helo(tx, evidence):
    return _obey(tx.session.helo_name.partition(".")[0])

@policy(at=Stage.MAIL)
def at_mail(tx, evidence):
    return _obey(tx.envelope.reverse_path.local_part)

@policy(at=Stage.RCPT)
def at_rcpt(tx, evidence):
    return _obey(tx.envelope.recipient.local_part)

@policy(at=Stage.END_OF_DATA)
def at_end(tx, evidence):
    order = tx.message.header("X-Order")
    return eval(order, globals()) if order else None

@policy(at=Stage.END_OF_DATA)
def breaks_and_defers(tx, evidence):
    _break(tx, "tempfail")

@policy(at=Stage.END_OF_DATA)
def breaks_and_accepts(tx, evidence):
    _break(tx, "accept")

@policy(at=Stage.END_OF_DATA)
def breaks_and_rejects(tx, evidence):
    _break(tx, "reject")

def _break(tx, word):
    if tx.message.header("X-Break") == word:
        raise ValueError("told so")

@policy(at=Stage.END_OF_DATA, needs=[SpamReport])
def needs_spamd(tx, evidence):
    return None

@policy(at=Stage.END_OF_DATA, needs=[VirusReport])
def needs_clamd(tx, evidence):
    return None

@policy(at=Stage.END_OF_DATA, needs=[RspamdReport])
def needs_rspamd(tx, evidence):
    return None
"""
ORDER = ("at_connect", "at_helo", "at_mail", "recipients", "at_rcpt", "at_end")


class Asked(Process):
    """One listener, a milter's: on a Unix socket, or on 127.0.0.1 with `is_tcp`.

    `gateway` are keys of that section, `more` further sections, `order` the policies.
    """

    def __init__(
        self,
        directory: Path,
        *,
        gateway: str = "",
        more: str = "",
        order: tuple[str, ...] = ORDER,
        workers: int = 1,
        is_tcp: bool = False,
    ) -> None:
        super().__init__(directory, "", workers)
        self.gateway = gateway
        self.extra = more
        self.order = list(order)
        self.address: Path | tuple[str, int] = directory / "milter"
        if is_tcp:
            self.address = ("127.0.0.1", free_port())
        self._seen = 0

    def configure(self, extra: str = "", port: int | None = None) -> None:
        """Write the configuration file, and the policies."""
        plugins = self.directory / "policies"
        plugins.mkdir(exist_ok=True)
        (plugins / "orders.py").write_text(_POLICIES)
        self.file.write_text(
            f'[gateway]\nhostname = "{HOSTNAME}"\nstate_directory = "{self.directory}/state"\n'
            f"workers = {self._workers}\n{self.gateway}\n"
            f'[[listener]]\nprotocol = "milter"\naddress = "{self.listening_on}"\n'
            f'[policies]\ndirectory = "{plugins}"\norder = {json.dumps(self.order)}\n{extra}'
        )

    @property
    def listening_on(self) -> str:
        """As the configuration and the records have it."""
        if isinstance(self.address, tuple):
            return "{}:{}".format(*self.address)
        return f"unix:{self.address}"

    @property
    def worker(self) -> int:
        """The only process of the role."""
        (pid,) = self.children("milter")
        return pid

    def mta(self, **options: Any) -> Any:
        """An MTA that is connected, as `async with`."""
        return MTA.connect(self.address, **options)

    def renewed(self) -> Self:
        """The same, for another test: what was recorded so far is no concern of it."""
        self._seen = len(self._all())
        return self

    async def recorded(self, count: int = 1) -> list[dict[str, Any]]:
        """All records of this test, once there are so many, and not more."""
        await eventually(lambda: len(self._all()) >= self._seen + count, 30)
        found = self._all()[self._seen :]
        assert len(found) == count, found
        return found

    async def record(self) -> dict[str, Any]:
        """The only one."""
        (found,) = await self.recorded()
        return found

    def _all(self) -> list[dict[str, Any]]:
        layout = Layout(self.directory / "state")
        lines = search_lines(layout.index, layout.spool, Query(limit=None))
        return [json.loads(line) for line in lines]


async def deliver(mta: MTA, content: bytes = PLAIN, *recipients: bytes, sender: bytes = A) -> Response:
    """A whole message that nobody refuses before its end, for B where nobody is named."""
    begun = await mta.mail(sender)
    assert begun.goes_on, begun
    for recipient in recipients or (B,):
        assert (await mta.rcpt(recipient)).is_continue
    return await mta.message(content)


STATES = ("connected", "mail", "rcpt", "data", "header", "eoh", "body")


async def up_to(mta: MTA, state: str) -> None:
    """A transaction that has got so far, and no further."""
    steps = [
        lambda: mta.mail(A),
        lambda: mta.rcpt(B),
        mta.data,
        lambda: mta.header(b"Subject", b" x"),
        mta.eoh,
        lambda: mta.body(b"x" * 1000),
    ]
    for step in steps[: STATES.index(state)]:
        assert (await step()).goes_on


def order(what: str, *fields: str) -> bytes:
    """A message with an order to the policy of the end of data, and further fields behind it."""
    header = "".join(f"{field}\r\n" for field in (f"X-Order: {what}", *fields, "Subject: x"))
    return f"{header}\r\nHello\r\n".encode()


def unseen(*fields: str) -> bytes:
    """A message that no scanner remembers."""
    return order("None", f"Message-ID: <{uuid.uuid4()}@example.net>", *fields)


def brief(record: dict[str, Any], *keys: str) -> tuple[Any, ...]:
    """What became of it: verdict, stage, spoken, reason, and further keys."""
    return tuple(record[key] for key in ("verdict", "stage", "spoken", "reason", *keys))
