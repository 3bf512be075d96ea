"""Writes docs/configuration.md and docs/policies.md from the schema and from signatures.

`make docs` after a change to any of them; a test compares what is there.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from filters.base import Filter
from filters.evidence import Finding
from gateway.config.options import describe, options_of
from gateway.config.schema import (
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
from gateway.config.toml import toml_value
from gateway.guide import ABOUT_POLICIES, HEADER_RULES, ORDER_OF_POLICIES
from gateway.plugins.discovery import discover
from policies.policy import Policy
from policies.verdict import TEXTS

_INTRODUCTION = """\
# Configuration

One file in TOML, by default `/etc/sluicegate/sluicegate.toml`; every command takes `--config FILE`.
Durations are numbers of seconds, sizes are octets. A relative path is relative to the directory the
command is started in; that of a file with a set in it (an option of your own policies and filters), to the
directory of the configuration file.

Whatever is wrong with it is said in one line on standard error, with exit status 78 (`EX_CONFIG`), before
any mail is taken:

    FILE: [section] key: what is wrong and what is allowed
    sluicegate.toml: [gateway] workers: "many" will not do; allowed: a whole number from 0 up to 256

An unknown section or key is an error, and so are a policy nobody has heard of, a policy that needs what
no filter finds, and options that a policy or filter does not have. `sluicegate check-config` validates
the file and prints the configuration in force with every default filled in, as TOML; with `--live` it
asks every scanner, list and downstream as well. `sluicegate policies` lists every policy and filter with
its options. SIGHUP loads the file again; if there is something wrong with it, the old configuration stays
in force. Changed plugins are loaded without a signal (`[policies] reload`).

The policies that come with it, and their options, have a page of their own: [policies.md](policies.md).

This page is generated from the source (`python -m gateway.reference`).

## A complete example

Two listeners and a milter, two downstreams, all built-in policies, and a filter for everything that can be
found. Only `[[listener]]` with its address and `[[relay]]` with its domains and addresses are required, and
`[[relay]]` is not where every listener is a milter.
[deploy/sluicegate.toml](../deploy/sluicegate.toml) is a commented one to begin with.
"""

EXAMPLE = """\
[gateway]
hostname = "mx.example.org"
state_directory = "/var/lib/sluicegate"
speak = "rcpt"
deadline = 60

[[listener]]
address = "0.0.0.0:25"

[[listener]]
address = "[::1]:2525"
bare_newline = "normalize"

[[listener]]
protocol = "milter"
address = "unix:/run/sluicegate/milter.sock"

[[relay]]
domains = ["example.com", ".example.com"]
address = ["127.0.0.1:10025", "192.0.2.7:10025"]

[[relay]]
domains = ["example.net"]
address = ["unix:/run/other-mta/smtp.sock"]
identify = "none"

[filters.clamav]
address = "unix:/run/clamav/clamd.ctl"

[filters.spamassassin]
address = ["127.0.0.1:783", "192.0.2.8:783"]
timeout = 20
unavailable = "accept"

[filters.rspamd]
address = "127.0.0.1:11333"
unavailable = "accept"

[filters.dnsbl]
unavailable = "accept"
timeout = 5

[filters.dnsbl.zones]
"zen.example.net" = 4
"allow.example.net" = -4
"combined.example.net" = { codes = { "127.0.0.2" = 3, "127.0.0.10" = 1 } }

[filters.attachments]
max_depth = 4
unavailable = "accept"

[policies]
order = [
    "allowed_clients", "blocked_clients", "blocklist",
    "allowed_senders", "blocked_senders",
    "recipients", "blocked_recipients", "allowed_recipients", "backscatter",
    "header_sanity", "virus", "attachments", "spam", "bulk",
]

[policies.allowed_clients]
clients = ["198.51.100.0/24", "2001:db8::25"]

[policies.blocked_clients]
clients = ["203.0.113.0/24"]

[policies.blocklist]
reject_weight = 3.0

[policies.allowed_senders]
senders = ["anna@example.org", "@partner.example.org"]
clients = ["192.0.2.0/24"]

[policies.blocked_senders]
senders = ["@junk.example.org", "@.junk.example.org"]

[policies.blocked_recipients]
recipients = ["former.employee@example.com"]

[policies.allowed_recipients]
recipients = ["abuse@example.com"]

[policies.backscatter]
senders = ["sales@example.com", "@shop.example.com"]

[policies.header_sanity]
ignore = ["missing-date"]

[policies.attachments]
macros = "quarantine"
encrypted = "mark"

[policies.bulk]
subject_prefix = "[Bulk]"

[policies.spam]
reject_score = 8.0
mark_score = 5.0
mode = "warn"

[[profile]]
recipients = ["sales@example.com", "@shop.example.com"]
[profile.policies.spam]
reject_score = 12.0

