"""Gateways and MTAs in the test's own process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.mta import FakeMTA
from tests.proxy.running import RunningGateway, check_promises, destination

GatewayStarter = Callable[..., Awaitable[RunningGateway]]


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
