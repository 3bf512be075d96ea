"""The `journal` role: the one process that moves records from the spool into the index."""

import asyncio
import threading
from pathlib import Path

from gateway.config import Config
from gateway.journal.keeper import Keeper
from gateway.journal.layout import Layout
from gateway.roles.control import Control


async def keep(config: Config, control: Control) -> None:
    """Keep the index until told to stop; what has been written by then is in it."""
    layout = Layout(Path(config.gateway.state_directory))
    keeper = Keeper(layout.spool, layout.index, config.journal.retention)
    stop = threading.Event()
    keeping = asyncio.create_task(asyncio.to_thread(keeper.run, stop))
    stopping = asyncio.create_task(control.wait_for_end())
    control.say_ready()
    await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    stopping.cancel()
    await keeping
