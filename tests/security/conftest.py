"""A gateway to attack, and the look at what it promised when the attack is over."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import gateway.proxy.budget
from tests.fakes.mta import FakeMTA
from tests.proxy.conftest import GatewayStarter
from tests.proxy.conftest import start_gateway as start_gateway
from tests.security.battery import Battery

BatteryStarter = Callable[..., Awaitable[Battery]]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that err wait; we need not."""
    monkeypatch.setattr(gateway.proxy.budget, "_LONGEST_DELAY", 0.001)


@pytest.fixture
async def start_battery(start_gateway: GatewayStarter, mta: FakeMTA) -> AsyncIterator[BatteryStarter]:
    """Starts batteries with these settings of the gateway; what must hold is checked at the end."""
    started: list[Battery] = []

    async def start(**settings: object) -> Battery:
        assert not started, "the records of two would be mixed up"
        started.append(Battery(await start_gateway(**settings), mta))
        return started[0]

    yield start
    for battery in started:
        await battery.check()


@pytest.fixture
async def battery(start_battery: BatteryStarter) -> Battery:
    """One with everything as it is by default."""
    return await start_battery()
