"""What tests of several folders have around them: a downstream, a gateway before it, a certificate."""

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from gateway.proxy.certificate import Certificate
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process


@pytest.fixture
async def mta() -> AsyncIterator[FakeMTA]:
    """A correct downstream, unless the test changes its `script`."""
    async with FakeMTA() as fake:
        yield fake


@pytest.fixture
def running(mta: FakeMTA, tmp_path: Path) -> Iterator[Process]:
    """`sluicegate run` in front of it."""
    with Process(tmp_path, mta.address) as process:
        yield process


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
