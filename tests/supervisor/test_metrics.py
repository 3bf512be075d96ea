"""Numbers over HTTP: what they say, what they outlive, and that nobody can be in the way."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process, free_port
from tests.supervisor.watched import U1, Watched, content, in_the_middle
from tests.waiting import PATIENCE, eventually

Numbers = dict[tuple[str, ...], float]
ACCEPTED = ("sluicegate_decisions_total", "accepted", "relay", "accepted")


async def ask(port: int, request: str) -> str:
    """The whole answer to a request."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{request} HTTP/1.0\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer.decode()


async def numbers(port: int) -> Numbers:
    """Every sample there is, but for times; labels in the order of their names."""
    head, _, page = (await ask(port, "GET /metrics")).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.0 200 OK\r\n")
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("seconds_total")
    }


async def until(port: int, is_so: Callable[[Numbers], bool]) -> Numbers:
    """The numbers once they are so."""
    async with asyncio.timeout(30):
        while not is_so(found := await numbers(port)):
            pass
    return found


def asked(found: Numbers) -> float:
    """How often the relay table was asked, whether it was remembered from another message or not."""
    return sum(value for (name, *_), value in found.items() if name == "sluicegate_filter_seconds_count")


async def deliver(port: int, subject: str) -> int:
    async with Client(port) as client:
        await in_the_middle(client)
        client.say(content(subject))
        return (await client.reply()).code


async def test_what_is_counted_outlives_workers_and_configurations(tmp_path: Path, mta: FakeMTA):
    port = free_port()
    gateway = Watched(tmp_path, mta.address)
    gateway.configure(more=f'[metrics]\naddress = "127.0.0.1:{port}"\n')
    async with gateway:
        assert not {name for name, *_ in await numbers(port)} - {"sluicegate_filter_seconds"}
        replies = [await deliver(gateway.port, each) for each in ("behaves", "behaves", "grabs")]
        assert replies == [250, 250, 451]
        expected = {
            ACCEPTED: 2.0,
            ("sluicegate_decisions_total", "policy-error", "end-of-data", "tempfailed"): 1.0,
            ("sluicegate_policy_calls_total", "content", "none"): 2.0,
            ("sluicegate_policy_calls_total", "content", "error"): 1.0,
            ("sluicegate_policy_calls_total", "recipients", "none"): 3.0,
            ("sluicegate_policy_errors_total", "exception", "content"): 1.0,
        }
        found = await numbers(port)
        assert found.items() >= expected.items()
        rest = {name for name, *_ in set(found) - set(expected)}
        assert rest == {"sluicegate_filter_seconds_sum", "sluicegate_filter_seconds_count"}
        assert asked(found) == 3.0

        for worker in gateway.workers():
            os.kill(worker, signal.SIGKILL)
        restarts = ("sluicegate_worker_restarts_total", "died")
        await until(port, lambda found: found.get(restarts) == 2.0)
        gateway.reload()
        old = gateway.workers()
        async with asyncio.timeout(30):
            while gateway.workers() & old:
                assert (await numbers(port)).items() >= expected.items()
        assert await deliver(gateway.port, "behaves") == 250
        expected[ACCEPTED] = 3.0
        expected["sluicegate_policy_calls_total", "content", "none"] = 3.0
        expected["sluicegate_policy_calls_total", "recipients", "none"] = 4.0
        found = await numbers(port)
        assert found.items() >= expected.items()
        assert asked(found) == 4.0


async def test_a_worker_that_dies_in_a_policy_is_counted_with_it(tmp_path: Path, mta: FakeMTA):
    port = free_port()
    gateway = Watched(tmp_path, mta.address)
    gateway.configure(more=f'[metrics]\naddress = "127.0.0.1:{port}"\n')
    async with gateway, Client(gateway.port) as client:
        await in_the_middle(client)
        client.say(content("exits"))
        assert await client.is_closed()
        await until(port, lambda found: ("sluicegate_policy_errors_total", "killed", "content") in found)


async def test_a_reload_may_begin_and_end_it(tmp_path: Path, mta: FakeMTA):
    port = free_port()
    with Process(tmp_path, mta.address) as process:
        for extra, is_there in ((f'[metrics]\naddress = "127.0.0.1:{port}"\n', True), ("", False)):
            process.configure(extra)
            process.send(signal.SIGHUP)
            await eventually(lambda wanted=is_there: is_listened_on(port) is wanted)


def is_listened_on(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def test_there_is_one_page_and_nobody_can_be_in_the_way(tmp_path: Path, mta: FakeMTA):
    port = free_port()
    process = Process(tmp_path, mta.address)
    process.extra = f'[metrics]\naddress = "127.0.0.1:{port}"\n'
    with process:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        assert (await ask(port, "GET /")).startswith("HTTP/1.0 404 ")
        assert (await ask(port, "GET /metrics?name[]=sluicegate_decisions_total")).startswith("HTTP/1.0 200 ")
        assert "sluicegate" not in await ask(port, "nonsense")
        async with Client(process.port) as client:
            assert (await client.deliver(b"Subject: x\r\n\r\nx\r\n", U1)).code == 250
        assert ACCEPTED in await numbers(port)
        (died,) = process.children("metrics")
        os.kill(died, signal.SIGKILL)
        for _, writer in silent:
            writer.transport.abort()
        await until(port, lambda found: ACCEPTED in found)
        assert process.children("metrics") != [died]
        process.send(signal.SIGTERM)
        assert await asyncio.to_thread(process.exit_status) == 0
        assert "Traceback" not in process.log
