"""`sluicegate check-config`: validate, print the effective configuration, ask everybody if they are well."""

import asyncio
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Set
from pathlib import Path

import click

from gateway.assembly import Assembly, assemble
from gateway.cli.common import config_option, echo_table
from gateway.config import load, read_plugins
from gateway.effective import effective
from gateway.plugins.review import can_discard
from gateway.relay.client import DownstreamError, connect
from gateway.roles.milter import check_presence
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt

# After so many seconds of loading one wants to know what takes so long, and again.
PATIENCE = 5.0


@click.command("check-config")
@click.option("--live", is_flag=True, help="Ask every filter's source and every downstream.")
@config_option
def command(live: bool, config_file: Path) -> int:
    """Validate the configuration and print it with all defaults."""
    config = read_plugins(load(config_file))
    with _impatience({source.path for source in config.plugins or ()}):
        assembly = assemble(config)
    check_presence(config)
    click.echo(effective(assembly), nl=False)
    for policy in (setting.policy for setting in assembly.policies):
        if can_discard(policy):
            what = "mail that was accepted from the client is thrown away, and nobody is told"
            click.echo(f"policy {policy.name} can discard mail: {what} ({policy.location})", err=True)
    return asyncio.run(_ask_everybody(assembly)) if live else 0


@contextlib.contextmanager
def _impatience(paths: Set[str]) -> Iterator[None]:
    """Say every now and then at which line of a plugin this thread still is."""
    thread, is_over = threading.get_ident(), threading.Event()

    def say() -> None:
        while not is_over.wait(PATIENCE):
            frames = traceback.walk_stack(sys._current_frames()[thread])
            places = ((frame.f_code.co_filename, line) for frame, line in frames)
            place = next((f"{file}:{line}" for file, line in places if file in paths), None)
            if place is not None:
                click.echo(f"still loading {place}", err=True)

    saying = threading.Thread(target=say, daemon=True)
    saying.start()
    try:
        yield
    finally:
        is_over.set()
        saying.join()


async def _ask_everybody(assembly: Assembly) -> int:
    """Print one row for each neighbour; EX_UNAVAILABLE if any of them is not well."""
    rows = await asyncio.gather(
        *(_ask_filter(assembly, number) for number in range(len(assembly.filters))),
        *(
            _ask_downstream(endpoint, assembly.config.gateway.hostname, destination.tls)
            for destination in assembly.router.destinations
            for endpoint in destination.endpoints
        ),
    )
    await assembly.close()
    click.echo()
    echo_table([("NEIGHBOUR", "STATE", "ANSWER"), *rows])
    return os.EX_OK if all(state == "well" for _, state, _ in rows) else os.EX_UNAVAILABLE


async def _ask_filter(assembly: Assembly, number: int) -> tuple[str, str, str]:
    setting = assembly.filters[number]
    name = f"filter {setting.filter.name}"
    try:
        async with asyncio.timeout(setting.timeout):
            return name, "well", await setting.filter.probe()
    except TimeoutError:
        return name, "unavailable", f"no answer within {setting.timeout:g} s"
    except Exception as error:
        return name, "unavailable", str(error) or type(error).__name__


async def _ask_downstream(endpoint: Endpoint, hostname: str, tls: Encrypt) -> tuple[str, str, str]:
    name = f"downstream {endpoint}"
    try:
        connection = await connect(endpoint, hostname, tls)
    except DownstreamError as error:
        return name, "unavailable", str(error)
    connection.quit()
    return name, "well", " ".join(sorted(connection.extensions)) or "no extensions"
