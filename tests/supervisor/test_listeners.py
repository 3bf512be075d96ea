"""Listeners of every kind in the real process: Unix sockets, and sockets that systemd has opened."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import IO

from tests.client import Client
from tests.fakes.mta import FakeMTA
from tests.supervisor.process import Process
from tests.waiting import soon

MESSAGE = b"Subject: x\r\n\r\nHello\r\n"
U1 = "u1@our.example"
# What systemd does before it starts a service: the socket as descriptor 3, and variables about it.
_AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="mx")
os.execv(sys.executable, [sys.executable, "-m", "gateway", "run", "--config", sys.argv[2]])
"""


def say(path: Path, *lines: str) -> list[str]:
    """A session over a Unix socket, one line after the other; the last line of each reply."""
    said = []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        with client.makefile("rwb") as stream:
            for line in [None, *lines]:
                if line is not None:
                    stream.write(line.encode() + b"\r\n")
                    stream.flush()
                reply = stream.readline()
                while reply[3:4] == b"-":
                    reply = stream.readline()
                said.append(reply.decode().strip())
    return said


def start_as_systemd(opened: socket.socket, file: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _AS_SYSTEMD, str(opened.fileno()), str(file)],
        stdout=log,
        stderr=log,
        pass_fds=[opened.fileno()],
        start_new_session=True,
    )


async def test_a_unix_socket_is_served_and_survives_a_reload(mta: FakeMTA, tmp_path: Path):
    path = tmp_path / "lmtp"
    process = Process(tmp_path, mta.address)
    process.extra = f'[[listener]]\nprotocol = "lmtp"\naddress = "unix:{path}"\nsocket_mode = "600"\n'
    with process as running:
        assert f" lmtp:unix:{path}\n" in running.log
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for _ in range(2):
            mail = ["LHLO c.example", "MAIL FROM:<s@a.example>", f"RCPT TO:<{U1}>", "DATA", "Subject: x\r\n."]
            banner, *_, decisive = say(path, *mail)
            assert banner == "220 mx.our.example LMTP Sluicegate"
            assert decisive.startswith("250 ")
            running.send(signal.SIGHUP)
            soon(lambda: "the new configuration is in force" in running.log)
        assert {record["client"]["address"] for record in running.records()} == {"127.0.0.1"}
    assert len(mta.messages) == 2


async def test_a_socket_that_systemd_opened_is_served(mta: FakeMTA, tmp_path: Path):
    process = Process(tmp_path, mta.address)
    process.configure()
    file = tmp_path / "sluicegate.toml"
    file.write_text(file.read_text().replace(f"127.0.0.1:{process.port}", "systemd:mx"))
    with socket.create_server(("127.0.0.1", 0)) as opened, (tmp_path / "log").open("wb") as log:
        started = start_as_systemd(opened, file, log)
        try:
            soon(lambda: "ready smtp:systemd:mx" in process.log, 30)
            async with Client(opened.getsockname()[1]) as client:
                assert (await client.deliver(MESSAGE, U1)).code == 250
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            started.wait(30)
    assert started.returncode == 0
    assert len(mta.messages) == 1
