"""`sluicegate policies`: every policy and filter that was found; below it, writing and testing them."""

from collections.abc import Iterator
from pathlib import Path

import click

from gateway.assembly import find_plugins
from gateway.cli.common import config_option, echo_table
from gateway.cli.policy_new import new
from gateway.cli.policy_tests import run_tests
from gateway.config import Config, ConfigError, load
from gateway.config.options import OptionError, describe, options_of
from gateway.config.schema import PolicySection
from gateway.config.toml import toml_value
from gateway.plugins.discovery import PluginError, Plugins
from policies.policy import Policy


@click.group("policies", invoke_without_command=True)
@config_option
@click.pass_context
def command(ctx: click.Context, config_file: Path) -> None:
    """List every policy and filter found: stage, needs, options, mode, file.

    What a policy can do without has a question mark.
    """
    # Before the subcommand or behind it: `--config` means the same.
    ctx.default_map = {name: {"config_file": config_file} for name in command.commands}
    if ctx.invoked_subcommand is None:
        _list(config_file)


command.add_command(new)
command.add_command(run_tests)


def _list(config_file: Path) -> None:
    config = load(config_file)
    plugins = find_plugins(config)
    try:
        echo_table([("POLICY", "STAGE", "NEEDS", "MODE", "OPTIONS", "FILE"), *_policies(config, plugins)])
        click.echo()
        echo_table([("FILTER", "STAGE", "FINDS", "USED", "OPTIONS", "FILE"), *_filters(config, plugins)])
    except (PluginError, OptionError) as error:
        raise ConfigError("[policies]", "directory", str(error), config_file) from None


def _policies(config: Config, plugins: Plugins) -> Iterator[tuple[str, ...]]:
    """The policies in the order they are asked, then those that are not."""
    order = [name for name in config.policies.order if name in plugins.policies]
    for name in [*order, *sorted(plugins.policies.keys() - order)]:
        policy = plugins.policies[name].load()
        settings = config.policies.settings.get(name, PolicySection())
        wants = (f"{want.__name__}?" for want in policy.wants)
        needs = ", ".join((*(need.__name__ for need in policy.needs), *wants)) or "-"
        mode = settings.mode if name in order else "not in order"
        yield name, policy.stage.value, needs, mode, _options(policy, settings), plugins.policies[name].origin


def _options(policy: Policy, settings: PolicySection) -> str:
    values = {name: option.default for name, option in options_of(policy.function).items()} | settings.options
    return ", ".join(f"{name}={_shown(value)}" for name, value in values.items()) or "-"


def _shown(value: object) -> str:
    """As it would stand in the configuration."""
    return "none" if value is None else toml_value(value)


def _filters(config: Config, plugins: Plugins) -> Iterator[tuple[str, ...]]:
    for name, plugin in sorted(plugins.filters.items()):
        kind = plugin.load()
        options = ", ".join(
            f"{key}: {describe(option.type)}" for key, option in options_of(kind.__init__).items()
        )
        used = "yes" if name in config.filters else "no"
        yield name, kind.stage.value, kind.finds.__name__, used, options or "-", plugin.origin
