"""`sluicegate check-config`: validate, print the effective configuration, ask everybody if they are well."""

import asyncio
import os
from pathlib import Path

import click

from gateway.assembly import Assembly, assemble
from gateway.cli.common import config_option, echo_table
from gateway.config import load
from gateway.effective import effective
from gateway.relay.client import DownstreamError, connect
from gateway.review import can_discard
from gateway.smtp.endpoint import Endpoint
from gateway.terms import Encrypt


@click.command("check-config")
@click.option("--live", is_flag=True, help="Ask every filter's source and every downstream.")
@config_option
def command(live: bool, config_file: Path) -> int:
    """Validate the configuration and print it with all defaults."""
    assembly = assemble(load(config_file))
    click.echo(effective(assembly), nl=False)
    for policy in (setting.policy for setting in assembly.policies):
        if can_discard(policy):
            what = "mail that was accepted from the client is thrown away, and nobody is told"
            click.echo(f"policy {policy.name} can discard mail: {what} ({policy.location})", err=True)
    return asyncio.run(_ask_everybody(assembly)) if live else 0


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
