"""Documents say what the code does: generated ones are fresh, examples load, nothing is left out."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from gateway.assembly import assemble
from gateway.config import load, parse
from gateway.config.options import options_of
from gateway.config.schema import (
    Config,
    FilterSection,
    GatewaySection,
    JournalSection,
    ListenerSection,
    MetricsSection,
    PoliciesSection,
    PolicySection,
    ProfileSection,
    RelaySection,
)
from gateway.journal.record import STAGES, VERDICTS, Record
from gateway.metrics import exposition
from gateway.plugins.discovery import discover
from gateway.reference import EXAMPLE, PAGES, reference
from policies import Stage
from policies.header_sanity import Rule, header_sanity
from policies.verdict import TEXTS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIGURATION = DOCS / "configuration.md"

SECTIONS = {
    "[gateway]": GatewaySection,
    "[[listener]]": ListenerSection,
    "[[relay]]": RelaySection,
    "[filters.NAME]": FilterSection,
    "[policies]": PoliciesSection,
    "[policies.NAME]": PolicySection,
    "[[profile]]": ProfileSection,
    "[journal]": JournalSection,
    "[metrics]": MetricsSection,
}


def sections_of(page: Path) -> dict[str, str]:
    """The text under each heading of a Markdown page."""
    _, *parts = re.split(r"^#+ (.*)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_fresh(page: str):
    assert (DOCS / f"{page}.md").read_text(encoding="utf-8") == reference(page), "run: make docs"


@pytest.mark.parametrize(("heading", "kind"), SECTIONS.items(), ids=SECTIONS)
def test_every_key_is_explained(heading: str, kind: type[msgspec.Struct]):
    text = sections_of(CONFIGURATION)[f"`{heading}`"]
    for field in msgspec.structs.fields(kind):
        if field.name not in {"options", "settings"}:
            row = re.search(rf"^\| `{field.name}` \| (.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
            assert row, f"{heading} {field.name} is not in docs/configuration.md"
            assert all(cell.strip() for cell in row.groups())


def test_no_section_is_left_out():
    places = {heading.strip("[]").partition(".")[0] for heading in SECTIONS}
    assert places == set(Config.__struct_fields__) - {"file", "source", "plugins"}


def test_every_option_of_what_is_built_in_is_named():
    found = discover()
    texts = sections_of(CONFIGURATION)
    for name, found_filter in found.filters.items():
        for option in options_of(found_filter.load().__init__):
            assert f"| `{option}` |" in texts[f"`[filters.{name}]`"]
    texts = sections_of(DOCS / "policies.md")
    for name, found_policy in found.policies.items():
        for option in options_of(found_policy.load().function):
            assert f"| `{option}` |" in texts[name]


def test_every_rule_about_headers_has_its_figures():
    text = (DOCS / "policies.md").read_text(encoding="utf-8").partition("was measured on")[2]
    table = text.partition("\n## ")[0]
    for rule in get_args(Rule):
        row = re.search(rf"^\|.*`{rule}`.*\| (refuses?|marks) \| (\d+) \| (\d+) \|$", table, re.MULTILINE)
        assert row, rule
        verb = "marks" if rule in options_of(header_sanity.function)["only_mark"].default else "refuse"
        assert row[1].startswith(verb), rule
        assert verb == "marks" or row[2] == "0", rule


def test_the_complete_example_is_a_configuration():
    assert f"```toml\n{EXAMPLE}```\n" in CONFIGURATION.read_text(encoding="utf-8")
    assembly = assemble(parse(CONFIGURATION, EXAMPLE.encode()))
    assert tuple(setting.policy.name for setting in assembly.policies) == assembly.config.policies.order


def test_the_example_uses_everything_that_is_built_in():
    config = parse(CONFIGURATION, EXAMPLE.encode())
    found = discover()
    # Of filters that find the same, only one can be configured.
    kinds = {name: found.filters[name].load().finds for name in found.filters}
    assert {kinds[name] for name in config.filters} == set(kinds.values())
    assert set(config.policies.order) == set(found.policies)


def test_the_commented_configuration_starts_as_it_is():
    file = ROOT / "deploy" / "sluicegate.toml"
    assembly = assemble(load(file))
    assert [setting.policy.name for setting in assembly.policies] == ["recipients", "virus", "spam"]
    assert file.read_text(encoding="utf-8").count("(*)") == 3


def commented_out(text: str, section: str) -> str:
    """A section that is commented out, with those below it, as it would stand there."""
    found = re.search(rf"^# \[{re.escape(section)}\]\n(?:# .*\n)+", text, re.MULTILINE)
    assert found, section
    return re.sub(r"^# ", "", found[0], flags=re.MULTILINE)


def test_what_is_commented_out_in_it_would_load():
    text = (ROOT / "deploy" / "sluicegate.toml").read_text(encoding="utf-8")
    order = re.search(r"^# order = \[\n(?:# .*\n)+", text, re.MULTILINE)
    assert order
    lists = text.replace('order = ["recipients", "virus", "spam"]\n', order[0].replace("# ", ""))
    policies = re.findall(r"^# \[(policies\.\w+)\]$", text, re.MULTILINE)
    for section in ("filters.dnsbl", "filters.rspamd", "filters.attachments", *policies):
        lists += re.sub(r'"/etc/sluicegate/\w+"', '["@example.net"]', commented_out(text, section))
    assembly = assemble(parse(CONFIGURATION, lists.encode()))
    assert {"attachments", "dnsbl", "rspamd"} <= set(assembly.config.filters)
    assert set(assembly.config.policies.order) == set(discover().policies)


def test_another_virus_scanner_may_stand_in_for_clamd_in_it():
    text = (ROOT / "deploy" / "sluicegate.toml").read_text(encoding="utf-8")
    start, end = text.index("[filters.clamav]"), text.index("[filters.spamassassin]")
    other = text[:start] + commented_out(text, "filters.icap") + text[end:]
    assert "icap" in assemble(parse(CONFIGURATION, other.encode())).config.filters


def test_a_milter_may_be_the_only_listener_in_it():
    text = (ROOT / "deploy" / "sluicegate.toml").read_text(encoding="utf-8")
    start, end = text.index("\n[[listener]]"), text.index("\n[filters.clamav]")
    config = parse(
        CONFIGURATION, (text[: start + 1] + commented_out(text, "[listener]") + text[end:]).encode()
    )
    assert (len(config.listeners("milter")), config.listeners("smtp"), config.relay) == (1, (), ())
    assemble(config)


def test_the_steps_behind_postfix_have_all_of_its_settings():
    settings = re.sub(r"(?m)^(#.*)?\n", "", (ROOT / "deploy/postfix/milter.cf").read_text(encoding="utf-8"))
    assert f"```text main.cf\n{settings}```\n" in (DOCS / "behind-postfix.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("reason", TEXTS)
def test_every_reason_is_explained(reason: str):
    for page in ("configuration.md", "journal.md"):
        assert f"`{reason}`" in (DOCS / page).read_text(encoding="utf-8"), f"{reason} is not in docs/{page}"


@pytest.mark.parametrize("word", [*Record.__struct_fields__, *VERDICTS, *STAGES])
def test_every_word_of_a_record_is_explained(word: str):
    assert f"`{word}`" in (DOCS / "journal.md").read_text(encoding="utf-8")


def test_every_metric_is_explained():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(exposition.NAMES)


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_is_in_the_reference_for_policy_authors(stage: Stage):
    assert f"Stage.{stage.name}" in (DOCS / "policy-api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page", sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")]), ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} points to {target}"


def named_tests(page: Path) -> Iterator[tuple[Path, str]]:
    """Each test or transcript in code spans, in order: its file, and its function or nothing."""
    file = ROOT
    for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        if re.fullmatch(r"([a-z]+/)*test_\w+\.py|dialogs/[\w-]+\.smtp", span):
            file = ROOT / "tests" / span
            yield file, ""
        elif re.fullmatch(r"test_\w+", span):
            yield file, span


@pytest.mark.parametrize("name", ["failure-modes.md", "specifications.md"])
def test_every_test_that_is_named_is_there(name: str):
    named = list(named_tests(DOCS / name))
    assert len(named) > 50
    for file, function in named:
        assert file.is_file(), file
        assert not function or f"def {function}(" in file.read_text(encoding="utf-8"), (file, function)


def test_no_claim_about_a_specification_is_without_a_test():
    text = (DOCS / "specifications.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    for row in rows:
        assert re.search(r"`(?:[a-z/]*test_\w+(?:\.py)?|dialogs/[\w-]+\.smtp)`[^|]* \|$", row), row
