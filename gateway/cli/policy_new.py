"""`sluicegate policies new`: a policy to begin with, and its test."""

import importlib.util
from pathlib import Path

import click

import policies
from filters.base import Filter
from filters.evidence import Finding
from filters.route import Routes
from gateway.assembly import find_plugins
from gateway.cli.common import config_option, policy_directory
from gateway.config import RESERVED, load
from gateway.plugins.discovery import Plugins, discover
from gateway.plugins.scaffold import ScaffoldError, scaffold
from policies import Stage

_KINDS: dict[str, type[Finding]] = {
    name: kind
    for name, kind in vars(policies).items()
    if isinstance(kind, type) and issubclass(kind, Finding) and kind is not Finding
}
_DIRECTORY = click.Path(file_okay=False, exists=True, path_type=Path)


@click.command("new")
@click.argument("name")
@click.option(
    "--at",
    type=click.Choice([stage.value for stage in Stage]),
    default=Stage.END_OF_DATA.value,
    show_default=True,
    help="The stage at which it is asked.",
)
@click.option("--needs", multiple=True, type=click.Choice(sorted(_KINDS)), help="What it has to know.")
@click.option("--directory", type=_DIRECTORY, help="Where to; instead of the configured directory.")
@config_option
def new(name: str, at: str, needs: tuple[str, ...], directory: Path | None, config_file: Path) -> None:
    """Write the policy NAME and its test, to begin with."""
    if directory is None:
        config = load(config_file)
        directory, found = policy_directory(config), find_plugins(config)
    else:
        found = discover()
    stage, kinds = Stage(at), [_KINDS[need] for need in dict.fromkeys(needs)]
    files = [directory / f"{name}.py", directory / f"test_{name}.py"]
    _check_files(files)
    _check_name(name, found)
    _check_stage(stage, kinds, found)
    try:
        texts = scaffold(name, stage, kinds)
    except ScaffoldError as error:
        raise click.UsageError(str(error)) from None
    _write(dict(zip(files, texts, strict=True)))
    click.echo(
        f"Try it:      sluicegate policies test {name}\n"
        f'Put it to use: add "{name}" to `order` in [policies], with `mode = "warn"` in [policies.{name}]\n'
        "to see in the records what it would do, and reload (SIGHUP)."
    )


def _check_files(files: list[Path]) -> None:
    for file in files:
        if file.exists() or file.is_symlink():
            raise click.UsageError(f"{file} is there already")


def _check_name(name: str, found: Plugins) -> None:
    if name in RESERVED:
        raise click.UsageError(f"{name!r} is a key of [policies]")
    if name in found.policies:
        raise click.UsageError(f"the name {name!r} is taken by {found.policies[name].origin}")
    if name.isidentifier() and importlib.util.find_spec(name):
        raise click.UsageError(f"{name!r} is a module that is installed, and a test would get that one")


def _check_stage(stage: Stage, kinds: list[type[Finding]], found: Plugins) -> None:
    """What the policy needs can be known when it is asked, as far as anybody finds it."""
    finders: list[type[Filter]] = [Routes, *(plugin.load() for plugin in found.filters.values())]
    for finder in finders:
        if finder.finds in kinds and stage.is_before(finder.stage):
            what = f"{finder.finds.__name__} is found at {finder.stage.value} and not before"
            raise click.UsageError(f"{what}: --at {finder.stage.value}")


def _write(texts: dict[Path, str]) -> None:
    for file, text in texts.items():
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            raise click.ClickException(f"{file} cannot be written: {error.strerror}") from None
        click.echo(file)
