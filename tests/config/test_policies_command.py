"""`sluicegate policies`: everything found, asked or not."""

import os
from pathlib import Path

import pytest

from tests.config.command import sluicegate


def rows(output: str) -> dict[str, str]:
    """The lines by their first word, blanks made single."""
    return {line.split()[0]: " ".join(line.split()) for line in output.splitlines() if line}


@pytest.fixture
def listed(home: Path) -> dict[str, str]:
    result = sluicegate(home, "policies", "--config", "sluicegate.toml")
    assert (result.returncode, result.stderr) == (os.EX_OK, "")
    return rows(result.stdout)


def test_policies_stand_in_the_order_they_are_asked_then_the_others(listed: dict[str, str]):
    names = list(listed)
    assert names[:5] == ["POLICY", "helo", "recipients", "subject", "frost"]
    others = names[5 : names.index("FILTER")]
    assert others == sorted(others)
    assert {"blocklist", "spam", "virus"} < set(others)


def test_each_says_when_it_is_asked_and_what_it_needs(home: Path, listed: dict[str, str]):
    plugins = home / "plugins"
    assert listed["helo"] == f'helo helo - enforce ours=["mx.test"] {plugins}/helo.py:6'
    assert listed["frost"] == f"frost end-of-data Weather enforce below=0.0 {plugins}/weather.py:27"
    assert (
        listed["recipients"] == "recipients rcpt Route enforce - policies.recipients:recipients (sluicegate)"
    )
    assert listed["spam"].startswith(
        "spam end-of-data SpamReport?, RspamdReport? not in order reject_score=8.0, mark_score=5.0, rspamd_"
    )


def test_filters_say_what_they_find_and_whether_they_are_used(home: Path, listed: dict[str, str]):
    assert listed["thermometer"] == (
        f"thermometer end-of-data Weather yes place: a string, offset: a number {home}/plugins/weather.py:14"
    )
    assert listed["clamav"].startswith(
        "clamav end-of-data VirusReport no address: a string or a list of strings"
    )
    assert listed["dnsbl"].startswith("dnsbl connect Listings no zones: ")


def test_the_operators_settings_are_shown(home: Path):
    with (home / "sluicegate.toml").open("a") as config:
        config.write('[policies.subject]\nmode = "warn"\nword = "monday"\n[policies.frost]\nmode = "off"\n')
    listed = rows(sluicegate(home, "policies", "--config", "sluicegate.toml").stdout)
    assert listed["subject"].startswith('subject end-of-data - warn word="monday" ')
    assert listed["frost"].startswith("frost end-of-data Weather off below=0.0 ")
