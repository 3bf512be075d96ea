"""Look-ups: what is an answer, what is a failure, and how often anybody is asked."""

import asyncio

import pytest

from filters import resolver as resolver_module
from filters.base import FilterError
from filters.resolver import MAX_TTL, Resolver
from filters.testing.server import Nobody
from tests.fakes.nameserver import FakeNameserver, Mischief

NAME = "host.test"


@pytest.fixture
async def resolve(request):
    """Builds resolvers that are closed again."""
    built = []

    def build(*servers: FakeNameserver | Nobody, timeout: float = 10.0) -> Resolver:
        built.append(Resolver([server.address for server in servers], timeout))
        return built[-1]

    yield build
    for resolver in built:
        await resolver.close()


async def test_addresses_are_found(resolve) -> None:
    async with FakeNameserver({NAME: ["127.0.0.4", "127.0.0.2"]}) as server:
        assert await resolve(server).addresses(f"{NAME}.") == ("127.0.0.2", "127.0.0.4")


@pytest.mark.parametrize("records", [{}, {NAME: Mischief.NO_DATA}, {NAME: Mischief.BARE_NXDOMAIN}])
async def test_no_address_is_an_answer(resolve, records) -> None:
    async with FakeNameserver(records) as server:
        assert await resolve(server).addresses(f"{NAME}.") == ()


@pytest.mark.parametrize(
    ("mischief", "cause"),
    [
        (Mischief.SERVFAIL, "SERVFAIL from"),
        (Mischief.REFUSED, "REFUSED from"),
        (Mischief.TRUNCATED, "from"),
        (Mischief.SILENT, r"no answer within 0\.2 s from"),
        (Mischief.GARBAGE, r"no answer within 0\.2 s from"),
        (Mischief.EMPTY, r"no answer within 0\.2 s from"),
        (Mischief.FORGED, r"no answer within 0\.2 s from"),
        (Mischief.OFF_TOPIC, r"no answer within 0\.2 s from"),
    ],
)
async def test_anything_else_is_a_failure_that_names_the_server(resolve, mischief, cause) -> None:
    async with FakeNameserver({NAME: mischief}) as server:
        with pytest.raises(FilterError, match=f"{cause} {server.address}"):
            await resolve(server, timeout=0.2).addresses(f"{NAME}.")


async def test_many_addresses_need_no_tcp(resolve) -> None:
    addresses = [f"127.0.{number}.2" for number in range(60)]
    async with FakeNameserver({NAME: addresses}) as server:
        assert len(await resolve(server).addresses(f"{NAME}.")) == 60
        assert server.over_tcp == 0


async def test_an_answer_is_asked_for_once_within_its_ttl(resolve) -> None:
    async with FakeNameserver({NAME: ["127.0.0.2"]}) as server:
        resolver = resolve(server)
        for _ in range(3):
            await resolver.addresses(f"{NAME}.")
            await resolver.addresses("absent.test.")
        assert server.queries == {NAME: 1, "absent.test": 1}


@pytest.mark.parametrize("found", [["127.0.0.2"], Mischief.NO_DATA])
async def test_an_answer_without_a_lifetime_is_not_kept(resolve, found) -> None:
    async with FakeNameserver({NAME: found}, ttl=0) as server:
        resolver = resolve(server)
        for _ in range(3):
            await resolver.addresses(f"{NAME}.")
        assert server.total == 3


async def test_no_name_without_soa_is_not_kept(resolve) -> None:
    async with FakeNameserver({NAME: Mischief.BARE_NXDOMAIN}) as server:
        resolver = resolve(server)
        for _ in range(3):
            assert await resolver.addresses(f"{NAME}.") == ()
        assert server.total == 3


async def test_no_answer_is_kept_for_ever(resolve, monkeypatch) -> None:
    async with FakeNameserver({NAME: ["127.0.0.2"]}, ttl=2**31 - 1) as server:
        resolver = resolve(server)
        assert await resolver.addresses(f"{NAME}.") == ("127.0.0.2",)
        server.records = {}
        now = resolver_module.time.time()
        monkeypatch.setattr(resolver_module.time, "time", lambda: now + MAX_TTL - 10)
        assert await resolver.addresses(f"{NAME}.") == ("127.0.0.2",)
        monkeypatch.setattr(resolver_module.time, "time", lambda: now + MAX_TTL + 10)
        assert await resolver.addresses(f"{NAME}.") == ()


async def test_a_failure_is_not_kept(resolve) -> None:
    async with FakeNameserver({NAME: Mischief.SERVFAIL}) as server:
        resolver = resolve(server)
        with pytest.raises(FilterError):
            await resolver.addresses(f"{NAME}.")
        server.records = {NAME: ["127.0.0.2"]}
        assert await resolver.addresses(f"{NAME}.") == ("127.0.0.2",)


