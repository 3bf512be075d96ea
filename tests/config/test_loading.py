"""From a file to values: defaults, full use, and what may be written in several ways."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, load, parse
from gateway.config.schema import (
    KEYS_OF_A_MILTER,
    FilterSection,
    GatewaySection,
    JournalSection,
    ListenerSection,
    PoliciesSection,
    PolicySection,
    RelaySection,
)
from gateway.config.toml import toml_value

FILE = Path("/etc/sluicegate/sluicegate.toml")

SMALLEST = """
[gateway]
hostname = "mx.test"
[[listener]]
address = "127.0.0.1:2525"
[[relay]]
domains = ["example.com"]
address = ["127.0.0.1:10025"]
"""

MILTER = """
[gateway]
hostname = "mx.test"
[[listener]]
protocol = "milter"
address = "unix:/run/sluicegate/milter.sock"
socket_mode = "600"
"""

FULL = """
[gateway]
hostname = "mx.example.org"
state_directory = "/srv/sluicegate"
workers = 2
speak = "connect"
deadline = 30
max_message_size = 1000000

[[listener]]
protocol = "smtp"
address = "0.0.0.0:25"
bare_newline = "normalize"

[[listener]]
address = "[::]:25"

[[relay]]
domains = ["example.com", ".example.com", "[192.0.2.1]"]
address = ["127.0.0.1:10025", "unix:/run/postfix.sock"]
identify = "xforward"

[[relay]]
domains = ["*"]
address = ["mx2.example.org:25"]
identify = "none"

[filters.clamav]
address = "unix:/run/clamav/clamd.ctl"
timeout = 10
unavailable = "reject"
skipped = "tempfail"

[filters.dnsbl]
[filters.dnsbl.zones]
"zen.example.net" = 4

[policies]
directory = "/etc/sluicegate/policies"
order = ["recipients", "blocklist", "virus"]

[policies.virus]
mode = "warn"

[policies.blocklist]
reject_weight = 2.5