[journal]
retention = 7776000

[metrics]
address = "127.0.0.1:9125"
"""


def reference(page: str = "configuration") -> str:
    """A whole page, in Markdown. Raises KeyError for one that is not generated."""
    return "\n".join(PAGES[page]()).rstrip("\n") + "\n"


def _configuration() -> Iterator[str]:
    yield _INTRODUCTION
    yield from _code(EXAMPLE)
    yield from _section("[gateway]", GatewaySection)
    yield from _section("[[listener]]", ListenerSection)
    yield from _section("[[relay]]", RelaySection)
    yield from _section("[filters.NAME]", FilterSection)
    for name, plugin in sorted(discover().filters.items()):
        if _is_built_in(plugin.load()):
            yield from _filter(name, plugin.load())
    yield from _section("[policies]", PoliciesSection)
    yield from _section("[policies.NAME]", PolicySection)
    yield from _section("[[profile]]", ProfileSection)
    yield from _section("[journal]", JournalSection)
    yield from _section("[metrics]", MetricsSection)
    yield from _texts()


def _code(text: str) -> Iterator[str]:
    yield "```toml"
    yield text.rstrip("\n")
    yield "```"
    yield ""


def _is_built_in(plugin: Policy | type[Filter]) -> bool:
    return plugin.__module__.partition(".")[0] in {"filters", "policies"}


def _policies() -> Iterator[str]:
    built_in = {
        name: found.load()
        for name, found in sorted(discover().policies.items())
        if _is_built_in(found.load())
    }
    yield ABOUT_POLICIES
    rows = ([f"[`{name}`](#{name})", each.stage.value, _summary(each)] for name, each in built_in.items())
    yield from _table(["policy", "at", "what for"], rows)
    yield ORDER_OF_POLICIES
    yield from _table(["rule", "does", "good", "spam"], map(list, HEADER_RULES))
    for name, policy in built_in.items():
        yield from _policy(name, policy)


# Sections


def _section(heading: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    yield f"## `{heading}`"
    yield ""
    yield inspect.cleandoc(kind.__doc__ or "")
    yield ""
    yield from _table(
        ["key", "allowed", "default", "meaning"],
        (_key(field) for field in msgspec.structs.fields(kind) if field.name not in {"options", "settings"}),
    )


def _key(field: msgspec.structs.FieldInfo) -> list[str]:
    default = _default(field.required, field.default)
    return [f"`{field.name}`", describe(field.type), default, _description(field.type)]


def _description(kind: Any) -> str:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.Metadata), f"{kind} is not described"
    assert info.extra_json_schema is not None
    return str(info.extra_json_schema["description"])


def _filter(name: str, kind: type[Filter]) -> Iterator[str]:
    yield f"### `[filters.{name}]`"
    yield ""
    yield inspect.cleandoc(kind.__doc__ or "")
    yield ""
    yield f"Finds `{kind.finds.__name__}`, from {kind.stage.value} on."
    yield ""
    yield from _options(kind.__init__)


def _policy(name: str, policy: Policy) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield _about(policy)
    yield ""
    yield inspect.cleandoc(policy.__doc__ or "")
    yield ""
    needs = f"Asked at {policy.stage.value}, needs {_names(policy.needs)}"
    yield f"{needs}, wants {_names(policy.wants)}." if policy.wants else f"{needs}."
    yield ""
    yield from _options(policy.function)


def _about(policy: Policy) -> str:
    return inspect.cleandoc(sys.modules[policy.__module__].__doc__ or "")


def _summary(policy: Policy) -> str:
    return _about(policy).partition("\n")[0]


def _names(kinds: Iterable[type[Finding]]) -> str:
    return " and ".join(f"`{kind.__name__}`" for kind in kinds) or "no evidence"


def _options(function: Callable[..., Any]) -> Iterator[str]:
    options = options_of(function)
    if not options:
        yield "No options of its own."
        yield ""
        return
    rows = (
        [f"`{name}`", describe(option.type), _default(option.required, option.default)]
        for name, option in options.items()
    )
    yield from _table(["key", "allowed", "default"], rows)


def _default(required: bool, default: Any) -> str:
    if required:
        return "required"
    return "none" if default is None else f"`{toml_value(default)}`"


def _texts() -> Iterator[str]:
    yield "## What clients are told"
    yield ""
    yield "Where a refusal brings no text of its own, it is this one, by its reason. It says no more than a"
    yield "stranger may know; the record does ([journal.md](journal.md))."
    yield ""
    yield from _table(["reason", "text"], ([f"`{reason}`", text] for reason, text in TEXTS.items()))


def _table(header: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


PAGES: dict[str, Callable[[], Iterator[str]]] = {"configuration": _configuration, "policies": _policies}

if __name__ == "__main__":
    sys.stdout.write(reference(*sys.argv[1:]))