async def test_identical_look_ups_are_joined(resolve) -> None:
    async with FakeNameserver({NAME: ["127.0.0.2"]}) as server:
        resolver = resolve(server)
        answers = await asyncio.gather(*(resolver.addresses(f"{NAME}.") for _ in range(50)))
        assert answers == [("127.0.0.2",)] * 50
        assert server.total == 1


async def test_all_who_wait_learn_of_a_failure(resolve) -> None:
    async with FakeNameserver({NAME: Mischief.REFUSED}) as server:
        resolver = resolve(server)
        look_ups = (resolver.addresses(f"{NAME}.") for _ in range(5))
        outcomes = await asyncio.gather(*look_ups, return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {f"REFUSED from {server.address}"}
        assert server.total == 1


async def test_one_who_gives_up_does_not_take_the_answer_from_others(resolve) -> None:
    async with FakeNameserver({NAME: ["127.0.0.2"]}) as server:
        resolver = resolve(server)
        first, second = (asyncio.create_task(resolver.addresses(f"{NAME}.")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ("127.0.0.2",)
        assert first.cancelled()
        assert server.total == 1


async def test_closing_gives_up_what_is_under_way(resolve) -> None:
    async with FakeNameserver({NAME: Mischief.SILENT}) as server:
        resolver = resolve(server, timeout=600.0)
        look_up = asyncio.create_task(resolver.addresses(f"{NAME}."))
        await asyncio.sleep(0)
        look_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await look_up
        await resolver.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("mischief", [Mischief.SILENT, Mischief.SERVFAIL, Mischief.REFUSED, Mischief.GARBAGE])
async def test_another_server_is_asked(resolve, mischief) -> None:
    async with (
        FakeNameserver({NAME: mischief}) as broken,
        FakeNameserver({NAME: ["127.0.0.2"]}) as sound,
    ):
        assert await resolve(broken, sound, timeout=2.0).addresses(f"{NAME}.") == ("127.0.0.2",)
        assert broken.total == sound.total == 1


async def test_a_server_that_does_not_answer_is_asked_last_for_a_while(resolve, monkeypatch) -> None:
    async with FakeNameserver({}, otherwise=Mischief.SILENT) as silent, FakeNameserver({}) as sound:
        resolver = resolve(silent, sound, timeout=2.0)
        for number in range(4):
            await resolver.addresses(f"name{number}.test.")
        assert silent.total == 1
        assert sound.total == 4
        now = resolver_module.time.monotonic()
        monkeypatch.setattr(resolver_module.time, "monotonic", lambda: now + resolver_module.SET_BACK)
        silent.otherwise = None
        await resolver.addresses("later.test.")
        await resolver.addresses("much-later.test.")
        assert silent.queries["later.test"] == silent.queries["much-later.test"] == 1
        assert sound.total == 4


async def test_a_server_with_one_bad_zone_is_not_held_to_be_sick(resolve) -> None:
    async with FakeNameserver({NAME: Mischief.SERVFAIL}) as first, FakeNameserver({}) as second:
        resolver = resolve(first, second)
        await resolver.addresses(f"{NAME}.")
        await resolver.addresses("other.test.")
        assert first.queries["other.test"] == 1
        assert second.queries["other.test"] == 0


async def test_a_dead_server_is_a_failure(resolve) -> None:
    with Nobody() as nobody, pytest.raises(FilterError, match=f"from {nobody.address}"):
        await resolve(nobody, timeout=0.1).addresses(f"{NAME}.")


@pytest.mark.parametrize("server", ["127.0.0.1", "dns.example.net:53", "unix:/run/dns", "::1:53", ""])
def test_a_server_must_be_given_by_address_and_port(server: str) -> None:
    with pytest.raises(ValueError, match=r"allowed|by its address"):
        Resolver([server], 1.0)


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_at_all_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="query_timeout"):
        Resolver(["127.0.0.1:53"], timeout)


async def test_without_servers_the_systems_are_used(monkeypatch, tmp_path) -> None:
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("nameserver 127.0.0.53\nnameserver ::1\n")
    monkeypatch.setattr(resolver_module, "_RESOLV_CONF", str(configuration))
    with pytest.raises(FilterError, match=r"127\.0\.0\.53:53.*\[::1\]:53"):
        await Resolver([], 0.05).addresses(f"{NAME}.")


@pytest.mark.parametrize("content", ["search example.org\n", None])
def test_without_any_server_there_is_nothing_to_ask(monkeypatch, tmp_path, content) -> None:
    configuration = tmp_path / "resolv.conf"
    if content is not None:
        configuration.write_text(content)
    monkeypatch.setattr(resolver_module, "_RESOLV_CONF", str(configuration))
    with pytest.raises(ValueError, match="names no server"):
        Resolver([], 1.0)
