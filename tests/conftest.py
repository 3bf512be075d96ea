"""A certificate for the gateway, and a client that trusts who issued it."""

import ssl
from pathlib import Path

import pytest
import trustme

from gateway.proxy.certificate import Certificate


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
