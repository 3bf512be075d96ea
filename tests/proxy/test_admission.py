"""Too many connections: in all, from one client, from one network, over several workers."""

import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from ipaddress import ip_address

import pytest

import gateway.proxy.server
from gateway.proxy.admission import Admission, ConnectionCounts, Limit, share_memory
from gateway.proxy.descriptors import PER_TRANSACTION, Descriptors
from gateway.smtp.networks import Networks
from gateway.smtp.session import IPAddress
from tests.client import Client
from tests.proxy.conftest import GatewayStarter
from tests.waiting import eventually

FIRST, SECOND = ip_address("192.0.2.1"), ip_address("192.0.2.2")
MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"


@pytest.fixture
def memory() -> Iterator[int]:
    """Shared by two workers of two listeners."""
    descriptor = share_memory(workers=2, listeners=2)
    yield descriptor
    os.close(descriptor)


def counts(memory: int, worker: int, listener: int = 0) -> ConnectionCounts:
    return ConnectionCounts(memory, worker, 2, listener)


def clients(count: int, first: int = 0) -> list[IPAddress]:
    """Each in a network of its own."""
    return [
        ip_address(f"198.{18 + number // 256}.{number % 256}.1") for number in range(first, first + count)
    ]


def test_one_client_has_its_limit(memory: int):
    door = Admission(counts(memory, 0), in_all=10, per_client=2)
    assert [door.admit(FIRST) for _ in range(3)] == [None, None, Limit.PER_CLIENT]
    assert door.admit(SECOND) is None
    door.release(FIRST)
    assert door.admit(FIRST) is None


def test_all_clients_have_theirs(memory: int):
    door = Admission(counts(memory, 0), in_all=2, per_client=2)
    assert [door.admit(client) for client in clients(3)] == [None, None, Limit.IN_ALL]


