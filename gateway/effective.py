"""The configuration as it is in force, every default filled in, in TOML."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.assembly import Assembly
from gateway.config.options import options_of
from gateway.config.schema import KEYS_OF_A_MILTER, ListenerSection, PolicySection
from gateway.config.toml import toml_key, toml_value


def effective(assembly: Assembly) -> str:
    """The whole configuration as a TOML text that could be its own configuration file."""
    return "\n".join(_lines(assembly)) + "\n"


def _lines(assembly: Assembly) -> Iterator[str]:
    config = assembly.config
    yield from _section("[gateway]", msgspec.structs.asdict(config.gateway))
    for listener in config.listener:
        yield from _section("[[listener]]", _keys(listener))
    for relay in config.relay:
        yield from _section("[[relay]]", msgspec.structs.asdict(relay))
    for setting in assembly.filters:
        found = config.filters.get(setting.filter.name)
        if found is not None:
            common = msgspec.structs.asdict(found)
            options = _defaults(type(setting.filter).__init__) | common.pop("options")
            yield from _section(f"[filters.{toml_key(setting.filter.name)}]", common | options)
    policies = msgspec.structs.asdict(config.policies)
    del policies["settings"]
    yield from _section("[policies]", policies)
    asked = {setting.policy.name: setting.policy for setting in assembly.policies}
    for name in dict.fromkeys([*config.policies.order, *config.policies.settings]):
        section = config.policies.settings.get(name, PolicySection())
        defaults = _defaults(asked[name].function) if name in asked else {}
        common = {"mode": section.mode, "on_error": section.on_error}
        yield from _section(f"[policies.{toml_key(name)}]", {**common, **defaults, **section.options})
    for profile in config.profile:
        yield from _section("[[profile]]", {"recipients": profile.recipients})
        for name, overrides in profile.settings.items():
            values = {"mode": overrides.mode, "on_error": overrides.on_error, **overrides.options}
            yield from _section(f"[profile.policies.{toml_key(name)}]", values)
    yield from _section("[journal]", msgspec.structs.asdict(config.journal))
    if config.metrics is not None:
        yield from _section("[metrics]", msgspec.structs.asdict(config.metrics))


def _keys(listener: ListenerSection) -> dict[str, Any]:
    keys = msgspec.structs.asdict(listener)
    return {key: keys[key] for key in KEYS_OF_A_MILTER} if listener.role == "milter" else keys


def _defaults(function: Any) -> dict[str, Any]:
    return {name: option.default for name, option in options_of(function).items() if not option.required}


def _section(heading: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield heading
    for key, value in values.items():
        if value is not None:
            yield f"{toml_key(key)} = {toml_value(value)}"
    yield ""
