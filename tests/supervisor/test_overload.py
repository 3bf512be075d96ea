"""More connections than a worker has descriptors for, and connections that come to nothing."""

import asyncio
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path

from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
DESCRIPTORS = 128


async def test_a_worker_never_runs_out_of_descriptors(tmp_path: Path):
    async with FakeMTA() as mta:
        with Process(tmp_path, mta.address, descriptors=DESCRIPTORS) as process:
            (worker,) = process.children("smtp")
            idle = _open_files(worker)
            async with AsyncExitStack() as crowd:
                clients = [Client(process.port, source=f"127.0.{n // 10}.{1 + n % 10}") for n in range(200)]
                for client in clients:
                    await crowd.enter_async_context(client)
                banners = [client.banner for client in clients if client.banner]
                let_in = [client for client in clients if client.banner and client.banner.code == 220]
                assert {banner.code for banner in banners} == {220, 421}
                assert {banner.status for banner in banners if banner.code == 421} == {"4.3.2"}
                await asyncio.gather(*(_send(client) for client in let_in))
                assert len(mta.messages) > 0
                assert _open_files(worker) < DESCRIPTORS
            await eventually(lambda: _open_files(worker) <= idle + 10)
            async with Client(process.port) as client:
                assert (await client.deliver(MESSAGE, U1)).code == 250
            details = {record["detail"] for record in process.records() if record["reason"] == "overloaded"}
            assert details == {"file descriptors of the worker (RLIMIT_NOFILE)"}
            assert process.children("smtp") == [worker]
        assert "open files" not in process.log
        assert "resource" not in process.log


async def _send(client: Client) -> None:
    """One message, which may be for later."""
    await client.ask("EHLO c.example")
    mail = await client.ask("MAIL FROM:<s@a.example>")
    if mail.code == 250:
        assert (await client.ask(f"RCPT TO:<{U1}>")).code == 250
        assert (await client.data(MESSAGE)).code == 250
    else:
        assert (mail.code, mail.status) == (452, "4.3.2")


async def test_connections_that_are_reset_leave_nothing(tmp_path: Path):
    async with FakeMTA() as mta:
        with Process(tmp_path, mta.address) as process:
            (worker,) = process.children("smtp")
            await _connect_and_reset(process.port, 1000)
            async with Client(process.port) as client:
                assert (await client.deliver(MESSAGE, U1)).code == 250
            files, memory, log = _open_files(worker), _resident(worker), process.log
            await _connect_and_reset(process.port, 5000)
            await eventually(lambda: _open_files(worker) <= files)
            async with Client(process.port) as client:
                assert (await client.deliver(MESSAGE, U1)).code == 250
            assert _resident(worker) - memory < 4096
            assert process.log == log


async def _connect_and_reset(port: int, times: int) -> None:
    for _ in range(times):
        client = Client(port, greet=False)
        await client.__aenter__()
        client.reset()
        await client.__aexit__()


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _resident(pid: int) -> int:
    """KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
