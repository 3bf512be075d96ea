"""The processes: starting, draining, dying, reloading. Real ones, with real signals."""

import asyncio
import os
import random
import re
import signal
import socket
import struct
from collections import Counter
from pathlib import Path

import pytest
import trustme

from tests.client import Answer, Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process, free_port
from tests.waiting import eventually

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"


async def is_served(port: int) -> bool:
    """Whether a new client is greeted, or else refused; to be kept waiting fails."""
    try:
        async with Client(port, greet=False) as client:
            return (await client.line()).startswith("220 ")
    except ConnectionRefusedError:
        return False


def is_free(port: int) -> bool:
    """Whether nobody holds the port."""
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def test_ready_means_that_every_listener_accepts(running: Process, mta: FakeMTA):
    assert f"ready smtp:127.0.0.1:{running.port}\n" in running.log
    async with Client(running.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert len(mta.messages) == 1


async def test_sigterm_lets_a_message_finish_and_sends_the_idle_away(running: Process, mta: FakeMTA):
    async with Client(running.port) as busy, Client(running.port) as idle:
        await busy.open(U1)
        await busy.ask("DATA")
        running.send(signal.SIGTERM)
        assert str(await idle.reply()).startswith("421 4.3.2 ")
        assert await idle.is_closed()
        busy.say(MESSAGE, b".\r\n")
        assert (await busy.reply()).code == 250
        assert str(await busy.reply()).startswith("421 4.3.2 ")
        assert await busy.is_closed()
    assert await asyncio.to_thread(running.exit_status) == 0
    assert not running.children()
    assert not await is_served(running.port)
    assert [record["verdict"] for record in running.records()] == ["accepted"]
    assert "Traceback" not in running.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_whole_group_ends_it_cleanly(running: Process, number: signal.Signals):
    running.send_group(number)
    assert await asyncio.to_thread(running.exit_status) == 0
    assert not running.children()
    assert "Traceback" not in running.log


async def test_workers_do_not_outlive_their_supervisor(running: Process):
    assert running.children("smtp")
    assert running.children("journal")
    os.kill(running.pid, signal.SIGKILL)
    await eventually(lambda: not running.children())


@pytest.mark.parametrize("role", ["smtp", "journal"])
async def test_a_process_that_dies_is_replaced(running: Process, mta: FakeMTA, role: str):
    (died,) = running.children(role)
    os.kill(died, signal.SIGKILL)
    await eventually(lambda: [pid for pid in running.children(role) if pid != died])
    async with Client(running.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert "a process died and is started again" in running.log


async def test_two_workers_both_serve(mta: FakeMTA, tmp_path: Path):
    with Process(tmp_path, mta.address, workers=2) as running:
        first, second = running.children("smtp")
        # A worker that sleeps takes nobody; who is waiting is served by the other.
        for asleep in (first, second):
            os.kill(asleep, signal.SIGSTOP)
            try:
                async with Client(running.port) as client:
                    assert (await client.deliver(MESSAGE, U1)).code == 250
            finally:
                os.kill(asleep, signal.SIGCONT)


async def test_a_client_reset_before_it_is_accepted_leaves_nothing(running: Process, mta: FakeMTA):
    (worker,) = running.children("smtp")
    os.kill(worker, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", running.port)) as vanishing:
        vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.kill(worker, signal.SIGCONT)
    async with Client(running.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    running.send(signal.SIGTERM)
    assert await asyncio.to_thread(running.exit_status) == 0
    assert "Traceback" not in running.log


async def test_a_failed_handshake_is_counted_out_once(mta: FakeMTA, tmp_path: Path):
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    process = Process(tmp_path, mta.address)
    process.listener = f'tls_certificate = "{tmp_path}/both.pem"\ntls_key = "{tmp_path}/both.pem"\n'
    process.listener += "max_connections_per_client = 2\n"
    with process as running:
        async with Client(running.port) as first:
            for _ in range(3):
                async with Client(running.port) as failing:
                    assert (await failing.ask("STARTTLS")).code == 220
                    failing.say(b"No handshake\r\n")
                    await failing.rest()
            async with Client(running.port) as second, Client(running.port) as third:
                assert [str(each.banner)[:3] for each in (first, second, third)] == ["220", "220", "421"]
    assert "Traceback" not in running.log


async def test_sighup_brings_a_new_configuration(running: Process, mta: FakeMTA):
    (before,) = running.children("smtp")
    other = free_port()
    running.configure(f'[[listener]]\naddress = "127.0.0.1:{other}"\n')
    async with Client(running.port) as busy:
        await busy.open(U1)
        await busy.ask("DATA")
        running.send(signal.SIGHUP)
        await eventually(lambda: len(running.children("smtp")) == 2)
        busy.say(MESSAGE, b".\r\n")
        assert (await busy.reply()).code == 250
    await eventually(lambda: "the new configuration is in force" in running.log)
    assert await is_served(running.port)
    assert await is_served(other)
    # The old worker goes when its last session is over, and nobody waits for that.
    await eventually(lambda: before not in running.children("smtp"))


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("[nonsense]\n", "nonsense"),
        ("[policies.recipients]\ncolour = 1\n", "colour"),
        ('[[listener]]\naddress = "{taken}"\n', "Address already in use"),
    ],
)
async def test_a_bad_configuration_changes_nothing_and_says_why(
    running: Process, mta: FakeMTA, extra: str, complaint: str
):
    before = running.children()
    other = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        extra = extra.replace("{taken}", f"127.0.0.1:{taken.getsockname()[1]}")
        running.configure(f'[[listener]]\naddress = "127.0.0.1:{other}"\n{extra}')
        running.send(signal.SIGHUP)
        await eventually(lambda: "the old one stays" in running.log)
    (line,) = (line for line in running.log.splitlines() if "the old one stays" in line)
    assert complaint in line
    assert running.log.count(complaint) == 1
    async with Client(running.port) as client:
        assert (await client.deliver(MESSAGE, U1)).code == 250
    assert running.children() == before
    assert not await is_served(other)
    await eventually(lambda: is_free(other))


# Kills at any instant


class Sender:
    """Sends messages again and again until each is answered for good; remembers how each try ended."""

    def __init__(self, port: int, name: str) -> None:
        self._port = port
        self._name = name
        self.accepted: list[str] = []
        self.references: list[str] = []
        self.tries_without_reply: Counter[str] = Counter()

    async def send_until(self, enough: asyncio.Event) -> None:
        """One message after the other; between them a recipient who is refused."""
        number = 0
        while not enough.is_set():
            number += 1
            identity = f"<{number}.{self._name}@a.example>"
            while not await self._try(identity):
                pass

    async def _try(self, identity: str) -> bool:
        try:
            async with asyncio.timeout(20), Client(self._port) as client:
                refused, *_ = await client.open("x@victim.example", U1)
                self.references.append(refused.reference)
                answer = await self._data(client, identity)
        except (OSError, AssertionError):
            # Cut off; `_data` has counted it if that was after the end of data.
            return False
        if answer.code == 250:
            self.accepted.append(identity)
        elif answer.reference:
            self.references.append(answer.reference)
        return answer.code == 250

    async def _data(self, client: Client, identity: str) -> Answer:
        assert (await client.ask("DATA")).code == 354
        self.tries_without_reply[identity] += 1
        client.say(f"Message-ID: {identity}\r\n\r\nHello\r\n.\r\n".encode())
        answer = await client.reply()
        self.tries_without_reply[identity] -= 1
        return answer


def identity_of(content: bytes) -> str:
    found = re.search(rb"^Message-ID: (\S+)", content, re.MULTILINE)
    assert found is not None
    return found[1].decode()


async def test_kills_at_any_instant_lose_no_message_and_no_record(mta: FakeMTA, tmp_path: Path):
    with Process(tmp_path, mta.address, workers=2) as running:
        senders = [Sender(running.port, str(number)) for number in range(4)]
        enough = asyncio.Event()
        sending = [asyncio.create_task(sender.send_until(enough)) for sender in senders]
        for _ in range(8):
            handled = len(mta.messages)
            await eventually(lambda handled=handled: len(mta.messages) > handled + 5, 20)
            os.kill(random.choice(running.children("smtp")), signal.SIGKILL)
        enough.set()
        await asyncio.gather(*sending)
        running.send(signal.SIGTERM)
        assert await asyncio.to_thread(running.exit_status) == 0
        records = running.records()

    delivered = Counter(identity_of(message.content) for message in mta.messages)
    lost_replies = sum((sender.tries_without_reply for sender in senders), Counter())
    for identity in (identity for sender in senders for identity in sender.accepted):
        assert 1 <= delivered[identity] <= 1 + lost_replies[identity], identity
    for identity, copies in delivered.items():
        assert copies <= 1 + lost_replies[identity]
    recorded = {record["reference"] for record in records}
    assert {reference for sender in senders for reference in sender.references} <= recorded
    spoken = {identity for sender in senders for identity in sender.accepted}
    said = {record["message"]["message_id"] for record in records if record["verdict"] == "accepted"}
    assert spoken <= said
