"""What real scanners say of the messages of an archive, kept in a file of JSON lines.

spamd and Rspamd are private instances that look at the message alone: rules that would ask the network
have no say. Each message is judged by the filters as in the gateway, and what they found is written down
at once, so that an interrupted run goes on where it was. Decides nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from deploy.demo import rspamd as daemon
from deploy.demo.daemons import Spamd
from filters.base import TooLarge
from filters.evidence import Finding, RspamdReport, SpamReport
from filters.rspamd import Rspamd
from filters.spamassassin import SpamAssassin

from .archive import Sample

# Few, so that the machine stays usable; a message waits for its scanners longer than for anything else.
_AT_A_TIME = 4
_PATIENCE = 300.0
_WITHOUT_WEIGHT = {
    "headers": ("DATE_IN_PAST", "RDNS_NONE", "RDNS_DNSFAIL"),
    "hfilter": (
        *("HFILTER_HELO_NORESOLVE_MX", "HFILTER_HELO_NORES_A_OR_MX", "HFILTER_HELO_IP_A"),
        *("HFILTER_FROMHOST_NORESOLVE_MX", "HFILTER_FROMHOST_NORES_A_OR_MX"),
    ),
}

F = TypeVar("F", bound=Finding)


class RspamdDaemon(daemon.Rspamd):
    """The private Rspamd, with its rules about greetings as well.

    The weights are the package's, but for symbols that would need a name server, and for the one that only
    says how old an archive is. Everything gets HFILTER_HOSTNAME_UNKNOWN, as it does from the gateway.
    """

    name = "rspamd"

    def configure(self) -> None:
        """What is turned off by default is turned on again, and the symbols are given no weight."""
        super().configure()
        local = self.directory / "local.d"
        (local / "hfilter.conf").unlink()
        for group, symbols in _WITHOUT_WEIGHT.items():
            weights = " ".join(f'"{symbol}" {{ weight = 0.0; }}' for symbol in symbols)
            (local / f"{group}_group.conf").write_text(f"symbols {{ {weights} }}\n")


class Scan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the scanners found in one message; `None` where one was not asked or did not answer."""

    message: str
    digest: str
    spamassassin: SpamReport | None = None
    rspamd: RspamdReport | None = None

    @property
    def findings(self) -> list[Finding]:
        """As evidence."""
        return [found for found in (self.spamassassin, self.rspamd) if found is not None]


class Cache:
    """Scans by the name and the digest of the message, in a file or, without one, in memory."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._scans: dict[tuple[str, str], Scan] = {}
        if file is not None and file.exists():
            for line in file.read_bytes().splitlines():
                self._keep(msgspec.json.decode(line, type=Scan))

    def get(self, sample: Sample) -> Scan | None:
        """What is known of that message."""
        return self._scans.get((sample.name, sample.transaction().message.digest))

    def add(self, scan: Scan) -> None:
        """Keep it, and write it down."""
        self._keep(scan)
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(msgspec.json.encode(scan) + b"\n")

    def _keep(self, scan: Scan) -> None:
        self._scans[scan.message, scan.digest] = scan


@contextlib.contextmanager
def scanners() -> Iterator[tuple[SpamAssassin, Rspamd]]:
    """The two filters, with a private daemon behind each."""
    with Spamd() as spamd, RspamdDaemon() as rspamd:
        filters = SpamAssassin(address=spamd.address), Rspamd(address=rspamd.address)
        for each in filters:
            each.timeout = _PATIENCE
        yield filters


async def scan(
    samples: Sequence[Sample],
    filters: tuple[SpamAssassin, Rspamd],
    cache: Cache,
    progress: Callable[[int], object],
) -> None:
    """Have the samples judged, a few at a time; `progress` is told of each.

    Raises FilterError where a scanner does not answer.
    """
    slots = asyncio.Semaphore(_AT_A_TIME)
    spamassassin, rspamd = filters

    async def scan_one(sample: Sample) -> None:
        async with slots:
            tx = sample.transaction()
            found = await asyncio.gather(_found(spamassassin.find(tx)), _found(rspamd.find(tx)))
        cache.add(Scan(sample.name, tx.message.digest, *found))
        progress(1)

    await asyncio.gather(*map(scan_one, samples))


async def _found(finding: Awaitable[F]) -> F | None:
    with contextlib.suppress(TooLarge):
        return await finding
    return None