@pytest.mark.parametrize(
    ("neighbours", "stranger"),
    [
        (("192.0.2.1", "192.0.2.200", "192.0.2.255"), "192.0.3.1"),
        (("2001:db8:1::1", "2001:db8:1:2::1", "2001:db8:1:ffff::1"), "2001:db8:2::1"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_network_has_its_limit(memory: int, neighbours: tuple[str, ...], stranger: str):
    door = Admission(counts(memory, 0), in_all=100, per_client=100, per_network=2)
    found = [door.admit(ip_address(address)) for address in neighbours]
    assert found == [None, None, Limit.PER_NETWORK]
    assert door.admit(ip_address(stranger)) is None
    door.release(ip_address(neighbours[0]))
    assert door.admit(ip_address(neighbours[2])) is None


def test_workers_count_together_and_listeners_apart(memory: int):
    one = Admission(counts(memory, 0), in_all=10, per_client=2)
    other = Admission(counts(memory, 1), in_all=10, per_client=2)
    elsewhere = Admission(counts(memory, 0, listener=1), in_all=10, per_client=2)
    assert one.admit(FIRST) is None
    assert other.admit(FIRST) is None
    assert one.admit(FIRST) is Limit.PER_CLIENT
    assert other.admit(FIRST) is Limit.PER_CLIENT
    assert elsewhere.admit(FIRST) is None


def test_a_worker_that_died_holds_nothing(memory: int):
    died = Admission(counts(memory, 0), in_all=10, per_client=1)
    other = Admission(counts(memory, 1), in_all=10, per_client=1)
    assert died.admit(FIRST) is None
    assert other.admit(FIRST) is Limit.PER_CLIENT
    counts(memory, 0)  # its successor
    assert other.admit(FIRST) is None


def test_an_ipv6_client_is_its_network(memory: int):
    door = Admission(counts(memory, 0), in_all=10, per_client=1)
    assert door.admit(ip_address("2001:db8::1")) is None
    assert door.admit(ip_address("2001:db8::ffff")) is Limit.PER_CLIENT
    assert door.admit(ip_address("2001:db8:0:1::1")) is None


def test_clients_that_share_one_cell_do_each_other_no_harm(memory: int):
    """A quarter of 2000 clients shares a cell of 16384 with others, and hardly one shares both."""
    door = Admission(counts(memory, 0), in_all=100_000, per_client=1)
    turned_away = [client for client in clients(2000) if door.admit(client) is not None]
    assert len(turned_away) < 75


@pytest.mark.parametrize(("per_client", "per_network"), [(2, 100), (30, 150)])
def test_a_network_has_a_limit_that_follows_the_clients(memory: int, per_client: int, per_network: int):
    door = Admission(counts(memory, 0), in_all=1000, per_client=per_client)
    neighbours = [ip_address(f"192.0.2.{number}") for number in range(per_network + 1)]
    assert [door.admit(client) for client in neighbours] == [None] * per_network + [Limit.PER_NETWORK]


def test_who_has_behaved_finds_a_tenth_more(memory: int):
    one = Admission(counts(memory, 0), in_all=20, per_client=20)
    other = Admission(counts(memory, 1), in_all=20, per_client=20)
    other.remember(FIRST)
    assert [one.admit(client) for client in clients(21)] == [None] * 20 + [Limit.IN_ALL]
    assert [one.admit(FIRST) for _ in range(3)] == [None, None, Limit.IN_ALL]
    one.release(FIRST)
    assert one.admit(SECOND) is Limit.IN_ALL


def test_who_has_behaved_is_remembered_when_a_worker_dies_and_forgotten_after_a_day(
    memory: int, monkeypatch: pytest.MonkeyPatch
):
    counts(memory, 0).remember(FIRST)
    successor = counts(memory, 0)
    assert successor.has_behaved(FIRST)
    assert not successor.has_behaved(SECOND)
    a_day_later = gateway.proxy.admission.time.monotonic() + 24 * 3600 + 60
    monkeypatch.setattr("gateway.proxy.admission.time.monotonic", lambda: a_day_later)
    assert not successor.has_behaved(FIRST)


def test_a_worker_lets_in_no_more_than_it_has_descriptors_for(memory: int):
    descriptors = Descriptors(available=PER_TRANSACTION + 4)
    door = Admission(counts(memory, 0), in_all=100, per_client=100, descriptors=descriptors)
    assert [door.admit(FIRST) for _ in range(7)] == [None] * 6 + [Limit.DESCRIPTORS]
    assert not descriptors.take_for_transaction()
    for _ in range(2):
        door.release(FIRST)
    assert descriptors.take_for_transaction()
    assert door.admit(FIRST) is Limit.DESCRIPTORS
    descriptors.give_back_transaction()
    assert door.admit(FIRST) is None


@pytest.mark.parametrize("limit", [64, 128, 256, 1024, 20_000, 1_048_576])
def test_some_descriptors_are_always_kept(limit: int):
    descriptors = Descriptors.within(limit, in_use=20)
    taken = 0
    while descriptors.take_for_connection():
        taken += 1
    while descriptors.take_for_transaction():
        taken += PER_TRANSACTION
    assert limit // 8 < taken < limit - 20
    assert limit - taken > 30


def test_who_brings_other_peoples_connections_may_use_the_reserve_for_them(memory: int):
    door = Admission(counts(memory, 0), in_all=20, per_client=20, exempt=Networks(["192.0.2.1"]))
    assert [door.admit(client) for client in clients(20)] == [None] * 20
    assert [door.admit(FIRST) for _ in range(3)] == [None, None, Limit.IN_ALL]


async def test_a_mail_without_descriptors_is_for_later(start_gateway: GatewayStarter):
    descriptors = Descriptors(available=PER_TRANSACTION + 3)
    gateway = await start_gateway(descriptors=descriptors)
    async with Client(gateway.port) as first, Client(gateway.port) as second:
        await first.open(U1)
        await second.ask("EHLO c.example")
        refused = await second.ask("MAIL FROM:<s@a.example>")
        assert (refused.code, refused.status) == (452, "4.3.2")
        record = await gateway.record()
        assert (record.verdict, record.stage, record.reason) == ("tempfailed", "mail", "overloaded")
        assert "RLIMIT_NOFILE" in record.detail
        assert record.reference == refused.reference
        assert (await first.data(MESSAGE)).code == 250
        assert (await second.again(U1))[0].code == 250


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
        assert record.detail == "max_connections_per_client"
    await gateway.no_client()
    async with Client(gateway.port) as third:
        assert third.banner is not None
        assert third.banner.code == 220


async def test_who_has_delivered_mail_gets_in_where_strangers_do_not(start_gateway: GatewayStarter):
    gateway = await start_gateway(limits=(10, 10))
    async with Client(gateway.port, source="127.0.0.2") as friend:
        assert (await friend.deliver(MESSAGE, U1)).code == 250
    await gateway.no_client()
    async with AsyncExitStack() as crowd:
        for _ in range(10):
            await crowd.enter_async_context(Client(gateway.port))
        async with Client(gateway.port) as stranger:
            assert stranger.banner is not None
            assert (stranger.banner.code, stranger.banner.status) == (421, "4.3.2")
        async with Client(gateway.port, source="127.0.0.2") as friend:
            assert (await friend.deliver(MESSAGE, U1)).code == 250
    assert (await gateway.record(1)).detail == "max_connections"


async def test_a_crowd_of_silent_clients_makes_room(
    start_gateway: GatewayStarter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.server, "CROWDED_TIMEOUT", 0.1)
    monkeypatch.setattr(gateway.proxy.server, "CROWD_INTERVAL", 0.02)
    running = await start_gateway(limits=(10, 10))
    async with AsyncExitStack() as crowd:
        silent = [await crowd.enter_async_context(Client(running.port)) for _ in range(9)]
        assert str(await silent[0].reply()).startswith("421 4.4.2 ")
        assert await silent[0].is_closed()
        async with Client(running.port) as client:
            assert (await client.deliver(MESSAGE, U1)).code == 250


async def test_silent_clients_are_no_crowd_where_there_is_room(
    start_gateway: GatewayStarter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gateway.proxy.server, "CROWDED_TIMEOUT", 0.0)
    monkeypatch.setattr(gateway.proxy.server, "CROWD_INTERVAL", 0.001)
    running = await start_gateway(limits=(10, 10))
    async with AsyncExitStack() as crowd:
        silent = [await crowd.enter_async_context(Client(running.port)) for _ in range(8)]
        for _ in range(50):
            for client in silent:
                assert (await client.ask("NOOP")).code == 250


async def test_a_client_reset_before_it_was_looked_at_leaves_nothing(start_gateway: GatewayStarter):
    running = await start_gateway(limits=(1000, 1))
    clients = []
    for _ in range(200):
        client = Client(running.port, greet=False)
        await client.__aenter__()
        client.reset()
        clients.append(client)
    await running.no_client()
    async with Client(running.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    for client in clients:
        await client.__aexit__()


async def test_the_system_asks_after_clients_that_say_nothing(start_gateway: GatewayStarter):
    running = await start_gateway()
    async with Client(running.port):
        (connection,) = await eventually(lambda: running.server._connections)
        accepted = connection._stream.get_extra_info("socket")
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert 0 < accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
        assert 0 < accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 120_000
