"""From a configuration to the things that work: filters, policies, pipeline, router.

What must agree between sections is checked here, where everything is known: policies exist, what
they need is found by a configured filter and in time, options fit their signatures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from filters.base import Filter
from filters.evidence import Finding
from filters.route import Routes
from gateway.config import RESERVED, Config, ConfigError, read_plugins
from gateway.config.defaults import check_defaults
from gateway.config.options import OptionError, meant, options_of, read_options
from gateway.config.schema import FilterSection, PoliciesSection, PolicySection, ProfileSection
from gateway.config.toml import toml_value
from gateway.filesets import FileSets
from gateway.joining import Joiner
from gateway.pipeline import FilterSetting, Pipeline, PolicySetting
from gateway.plugins.discovery import Plugin, PluginError, Plugins, discover
from gateway.plugins.fingerprint import fingerprint_of
from gateway.profiles import Profile, Profiles
from gateway.relay.router import Destination, Router
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.transaction import Stage
from gateway.watch import Caller, Plainly
from policies.policy import Policy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Assembly:
    """A configuration put together. `filters` includes the relay table's own."""

    config: Config
    filters: tuple[FilterSetting, ...]
    policies: tuple[PolicySetting, ...]
    profiles: Profiles
    router: Router
    files: FileSets

    async def close(self) -> None:
        """Let the filters give back what they hold."""
        for setting in self.filters:
            await setting.filter.close()


def find_plugins(config: Config) -> Plugins:
    """Everything installed and everything in the configured directory. Raises ConfigError."""
    try:
        found = discover(read_plugins(config).plugins or ())
    except PluginError as error:
        raise ConfigError("[policies]", "directory", str(error), config.file) from error
    for name in RESERVED & found.policies.keys():
        problem = f"{found.policies[name].origin}: no policy can be called {name!r}, as a key here is"
        raise ConfigError("[policies]", "directory", problem, config.file)
    return found


def assemble(config: Config, caller: Caller | None = None) -> Assembly:
    """Put a configuration together; policies are called by `caller`. Raises ConfigError."""
    plugins = find_plugins(config)
    router = router_of(config)
    files = FileSets(config.file.parent)
    try:
        filters = (*_filters(config, plugins, files), _routes(router))
        policies = tuple(_policies(config.policies, plugins, files))
        _check_needs(policies, filters, plugins)
        profiles = _profiles(config, plugins, policies, filters, files, caller or Plainly())
    except ConfigError as error:
        raise error.in_file(config.file) from None
    return Assembly(config, filters, policies, profiles, router, files)


def router_of(config: Config) -> Router:
    """The relay table."""
    return Router(
        [
            Destination(
                relay.domains,
                tuple(replace(Endpoint.parse(each), lmtp=relay.protocol == "lmtp") for each in relay.address),
                relay.identify,
                relay.tls,
            )
            for relay in config.relay
        ]
    )


def _routes(router: Router) -> FilterSetting:
    """The relay table as evidence, for the policy that keeps this from being an open relay.

    Where there is none the MTA in front relays, and knows for whom.
    """
    domains = [domain for destination in router.destinations for domain in destination.domains]
    return FilterSetting(Routes(domains or ["*"]))


# Filters


def _filters(config: Config, plugins: Plugins, files: FileSets) -> Iterator[FilterSetting]:
    for name, section in config.filters.items():
        where = f"[filters.{name}]"
        if name not in plugins.filters:
            raise ConfigError(where, "", f"no such filter; {meant(name, plugins.filters)}")
        kind = _load(where, plugins.filters[name])
        yield FilterSetting(
            _build(where, kind, section, files), section.timeout, section.unavailable, section.skipped
        )


def _build(where: str, kind: type[Filter], section: FilterSection, files: FileSets) -> Filter:
    common = tuple(key for key in FilterSection.__struct_fields__ if key != "options")
    options = _options(where, section.options, kind.__init__, files, common)
    try:
        return kind(**options)
    except ValueError as error:
        raise ConfigError(where, "", str(error)) from None
    except Exception as error:
        raise ConfigError(where, "", f"cannot be set up: {type(error).__name__}: {error}") from error


# Policies


def _policies(
    config: PoliciesSection, plugins: Plugins, files: FileSets, heading: str = "[policies.{}]"
) -> Iterator[PolicySetting]:
    """The policies to ask, in order; `heading` is where a section stands in the file."""
    order, sections = config.order, config.settings
    for name in order:
        if name not in plugins.policies:
            hint = plugins.why_not(name) or meant(name, plugins.policies)
            problem = f"no such policy: {name!r}; {hint}"
            raise ConfigError("[policies]", "order", problem)
        if order.count(name) > 1:
            raise ConfigError("[policies]", "order", f"{name!r} is named twice")
    for name in sections:
        if name not in plugins.policies:
            raise ConfigError(heading.format(name), "", f"no such policy; {meant(name, plugins.policies)}")
    # A section is checked even where its policy is not asked: one day it will be.
    settings = {
        name: _policy(heading.format(name), name, sections.get(name, PolicySection()), plugins, files)
        for name in (*order, *sections)
    }
    for name in order:
        if name not in sections or sections[name].mode != "off":
            yield settings[name]


