"""The effective configuration: complete, and a configuration itself."""

import math
import os
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assembly import Assembly, assemble
from gateway.config import Config, load, parse
from gateway.config.schema import PolicySection
from gateway.effective import effective
from gateway.filesets import FileSets
from gateway.pipeline import Pipeline
from gateway.profiles import Profile, Profiles
from gateway.relay.router import Router
from tests.config.command import sluicegate
from tests.config.test_loading import FILE, FULL, MILTER, SMALLEST

NOBODY = Profiles(Profile(Pipeline((), ())))


def read(text: str) -> Config:
    return parse(FILE, text.encode())


@pytest.fixture
def config(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with everything in it that a plugin or an operator can bring along."""
    monkeypatch.chdir(home)
    file = home / "sluicegate.toml"
    with file.open("a") as extended:
        extended.write(
            '[policies.helo]\nours = ["mx.test", "q\\"uote", "back\\\\slash", "\\u0001\\u007f"'
            ', "\\U0001F600"]\n'
            '[policies.subject]\nmode = "off"\nword = "x"\n'
            "[policies.frost]\nbelow = -inf\n"
            "[policies.spam]\nreject_score = 12\n"
            '[filters.dnsbl.zones]\n"zen.example.net" = {codes = {"127.0.0.2" = 3}, weight = -1}\n'
        )
    return file


def test_check_config_prints_it(config: Path):
    result = sluicegate(config.parent, "check-config", "--config", str(config))
    assert (result.returncode, result.stderr) == (os.EX_OK, "")
    assert result.stdout == effective(assemble(load(config)))


def test_who_can_throw_mail_away_is_named(home: Path):
    plugin = home / "plugins" / "subject.py"
    plugin.write_text(plugin.read_text().replace("reject", "discard"))
    result = sluicegate(home, "check-config", "--config", "sluicegate.toml")
    what = "mail that was accepted from the client is thrown away, and nobody is told"
    assert result.returncode == os.EX_OK
    assert result.stderr == f"policy subject can discard mail: {what} ({plugin}:6)\n"


def test_it_says_the_same_as_the_file(config: Path):
    before = assemble(load(config))
    after = assemble(parse(config, effective(before).encode()))
    assert effective(after) == effective(before)
    for name in ("gateway", "listener", "relay", "journal"):
        assert getattr(after.config, name) == getattr(before.config, name)
    assert after.config.policies.order == before.config.policies.order
    assert [setting.policy.name for setting in after.policies] == ["helo", "recipients", "frost"]
    assert [setting.enforced for setting in after.policies] == [
        setting.enforced for setting in before.policies
    ]


def test_every_default_is_in_it(config: Path):
    tables = tomllib.loads(effective(assemble(load(config))))
    assert tables["gateway"]["deadline"] == 60.0
    assert tables["listener"][0]["bare_newline"] == "reject"
    assert tables["filters"]["thermometer"] == {
        "timeout": 30.0,
        "unavailable": "tempfail",
        "skipped": "accept",
        "place": "roof",
        "offset": 0.0,
    }
    assert tables["filters"]["dnsbl"]["query_timeout"] == 2.0
    assert tables["policies"]["recipients"] == {"mode": "enforce", "on_error": "tempfail"}
    assert tables["policies"]["frost"] == {"mode": "enforce", "on_error": "tempfail", "below": -math.inf}


def test_what_is_switched_off_stays_switched_off(config: Path):
    policies = tomllib.loads(effective(assemble(load(config))))["policies"]
    assert policies["subject"] == {"mode": "off", "on_error": "tempfail", "word": "x"}
    assert policies["spam"] == {"mode": "enforce", "on_error": "tempfail", "reject_score": 12}
    assert policies["order"] == ["helo", "recipients", "subject", "frost"]


def test_the_smallest_and_the_fullest_configuration(tmp_path: Path):
    for text in (SMALLEST, MILTER, FULL.replace("/etc/sluicegate/policies", str(tmp_path))):
        shown = effective(assemble(read(text)))
        assert effective(assemble(read(shown))) == shown


toml_values = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1), toml_values, max_size=5))
def test_any_value_is_written_as_toml_reads_it(options: dict[str, object]):
    for common in ("mode", "on_error"):
        options.pop(common, None)
    config = read(SMALLEST)
    settings = {"mine": PolicySection(mode="off", on_error="accept", options=options)}
    policies = msgspec.structs.replace(config.policies, settings=settings)
    shown = effective(
        Assembly(
            msgspec.structs.replace(config, policies=policies),
            (),
            (),
            NOBODY,
            Router([]),
            FileSets(FILE.parent),
        )
    )
    assert tomllib.loads(shown)["policies"]["mine"] == {"mode": "off", "on_error": "accept", **options}
