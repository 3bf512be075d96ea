"""What block and allow lists say, and what is made of those that say nothing."""

import ipaddress

import pytest

from filters.base import FilterError
from filters.dnsbl import DNSBL, reversed_address
from filters.evidence import Listings
from filters.testing.transactions import at_connect
from tests.fakes.nameserver import FakeNameserver, Mischief

CLIENT = "127.0.0.9"
A, B = "9.0.0.127.a.test", "9.0.0.127.b.test"
SILENT = [
    Mischief.SILENT,
    Mischief.GARBAGE,
    Mischief.FORGED,
    Mischief.OFF_TOPIC,
]
FAILURES = [
    Mischief.SERVFAIL,
    Mischief.REFUSED,
    Mischief.TRUNCATED,
    ["127.255.255.254"],
    ["127.255.255.252", "127.0.0.2"],
    ["192.0.2.1"],
    ["0.0.0.0"],
]


async def ask(server: FakeNameserver, zones, client: str = CLIENT, timeout: float = 10.0) -> Listings:
    dnsbl = DNSBL(zones=zones, nameservers=[server.address], query_timeout=timeout)
    try:
        return await dnsbl.find(at_connect(client))
    finally:
        await dnsbl.close()


async def probe(server: FakeNameserver, zones) -> str:
    dnsbl = DNSBL(zones=zones, nameservers=[server.address], query_timeout=10.0)
    try:
        return await dnsbl.probe()
    finally:
        await dnsbl.close()


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.0.2.99", "99.2.0.192"),
        ("127.0.0.9", "9.0.0.127"),
        (
            "2001:db8:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2",
        ),
        ("::ffff:192.0.2.99", "99.2.0.192"),
    ],
)
def test_an_address_is_reversed(client: str, expected: str) -> None:
    assert reversed_address(ipaddress.ip_address(client)) == expected


async def test_an_ipv6_client_is_looked_up() -> None:
    name = reversed_address(ipaddress.ip_address("2001:db8::1")) + ".a.test"
    async with FakeNameserver({name: ["127.0.0.2"]}) as server:
        assert await ask(server, {"a.test": 4}, "2001:db8::1") == Listings(4.0, {"a.test": ("127.0.0.2",)})


async def test_weights_are_summed() -> None:
    async with FakeNameserver({A: ["127.0.0.2"], B: ["127.0.0.3"]}) as server:
        assert await ask(server, {"a.test": 4, "b.test": 1.5, "c.test": 8}) == Listings(
            5.5, {"a.test": ("127.0.0.2",), "b.test": ("127.0.0.3",)}
        )


async def test_a_client_that_nobody_lists_has_no_listings() -> None:
    async with FakeNameserver({}) as server:
        assert await ask(server, {"a.test": 4, "b.test": 4}) == Listings()


async def test_an_allow_list_lowers_the_total() -> None:
    async with FakeNameserver({A: ["127.0.0.2"], B: ["127.0.5.1"]}) as server:
        assert (await ask(server, {"a.test": 4, "b.test": -5})).total == -1.0


@pytest.mark.parametrize(
    ("setting", "codes", "total"),
    [
        ({"codes": {"127.0.0.2": 3}}, ["127.0.0.2"], 3.0),
        ({"codes": {"127.0.0.2": 3}}, ["127.0.0.3"], 0.0),
        ({"codes": {"127.0.0.2": 3, "127.0.0.4": 2}}, ["127.0.0.2", "127.0.0.4", "127.0.0.5"], 5.0),
        ({"weight": 4}, ["127.0.0.2", "127.0.0.3"], 4.0),
        ({"weight": 4, "codes": {"127.0.0.2": 3}}, ["127.0.0.2"], 3.0),
        ({"weight": 4, "codes": {"127.0.0.2": 3}}, ["127.0.0.9", "127.0.0.10"], 4.0),
        ({"weight": 4, "codes": {"127.0.0.2": 3}}, ["127.0.0.2", "127.0.0.10"], 7.0),
    ],
)
async def test_codes_have_weights_of_their_own(setting, codes, total: float) -> None:
    async with FakeNameserver({A: codes}) as server:
        listings = await ask(server, {"a.test": setting})
    assert listings.total == total
    assert set(listings.zones["a.test"]) == set(codes)


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_a_failure_is_no_answer(failure) -> None:
    async with FakeNameserver({A: failure}) as server:
        with pytest.raises(FilterError, match=r"^a\.test: "):
            await ask(server, {"a.test": 4})


@pytest.mark.parametrize("silence", SILENT, ids=str)
async def test_silence_is_no_answer(silence) -> None:
    async with FakeNameserver({A: silence}) as server:
        with pytest.raises(FilterError, match=r"^a\.test: no answer within 0\.2 s"):
            await ask(server, {"a.test": 4}, timeout=0.2)


