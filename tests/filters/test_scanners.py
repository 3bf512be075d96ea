"""The contract of a filter, kept by those that ask a daemon; what is left is what only ours promise."""

import pytest

from filters import backend
from filters.base import Filter, FilterError
from filters.clamav import ClamAV
from filters.evidence import RspamdReport, SpamReport, VirusReport
from filters.icap import ICAP
from filters.rspamd import Rspamd
from filters.spamassassin import SpamAssassin
from filters.testing import BlackHole, Nobody, ProbeContract, ScannerContract
from tests.fakes import clamd, icap, rspamd, spamd

MAX_SIZE = 100_000_000


class OurScanner(ScannerContract, ProbeContract):
    """What `filters.backend` adds."""

    async def test_a_refused_connection_is_said_in_few_words(self) -> None:
        with Nobody() as nobody, pytest.raises(FilterError, match=f"^{nobody.address}: connection refused$"):
            await self.at(nobody.address).find(self.transaction())

    async def test_a_missing_socket_is_an_error(self) -> None:
        with pytest.raises(FilterError, match=r"^unix:/does/not/exist: no such file or directory$"):
            await self.at("unix:/does/not/exist").find(self.transaction())

    async def test_an_address_that_takes_no_connection_is_passed_over(self, monkeypatch) -> None:
        monkeypatch.setattr(backend, "CONNECT_TIMEOUT", 0.05)
        with BlackHole() as hole, Nobody() as nobody:
            async with self.daemon() as good:
                asked = self.at([hole.address, nobody.address, good.address])
                assert await asked.find(self.transaction()) == self.finding


class TestClamAV(OurScanner):
    finding = VirusReport()
    converse = staticmethod(clamd.scan)

    def build(self, address: str | list[str]) -> Filter:
        return ClamAV(address=address, max_size=MAX_SIZE)


class TestSpamAssassin(OurScanner):
    finding = SpamReport(0.0, 5.0, ("NO_RECEIVED",))
    converse = staticmethod(spamd.judge)
    early_answers_count = True

    def build(self, address: str | list[str]) -> Filter:
        return SpamAssassin(address=address, max_size=MAX_SIZE)


class TestRspamd(OurScanner):
    finding = RspamdReport(0.0, 15.0, "no action", ("MIME_TRACE",))
    converse = staticmethod(rspamd.judge)

    def build(self, address: str | list[str]) -> Filter:
        return Rspamd(address=address, max_size=MAX_SIZE)


class TestICAP(OurScanner):
    finding = VirusReport()
    converse = staticmethod(icap.scan)

    def build(self, address: str | list[str]) -> Filter:
        return ICAP(address=address, service="avscan", max_size=MAX_SIZE)
