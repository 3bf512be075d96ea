"""Real clamd, spamd, Rspamd, c-icap and Postfix for the whole run, and gateways between them on demand."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from deploy.demo.c_icap import CICAP
from deploy.demo.daemons import Clamd, Spamd, interrupt_on_termination
from deploy.demo.gateway_process import Gateway
from deploy.demo.postfix import Postfix
from deploy.demo.postfix_milter import MilterPostfix
from deploy.demo.rspamd import Rspamd
from tests.fakes.mta import EXTENSIONS, FakeMTA

GatewayFactory = Callable[..., Gateway]


@pytest.fixture(scope="session", autouse=True)
def _orderly_end() -> None:
    interrupt_on_termination()


@pytest.fixture(scope="session")
def clamd() -> Iterator[Clamd]:
    with Clamd() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def spamd() -> Iterator[Spamd]:
    with Spamd() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def rspamd() -> Iterator[Rspamd]:
    with Rspamd() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def c_icap(clamd: Clamd) -> Iterator[CICAP]:
    with CICAP(clamd) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def postfix() -> Iterator[Postfix]:
    with Postfix() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def sink() -> Iterator[FakeMTA]:
    """Where `asking_postfix` delivers, octet for octet."""
    with FakeMTA(extensions=(*EXTENSIONS, "SMTPUTF8")) as mta:
        yield mta


@pytest.fixture(scope="module")
def asking_postfix(sink: FakeMTA) -> Iterator[MilterPostfix]:
    """A Postfix that asks whoever listens on its `socket`, by deploy/postfix/milter.cf."""
    with MilterPostfix(sink.address) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def start_gateway(postfix: Postfix) -> Iterator[GatewayFactory]:
    """Starts a gateway in front of the private Postfix; takes what `Gateway` takes behind `downstream`."""
    with contextlib.ExitStack() as running:

        def start(**settings: object) -> Gateway:
            return running.enter_context(Gateway(postfix.address, **settings))

        yield start