async def test_silence_does_not_hide_another_lists_listing() -> None:
    async with FakeNameserver({A: Mischief.SILENT, B: ["127.0.0.2"]}) as server:
        listings = await ask(server, {"a.test": 4, "b.test": 3}, timeout=3.0)
    assert listings == Listings(3.0, {"b.test": ("127.0.0.2",)})


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_a_failure_beside_a_list_that_lists_nothing_is_no_answer(failure) -> None:
    async with FakeNameserver({A: failure}) as server:
        with pytest.raises(FilterError, match=r"^a\.test: [^;]*$"):
            await ask(server, {"a.test": 4, "b.test": 4})


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_a_failure_does_not_hide_another_lists_listing(failure) -> None:
    async with FakeNameserver({A: failure, B: ["127.0.0.2"]}) as server:
        assert await ask(server, {"a.test": 4, "b.test": 3}) == Listings(3.0, {"b.test": ("127.0.0.2",)})


async def test_a_listing_without_weight_does_not_make_up_for_a_failure() -> None:
    async with FakeNameserver({A: Mischief.SERVFAIL, B: ["127.0.0.2"]}) as server:
        with pytest.raises(FilterError, match=r"^a\.test: "):
            await ask(server, {"a.test": 4, "b.test": {"codes": {"127.0.0.3": 3}}})


async def test_all_lists_that_failed_are_named() -> None:
    async with FakeNameserver({A: Mischief.SERVFAIL, B: ["127.255.255.254"]}) as server:
        with pytest.raises(FilterError) as caught:
            await ask(server, {"a.test": 4, "b.test": 4})
    assert str(caught.value) == (
        f"a.test: SERVFAIL from {server.address}; b.test: refuses to serve us (127.255.255.254)"
    )


async def test_foreign_addresses_beside_a_code_are_passed_over() -> None:
    async with FakeNameserver({A: ["127.0.0.2", "192.0.2.1"]}) as server:
        assert await ask(server, {"a.test": 4}) == Listings(4.0, {"a.test": ("127.0.0.2",)})


async def test_each_list_is_asked_once() -> None:
    async with FakeNameserver({}) as server:
        await ask(server, {"a.test": 4, "b.test": 4})
    assert server.queries == {A: 1, B: 1}


async def test_probing_sound_lists_names_them() -> None:
    async with FakeNameserver({f"2.0.0.127.{zone}.test": ["127.0.0.2"] for zone in "ab"}) as server:
        assert await probe(server, {"a.test": 4, "b.test": -1}) == "all lists answer: a.test, b.test"


@pytest.mark.parametrize(
    ("records", "cause"),
    [
        ({}, "a.test: is dead: does not list its own test point 127.0.0.2"),
        (
            {"2.0.0.127.a.test": ["127.0.0.2"], "1.0.0.127.a.test": ["127.0.0.2"]},
            "a.test: lists everything, even 127.0.0.1",
        ),
        ({"2.0.0.127.a.test": ["127.255.255.254"]}, "a.test: refuses to serve us (127.255.255.254)"),
        (
            {"2.0.0.127.a.test": ["127.0.0.2"], "1.0.0.127.a.test": ["192.0.2.1"]},
            "a.test: answers with 192.0.2.1, which is no code",
        ),
    ],
)
async def test_probing_finds_lists_that_are_of_no_use(records, cause: str) -> None:
    async with FakeNameserver({"2.0.0.127.b.test": ["127.0.0.2"], **records}) as server:
        with pytest.raises(FilterError) as caught:
            await probe(server, {"a.test": 4, "b.test": 4})
    assert str(caught.value) == cause


@pytest.mark.parametrize(
    "zones",
    [
        {},
        {"": 1},
        {".": 1},
        {"a..test": 1},
        {"a test": 1},
        {"x" * 64 + ".test": 1},
        {"x." * 100 + "test": 1},
        {"zen.exämple": 1},
        {"a.test": "4"},
        {"a.test": float("nan")},
        {"a.test": {}},
        {"a.test": {"wieght": 4}},
        {"a.test": {"codes": 4}},
        {"a.test": {"weight": {"127.0.0.2": 3}}},
        {"a.test": {"codes": {"127.0.0": 3}}},
        {"a.test": {"codes": {"192.0.2.1": 3}}},
        {"a.test": {"codes": {"127.255.255.254": 3}}},
        {"a.test": {"codes": {"127.0.0.2": float("inf")}}},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused(zones) -> None:
    with pytest.raises(ValueError, match="zone"):
        DNSBL(zones=zones, nameservers=["127.0.0.1:53"])
