"""What the supervisor tells its processes: everything that was read, and nothing else is taken."""

from pathlib import Path

import msgspec
import pytest

from gateway.config import Config, load, parse, read_plugins
from gateway.roles import briefing

FILE = Path("/etc/sluicegate/sluicegate.toml")
TEXT = b"""
[gateway]
hostname = "mx.test"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["example.com"]
address = ["127.0.0.1:10025"]
"""


def unpack(octets: bytes) -> Config:
    assert octets.count(briefing.END) == 1
    return briefing.unpack(FILE, octets.removesuffix(briefing.END))


def test_text_and_plugins_arrive_as_they_were(tmp_path: Path):
    (tmp_path / "ä b.py").write_bytes(b"# coding: latin-1\nX = '\xe4\0'\n")
    text = TEXT + f'[policies]\ndirectory = "{tmp_path}"\n'.encode()
    (tmp_path / "sluicegate.toml").write_bytes(text)
    config = read_plugins(load(tmp_path / "sluicegate.toml"))
    assert [source.octets for source in config.plugins or ()] == [b"# coding: latin-1\nX = '\xe4\0'\n"]
    assert unpack(briefing.pack(config)) == msgspec.structs.replace(config, file=FILE)


def test_who_needs_no_plugins_is_given_none():
    config = parse(FILE, TEXT)
    assert unpack(briefing.pack(config)).plugins is None
    assert unpack(briefing.pack(read_plugins(config))).plugins == ()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        TEXT,
        b"{}",
        b'{"text": "", "plugins": null, "more": 1}',
        b'{"text": "", "plugins": [{"path": 1, "octets": ""}]}',
    ],
)
def test_anything_else_is_refused(octets: bytes):
    with pytest.raises(msgspec.DecodeError):
        briefing.unpack(FILE, octets)
