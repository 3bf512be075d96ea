"""Gateways and MTAs in the test's own process."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.proxy.certificate import Certificate
from tests.fakes.mta import FakeMTA
from tests.proxy.running import RunningGateway, check_promises, destination

GatewayStarter = Callable[..., Awaitable[RunningGateway]]


@pytest.fixture
async def mta() -> AsyncIterator[FakeMTA]:
    """A correct downstream, unless the test changes its `script`."""
    async with FakeMTA() as fake:
        yield fake


@pytest.fixture
async def start_gateway(mta: FakeMTA, tmp_path: Path) -> AsyncIterator[GatewayStarter]:
    """Starts gateways in front of `mta`; takes what `RunningGateway` takes behind `directory`."""
    running: list[RunningGateway] = []

    async def start(destinations: Sequence[Any] = (), **settings: Any) -> RunningGateway:
        gateway = RunningGateway(tmp_path, destinations or [destination(mta.address)], **settings)
        await gateway.start()
        running.append(gateway)
        return gateway

    yield start
    with contextlib.ExitStack() as checks:
        for gateway in running:
            await gateway.stop()
            checks.callback(check_promises, gateway, mta)
    # A closed transport gives its socket back one turn of the loop later.
    await asyncio.sleep(0)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """What a client has that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Certificate:
    return issue(authority, tmp_path)


def issue(authority: trustme.CA, directory: Path, host: str = "localhost") -> Certificate:
    issued = authority.issue_cert(host)
    issued.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
    issued.private_key_pem.write_to_path(directory / "key.pem")
    return Certificate(directory / "certificate.pem", directory / "key.pem")
