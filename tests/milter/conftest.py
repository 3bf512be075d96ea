"""One gateway for most tests, with scanners that the tests order about."""

from collections.abc import Iterator
from typing import TypeVar

import pytest

from filters.testing.server import FakeServer
from tests.fakes.clamd import FakeClamd
from tests.fakes.rspamd import FakeRspamd
from tests.fakes.spamd import FakeSpamd
from tests.milter.asked import ORDER, Asked

T = TypeVar("T", bound=FakeServer)
_SCANNERS = """
[policies.blocked_clients]
clients = ["203.0.113.0/24"]
[policies.blocked_senders]
senders = ["@junk.example"]
[policies.blocked_recipients]
recipients = ["nobody@our.example"]
[policies.breaks_and_accepts]
on_error = "accept"
[policies.breaks_and_rejects]
on_error = "reject"
[[profile]]
recipients = ["other@our.example"]
[profile.policies.at_end]
mode = "warn"
[filters.spamassassin]
address = "{spamd}"
unavailable = "accept"
[filters.clamav]
address = "{clamd}"
[filters.rspamd]
address = "{rspamd}"
unavailable = "reject"
"""
_BLOCKING = ("blocked_clients", "blocked_senders", "blocked_recipients")
_BREAKING = ("breaks_and_defers", "breaks_and_accepts", "breaks_and_rejects")
_NEEDING = ("needs_spamd", "needs_clamd", "needs_rspamd")


@pytest.fixture(scope="session")
def _scanners() -> Iterator[tuple[FakeSpamd, FakeClamd, FakeRspamd]]:
    with FakeSpamd() as spamd, FakeClamd() as clamd, FakeRspamd() as rspamd:
        yield spamd, clamd, rspamd


@pytest.fixture(scope="session")
def _shared(_scanners: tuple[FakeServer, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    spamd, clamd, rspamd = _scanners
    more = _SCANNERS.format(spamd=spamd.address, clamd=clamd.address, rspamd=rspamd.address)
    limits = "max_message_size = 2097152\nmax_spool_size = 4194304\n"
    order = (*_BLOCKING, *ORDER, *_BREAKING, *_NEEDING)
    with Asked(tmp_path_factory.mktemp("asked"), gateway=limits, more=more, order=order) as running:
        yield running


@pytest.fixture
def asked(_shared: Asked) -> Asked:
    """A gateway with spamd, clamd and Rspamd behind it; the same process for all tests."""
    return _shared.renewed()


@pytest.fixture
def spamd(_scanners: tuple[FakeSpamd, FakeClamd, FakeRspamd]) -> Iterator[FakeSpamd]:
    yield from _lent(_scanners[0])


@pytest.fixture
def clamd(_scanners: tuple[FakeSpamd, FakeClamd, FakeRspamd]) -> Iterator[FakeClamd]:
    yield from _lent(_scanners[1])


@pytest.fixture
def rspamd(_scanners: tuple[FakeSpamd, FakeClamd, FakeRspamd]) -> Iterator[FakeRspamd]:
    yield from _lent(_scanners[2])


def _lent(fake: T) -> Iterator[T]:
    usual = fake.behaviour
    yield fake
    fake.behaviour = usual