[journal]
index = "sqlite"
retention = 86400
"""


def read(text: str) -> Config:
    return parse(FILE, text.encode())


def test_everything_has_a_default_but_who_talks_to_whom():
    config = read(SMALLEST)
    assert config.gateway == GatewaySection(hostname="mx.test")
    assert config.gateway == GatewaySection(
        hostname="mx.test",
        state_directory="/var/lib/sluicegate",
        workers=0,
        speak="rcpt",
        deadline=60.0,
        max_message_size=52_428_800,
    )
    assert config.listener == (
        ListenerSection(protocol="smtp", address="127.0.0.1:2525", bare_newline="reject"),
    )
    assert config.relay == (
        RelaySection(domains=("example.com",), address=("127.0.0.1:10025",), identify="auto"),
    )
    assert config.filters == {}
    assert config.policies == PoliciesSection(directory="", order=("recipients",), settings={})
    assert config.journal == JournalSection(index="sqlite", retention=7_776_000)


def test_without_a_relay_policy_nobody_asked_for_it_is_asked_all_the_same():
    assert "recipients" in read(SMALLEST).policies.order


def test_everything_can_be_said():
    config = read(FULL)
    assert config.gateway == GatewaySection(
        hostname="mx.example.org",
        state_directory="/srv/sluicegate",
        workers=2,
        speak="connect",
        deadline=30.0,
        max_message_size=1_000_000,
    )
    assert [each.address for each in config.listener] == ["0.0.0.0:25", "[::]:25"]
    assert [each.bare_newline for each in config.listener] == ["normalize", "reject"]
    assert [each.identify for each in config.relay] == ["xforward", "none"]
    assert config.filters == {
        "clamav": FilterSection(
            timeout=10.0,
            unavailable="reject",
            skipped="tempfail",
            options={"address": "unix:/run/clamav/clamd.ctl"},
        ),
        "dnsbl": FilterSection(options={"zones": {"zen.example.net": 4}}),
    }
    assert config.policies.settings == {
        "virus": PolicySection(mode="warn"),
        "blocklist": PolicySection(options={"reject_weight": 2.5}),
    }
    assert config.journal.retention == 86_400
    assert (config.file, config.source) == (FILE, FULL.encode())


def test_a_milter_needs_no_relay():
    config = read(MILTER)
    assert config.relay == ()
    assert (config.listeners("smtp"), config.listeners("milter")) == ((), config.listener)


def test_a_milter_may_stand_beside_other_listeners_and_their_relay():
    config = read(SMALLEST + MILTER.partition('hostname = "mx.test"\n')[2])
    assert [each.protocol for each in config.listeners("smtp")] == ["smtp"]
    assert [each.protocol for each in config.listeners("milter")] == ["milter"]
    assert len(config.relay) == 1


@pytest.mark.parametrize("key", sorted(set(ListenerSection.__struct_fields__) - set(KEYS_OF_A_MILTER)))
def test_what_is_up_to_the_mta_is_refused_beside_a_milter_even_as_the_default(key: str):
    default = {field.name: field.default for field in msgspec.structs.fields(ListenerSection)}[key]
    value = toml_value(100 if default is None else default)
    with pytest.raises(ConfigError) as error:
        read(f"{MILTER}{key} = {value}\n")
    assert (error.value.section, error.value.key) == ("[[listener]]", key)
    assert 'does not go with protocol = "milter"' in error.value.problem


def test_without_a_hostname_it_is_the_machines():
    assert read(SMALLEST.replace('hostname = "mx.test"', "")).gateway.hostname


@pytest.mark.parametrize("relay", ["127.0.0.2:2525", "127.0.0.1:2526", "[::1]:2525", "unix:/127.0.0.1:2525"])
def test_a_neighbour_is_no_loop(relay: str):
    assert read(SMALLEST.replace("127.0.0.1:10025", relay)).relay[0].address == (relay,)


@pytest.mark.parametrize("relay", ["127.0.0.1:2525", "127.9.9.9:2525", "localhost:2525", "[::1]:2525"])
def test_a_listener_on_any_address_takes_what_is_sent_to_this_machine(relay: str):
    text = SMALLEST.replace("127.0.0.1:2525", "0.0.0.0:2525").replace("127.0.0.1:10025", relay)
    with pytest.raises(ConfigError, match="mail would loop"):
        read(text)


def test_an_error_knows_its_place():
    with pytest.raises(ConfigError) as error:
        read(SMALLEST + "[journal]\nretention = 0\n")
    assert (error.value.section, error.value.key) == ("[journal]", "retention")
    assert str(error.value) == f"{FILE}: [journal] retention: {error.value.problem}"


def test_a_file_is_read_from_disk(tmp_path: Path):
    file = tmp_path / "x.toml"
    file.write_text(FULL)
    assert load(file).gateway == read(FULL).gateway


toml_values = st.recursive(
    st.one_of(st.booleans(), st.integers(-5, 300), st.floats(), st.text(max_size=5), st.just("127.0.0.1:25")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    st.sampled_from(["hostname", "workers", "speak", "deadline", "max_message_size", "state_directory"]),
    toml_values,
)
def test_any_value_is_taken_or_refused_by_name(key: str, value: object):
    """Written as TOML by hand, for nothing but the reader is to be relied upon."""
    text = f"[gateway]\n{key} = {_toml(value)}\n" + SMALLEST.partition('hostname = "mx.test"\n')[2]
    config, error = _tried(text)
    if config is not None:
        assert getattr(config.gateway, key) == value or value == ""
    else:
        assert error is not None
        assert (error.section, error.key) == ("[gateway]", key)
        assert len(str(error).splitlines()) == 1


def _tried(text: str) -> tuple[Config | None, ConfigError | None]:
    try:
        return read(text), None
    except ConfigError as error:
        return None, error


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    raise TypeError(value)
