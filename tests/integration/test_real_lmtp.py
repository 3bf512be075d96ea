"""LMTP with Postfix's own test programs on either side."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy.demo.daemons import LOOPBACK, ChildDaemon, dialogue, find_program, free_port
from tests.supervisor.process import Process

MESSAGES, RECIPIENTS = 20, 5


class Store(ChildDaemon):
    """smtp-sink as an LMTP server, which takes everything."""

    name = "smtp-sink"

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"{LOOPBACK}:{self.port}"

    def configure(self) -> None:
        """It has no configuration."""

    def command(self) -> Sequence[str]:
        """It refuses to run as root."""
        return ["smtp-sink", "-L", *(["-u", "nobody"] if os.getuid() == 0 else []), self.address, "100"]

    def is_ready(self) -> bool | None:
        """It greets."""
        return dialogue(self.port, b"").startswith(b"220 ") or None


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store() as daemon:
        yield daemon


def test_postfix_programs_speak_lmtp_through_the_gateway(store: Store, tmp_path: Path):
    """Every message with several recipients, a reply for each, over a Unix socket."""
    path = tmp_path / "lmtp"
    process = Process(tmp_path, "127.0.0.1:1")
    process.extra = (
        f'[[listener]]\nprotocol = "lmtp"\naddress = "unix:{path}"\n'
        f'[[relay]]\nprotocol = "lmtp"\ndomains = ["store.example"]\naddress = ["{store.address}"]\n'
    )
    with process as running:
        command = [find_program("smtp-source"), "-L", "-s", "2", "-m", str(MESSAGES), "-r", str(RECIPIENTS)]
        command += ["-f", "s@a.example", "-t", "u@store.example", f"unix:{path}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        records = running.records()
    assert {record["verdict"] for record in records} == {"accepted"}
    assert [len(record["recipients"]) for record in records] == [RECIPIENTS] * MESSAGES
    assert "Traceback" not in running.log
