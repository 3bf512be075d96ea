"""Which workers a configuration needs, and what each of them is given."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, parse
from gateway.metrics.ledger import Ledger
from gateway.seating import Seating, listeners_of, metrics_of, roles_of

FILE = Path("/etc/sluicegate/sluicegate.toml")
GATEWAY = '[gateway]\nhostname = "mx.test"\nworkers = 3\n'
RELAY = '[[relay]]\ndomains = ["example.com"]\naddress = ["127.0.0.1:10025"]\n'
METRICS = '[metrics]\naddress = "127.0.0.1:9125"\n'


def read(*protocols: str, more: str = METRICS) -> Config:
    """A configuration with such listeners, at ports from 1 on."""
    listeners = (
        f'[[listener]]\nprotocol = "{protocol}"\naddress = "127.0.0.1:{port}"\n'
        for port, protocol in enumerate(protocols, 1)
    )
    return parse(FILE, "".join([GATEWAY, *listeners, RELAY, more]).encode())


@pytest.mark.parametrize(
    ("protocols", "only", "roles", "ports", "shows"),
    [
        (["smtp"], None, ("smtp", "journal"), [1], True),
        (["lmtp"], None, ("smtp", "journal"), [1], True),
        (["milter"], None, ("milter", "journal"), [1], True),
        (["milter", "smtp", "milter"], None, ("smtp", "milter", "journal"), [1, 2, 3], True),
        (["milter", "smtp", "lmtp"], "smtp", ("smtp",), [2, 3], True),
        (["milter", "smtp"], "milter", ("milter",), [1], False),
        (["milter"], "milter", ("milter",), [1], True),
        (["milter", "smtp"], "journal", ("journal",), [], False),
        (["milter"], "journal", ("journal",), [], False),
    ],
)
def test_what_is_to_be_run(
    protocols: list[str], only: str | None, roles: tuple[str, ...], ports: list[int], shows: bool
):
    config = read(*protocols)
    assert roles_of(config, only) == roles
    assert [each.address for each in listeners_of(config, roles)] == [f"127.0.0.1:{port}" for port in ports]
    assert metrics_of(config, roles) == ([config.metrics] if shows else [])
    assert metrics_of(read(*protocols, more=""), roles) == []


@pytest.mark.parametrize(
    ("protocols", "only", "wanted"),
    [(["smtp", "lmtp"], "milter", '"milter"'), (["milter"], "smtp", '"smtp" or "lmtp"')],
)
def test_a_role_without_a_listener_has_nothing_to_do(protocols: list[str], only: str, wanted: str):
    with pytest.raises(ConfigError) as error:
        roles_of(read(*protocols), only)
    problem = f"none is {wanted}, so there is nothing to do for --role {only}"
    assert str(error.value) == f"{FILE}: [[listener]] protocol: {problem}"


@pytest.fixture
def sockets() -> Iterator[dict[str, socket.socket]]:
    """One for each of the first four addresses; which is which is all that matters."""
    found = {f"127.0.0.1:{port}": socket.socket() for port in range(1, 5)}
    yield found
    for each in found.values():
        each.close()


def options(arguments: list[str]) -> dict[str, str]:
    """Arguments as a table."""
    return dict(argument.removeprefix("--").split("=") for argument in arguments)


def test_every_worker_has_two_seats_and_what_its_listeners_need(sockets: dict[str, socket.socket]):
    config = read("milter", "smtp", "milter", "lmtp")
    seating = Seating(config, roles_of(config), sockets, Ledger())
    assert [(role, len(workers)) for role, workers in seating.crews] == [
        ("smtp", 3),
        ("milter", 3),
        ("milter", 3),
    ]
    numbers = {address: str(each.fileno()) for address, each in sockets.items()}
    smtp = ",".join([numbers["127.0.0.1:2"], numbers["127.0.0.1:4"]])
    expected = [(smtp, None), (numbers["127.0.0.1:1"], "0"), (numbers["127.0.0.1:3"], "1")]
    for (bound, listener), (_, workers) in zip(expected, seating.crews, strict=True):
        for seats in workers:
            assert len(seats) == 2
            for given in (options(list(seat.arguments)) for seat in seats):
                assert (given["sockets"], given.get("listener")) == (bound, listener)
    seating.close()


def test_nothing_that_is_written_to_is_shared(sockets: dict[str, socket.socket]):
    config = read("smtp", "milter")
    seating = Seating(config, roles_of(config), sockets, Ledger())
    seats = [seat for _, workers in seating.crews for two in workers for seat in two]
    given = [options(list(seat.arguments)) for seat in seats]
    assert len({each["slot"] for each in given}) == len(seats) == 12
    assert len({each["bulletin"] for each in given}) == len(seats)
    rows = [int(each["seat"]) for each in given if "seat" in each]
    assert (sorted(rows), {each["seats"] for each in given if "seat" in each}) == (list(range(6)), {"6"})
    for seat, each in zip(seats, given, strict=True):
        inherited = {int(each[name]) for name in ("bulletin", "ledger", "counts") if name in each}
        assert set(seat.descriptors) == inherited | set(map(int, each["sockets"].split(",")))
        assert seat.bulletin == int(each["bulletin"])
    seating.close()


def test_the_room_for_content_is_divided_among_all_even_where_others_run_them(
    sockets: dict[str, socket.socket],
):
    config = read("smtp", "milter", "milter")
    for only in (None, "smtp", "milter"):
        seating = Seating(config, roles_of(config, only), sockets, Ledger())
        seats = [seat for _, workers in seating.crews for two in workers for seat in two]
        assert {options(list(seat.arguments))["workers"] for seat in seats} == {"9"}
        seating.close()


def test_everything_is_given_back(sockets: dict[str, socket.socket]):
    ledger = Ledger()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        config = read("smtp", "milter")
        Seating(config, roles_of(config), sockets, ledger).close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert ledger.take() < 12
    os.close(ledger.descriptor)
