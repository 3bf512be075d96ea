"""The `metrics` role: one process that shows what the others have counted, over HTTP."""

import asyncio
import socket

from gateway.metrics.exposition import Exposition
from gateway.roles.control import Control


async def show(listening: socket.socket, ledger: int, control: Control) -> None:
    """Answer until told to stop. `ledger` is the descriptor of the memory that is counted in."""
    exposition = Exposition(listening, ledger)
    serving = asyncio.create_task(asyncio.to_thread(exposition.serve_forever))
    control.say_ready()
    await control.wait_for_end()
    await asyncio.to_thread(exposition.shutdown)
    await serving
