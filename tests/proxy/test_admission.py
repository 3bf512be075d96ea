"""Too many connections: in all, from one client, over several workers."""

import os
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from gateway.proxy.admission import Admission, ConnectionCounts, share_memory
from tests.client import Client
from tests.proxy.conftest import GatewayStarter

FIRST, SECOND = ip_address("192.0.2.1"), ip_address("192.0.2.2")


@pytest.fixture
def memory() -> Iterator[int]:
    """Shared by two workers of two listeners."""
    descriptor = share_memory(workers=2, listeners=2)
    yield descriptor
    os.close(descriptor)


def counts(memory: int, worker: int, listener: int = 0) -> ConnectionCounts:
    return ConnectionCounts(memory, worker, 2, listener)


def test_one_client_has_its_limit(memory: int):
    door = Admission(counts(memory, 0), in_all=10, per_client=2)
    assert [door.admit(FIRST) for _ in range(3)] == [True, True, False]
    assert door.admit(SECOND)
    door.release(FIRST)
    assert door.admit(FIRST)


def test_all_clients_have_theirs(memory: int):
    door = Admission(counts(memory, 0), in_all=2, per_client=2)
    assert [door.admit(ip_address(f"192.0.2.{n}")) for n in range(3)] == [True, True, False]


def test_workers_count_together_and_listeners_apart(memory: int):
    one = Admission(counts(memory, 0), in_all=10, per_client=2)
    other = Admission(counts(memory, 1), in_all=10, per_client=2)
    elsewhere = Admission(counts(memory, 0, listener=1), in_all=10, per_client=2)
    assert one.admit(FIRST)
    assert other.admit(FIRST)
    assert not one.admit(FIRST)
    assert not other.admit(FIRST)
    assert elsewhere.admit(FIRST)


def test_a_worker_that_died_holds_nothing(memory: int):
    died = Admission(counts(memory, 0), in_all=10, per_client=1)
    other = Admission(counts(memory, 1), in_all=10, per_client=1)
    assert died.admit(FIRST)
    assert not other.admit(FIRST)
    counts(memory, 0)  # its successor
    assert other.admit(FIRST)


def test_an_ipv6_client_is_its_network(memory: int):
    door = Admission(counts(memory, 0), in_all=10, per_client=1)
    assert door.admit(ip_address("2001:db8::1"))
    assert not door.admit(ip_address("2001:db8::ffff"))
    assert door.admit(ip_address("2001:db8:0:1::1"))


async def test_one_connection_too_many_is_told_so_and_recorded(start_gateway: GatewayStarter):
    gateway = await start_gateway(limits=(1000, 1))
    async with Client(gateway.port) as first, Client(gateway.port) as second:
        assert first.banner is not None
        assert second.banner is not None
        assert first.banner.code == 220
        assert (second.banner.code, second.banner.status) == (421, "4.3.2")
        record = await gateway.record()
        assert (record.verdict, record.stage, record.reason) == ("tempfailed", "connect", "overloaded")
        assert record.reference == second.banner.reference
    await gateway.no_client()
    async with Client(gateway.port) as third:
        assert third.banner is not None
        assert third.banner.code == 220