def _policy(
    where: str, name: str, section: PolicySection, plugins: Plugins, files: FileSets
) -> PolicySetting:
    policy = _load(where, plugins.policies[name])
    options = _options(where, section.options, policy.function, files, ("mode", "on_error"))
    fingerprint = fingerprint_of(policy, options, toml_value)
    return PolicySetting(policy, options, section.mode == "enforce", section.on_error, fingerprint)


def read_policy_options(policy: Policy, values: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """A policy's options from the values of its section, `mode` excepted. Raises ConfigError.

    Files with sets in them are looked for in `directory`.
    """
    return _options(f"[policies.{policy.name}]", values, policy.function, FileSets(directory), ("mode",))


def _load(where: str, plugin: Plugin[T]) -> T:
    try:
        return plugin.load()
    except PluginError as error:
        raise ConfigError(where, "", str(error)) from error


def _options(
    where: str,
    values: Mapping[str, Any],
    function: Callable[..., Any],
    files: FileSets,
    common: tuple[str, ...],
) -> dict[str, Any]:
    """A filter's or policy's own options; `common` are those that every one of them has."""
    try:
        own = options_of(function)
        check_defaults(function, own)
    except OptionError as error:
        raise ConfigError(where, "", str(error)) from None
    for name in common:
        if name in own:
            raise ConfigError(where, name, "is taken: every section of this kind has it; rename the option")
    return read_options(where, values, own, files.open, common)


# Profiles


def _profiles(
    config: Config,
    plugins: Plugins,
    policies: tuple[PolicySetting, ...],
    filters: tuple[FilterSetting, ...],
    files: FileSets,
    caller: Caller,
) -> Profiles:
    joiner = Joiner()
    general = Profile(Pipeline(policies, filters, joiner, caller))
    special = [
        _profile(config, section, plugins, filters, joiner, files, caller) for section in config.profile
    ]
    return Profiles(general, special)


def _profile(
    config: Config,
    section: ProfileSection,
    plugins: Plugins,
    filters: tuple[FilterSetting, ...],
    joiner: Joiner,
    files: FileSets,
    caller: Caller,
) -> Profile:
    merged = msgspec.structs.replace(config.policies, settings=_merged(config.policies, section))
    policies = tuple(_policies(merged, plugins, files, "[profile.policies.{}]"))
    _check_needs(policies, filters, plugins)
    changed = [_load(f"[policies.{name}]", plugins.policies[name]) for name in section.settings]
    is_early = any(policy.stage.is_before(Stage.RCPT) for policy in changed)
    return Profile(Pipeline(policies, filters, joiner, caller), section.recipients, is_early)


def _merged(general: PoliciesSection, profile: ProfileSection) -> dict[str, PolicySection]:
    """The policies' sections as the profile has them."""
    sections = dict(general.settings)
    for name, overrides in profile.settings.items():
        if name not in general.order:
            problem = f"is not in [policies] order, so it is never asked; {meant(name, general.order)}"
            raise ConfigError(f"[profile.policies.{name}]", "", problem)
        section = sections.get(name, PolicySection())
        sections[name] = PolicySection(
            mode=overrides.mode or section.mode,
            on_error=overrides.on_error or section.on_error,
            options={**section.options, **overrides.options},
        )
    return sections


# Between them


def _check_needs(
    policies: tuple[PolicySetting, ...], filters: tuple[FilterSetting, ...], plugins: Plugins
) -> None:
    """Each need is found by exactly one configured filter, no later than the policy is asked."""
    finders: dict[type[Finding], Filter] = {}
    for setting in filters:
        finder = setting.filter
        other = finders.setdefault(finder.finds, finder)
        if other is not finder:
            problem = f"finds {finder.finds.__name__}, as [filters.{other.name}] does: only one can"
            raise ConfigError(f"[filters.{finder.name}]", "", problem)
    for policy in (setting.policy for setting in policies):
        for need in policy.needs:
            if need not in finders:
                raise _nobody_finds(policy, [need], plugins)
        if policy.wants and not policy.needs and not finders.keys() & set(policy.wants):
            raise _nobody_finds(policy, policy.wants, plugins)
        for kind in (*policy.needs, *policy.wants):
            if kind in finders:
                _check_stage(policy, kind, finders[kind])


def _nobody_finds(policy: Policy, kinds: Sequence[type[Finding]], plugins: Plugins) -> ConfigError:
    filters = plugins.filters.items()
    candidates = [name for name, plugin in filters if _load(f"[filters.{name}]", plugin).finds in kinds]
    sections = " or ".join(f"[filters.{name}]" for name in candidates) or "a filter that finds it"
    names = " or ".join(kind.__name__ for kind in kinds)
    problem = f"policy {policy.name!r} needs {names}, which no filter finds; configure {sections}"
    return ConfigError("[policies]", "order", problem)


def _check_stage(policy: Policy, kind: type[Finding], finder: Filter) -> None:
    if policy.stage.is_before(finder.stage):
        problem = (
            f"{policy.location}: policy {policy.name!r} is asked at {policy.stage.value} and "
            f"needs {kind.__name__}, which {finder.name} cannot find before {finder.stage.value}"
        )
        raise ConfigError("[policies]", "order", problem)
