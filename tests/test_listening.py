"""Sockets to listen on: TCP, Unix, and those that systemd has opened."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from gateway.config import ConfigError
from gateway.listening import bind, cannot_listen


def test_a_unix_socket_has_the_permissions_that_were_asked_for(tmp_path: Path):
    path = tmp_path / "lmtp"
    with bind(f"unix:{path}", "620"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert stat.S_ISSOCK(path.stat().st_mode)


def test_a_unix_socket_that_nobody_listens_on_is_replaced(tmp_path: Path):
    path = tmp_path / "lmtp"
    bind(f"unix:{path}", "660").close()
    with bind(f"unix:{path}", "660") as again, socket.socket(socket.AF_UNIX) as client:
        again.listen()
        client.connect(str(path))


def test_a_unix_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path):
    address = f"unix:{tmp_path / 'lmtp'}"
    with bind(address, "660") as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="cannot be listened on: Address already in use"):
            bind(address, "660")


def test_a_file_in_the_way_is_left_alone(tmp_path: Path):
    path = tmp_path / "lmtp"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="Address already in use"):
        bind(f"unix:{path}", "660")
    assert path.read_text() == "precious"


def test_a_directory_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file or directory"):
        bind(f"unix:{tmp_path / 'none' / 'lmtp'}", "660")


def test_only_a_port_is_reserved_for_root():
    denied = PermissionError(errno.EACCES, "")
    assert str(cannot_listen("0.0.0.0:25", denied)).endswith("need root or CAP_NET_BIND_SERVICE")
    assert str(cannot_listen("unix:/run/milter", denied)).endswith("listened on: Permission denied")


@pytest.fixture
def inherited(monkeypatch: pytest.MonkeyPatch):
    """Two sockets as systemd passes them, the second called `mx`."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        numbers = sorted((first.fileno(), second.fileno()))
        monkeypatch.setattr("gateway.listening._FIRST_INHERITED", numbers[0])
        assert numbers == [numbers[0], numbers[0] + 1]
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "2")
        monkeypatch.setenv("LISTEN_FDNAMES", "other:mx")
        yield max((first, second), key=socket.socket.fileno)


def test_a_socket_that_systemd_opened_is_found_by_its_name(inherited: socket.socket):
    with bind("systemd:mx", "660") as found:
        assert found.getsockname() == inherited.getsockname()


def test_a_name_that_systemd_does_not_know(inherited: socket.socket):
    with pytest.raises(ConfigError, match="systemd:none cannot be listened on: systemd passed no"):
        bind("systemd:none", "660")


def test_sockets_for_another_process_are_not_ours(inherited: socket.socket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LISTEN_PID", "1")
    with pytest.raises(ConfigError, match="systemd:mx cannot be listened on: systemd passed no"):
        bind("systemd:mx", "660")
