"""From a file to a `Config`: sections, types, and what must agree between them."""

import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gateway.config.options import as_table, check_known, meant, read_table, read_value
from gateway.config.schema import (
    KEYS_OF_A_MILTER,
    Config,
    ConfigError,
    FilterSection,
    GatewaySection,
    JournalSection,
    ListenerSection,
    MetricsSection,
    PoliciesSection,
    PolicyOverrides,
    PolicySection,
    ProfileSection,
    RelaySection,
)
from gateway.plugins.sources import SourcesError, read_sources
from gateway.smtp.domains import check_domains
from gateway.smtp.endpoint import Endpoint, Inherited, parse_listener
from gateway.smtp.mailboxes import check_mailboxes
from gateway.smtp.networks import Networks

T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")

# Keys of [policies]: no policy can be called like one of them.
RESERVED = frozenset(PoliciesSection.__struct_fields__) - {"settings"}
_SECTIONS = ("gateway", "listener", "relay", "filters", "policies", "profile", "journal", "metrics")


def load(file: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError."""
    try:
        octets = file.read_bytes()
    except OSError as error:
        raise ConfigError("", "", f"cannot be read: {error.strerror}", file) from None
    return parse(file, octets)


def parse(file: Path, octets: bytes) -> Config:
    """Check a configuration file's content; `file` is for messages. Raises ConfigError."""
    try:
        tables = tomllib.loads(octets.decode("utf-8"))
    # tomllib lets through what int() and the interpreter's stack think of absurd values.
    except (ValueError, RecursionError) as error:
        raise ConfigError("", "", f"is not valid TOML: {error}", file) from None
    try:
        return msgspec.structs.replace(_read(file, tables), source=octets)
    except ConfigError as error:
        raise error.in_file(file) from None


def read_plugins(config: Config) -> Config:
    """The configuration with the plugins of its directory, read now unless they were. Raises ConfigError."""
    if config.plugins is not None:
        return config
    directory = config.policies.directory
    try:
        plugins = read_sources(Path(directory)) if directory else ()
    except SourcesError as error:
        raise ConfigError("[policies]", "directory", str(error), config.file) from None
    return msgspec.structs.replace(config, plugins=plugins)


def _read(file: Path, tables: dict[str, Any]) -> Config:
    for name in tables:
        if name not in _SECTIONS:
            raise ConfigError(f"[{name}]", "", f"unknown section; {meant(name, _SECTIONS)}")
    gateway = read_table("[gateway]", tables.get("gateway", {}), GatewaySection)
    listeners = _read_list("[[listener]]", tables.get("listener"), _read_listener)
    config = Config(
        file=file,
        gateway=msgspec.structs.replace(gateway, hostname=_hostname(gateway.hostname)),
        listener=listeners,
        relay=_read_relays(tables, listeners),
        filters=_read_filters(tables.get("filters", {})),
        policies=_read_policies(tables.get("policies", {})),
        profile=_read_list("[[profile]]", tables["profile"], _read_profile) if "profile" in tables else (),
        journal=read_table("[journal]", tables.get("journal", {}), JournalSection),
        metrics=read_table("[metrics]", tables["metrics"], MetricsSection) if "metrics" in tables else None,
    )
    _check_addresses(config)
    _check_spool(config.gateway)
    _check_memory(config.gateway)
    return config


def _hostname(configured: str) -> str:
    name = configured or socket.getfqdn()
    if not name.isascii() or not name.replace("-", "").replace(".", "").replace("_", "").isalnum():
        raise ConfigError("[gateway]", "hostname", f'"{name}" will not do; allowed: a domain name in ASCII')
    return name


def _read_listener(section: str, table: object) -> ListenerSection:
    listener = read_table(section, table, ListenerSection)
    if listener.role == "milter":
        for key in as_table(section, table):
            if key not in KEYS_OF_A_MILTER:
                problem = 'does not go with protocol = "milter": that is up to the MTA, which lets clients in'
                raise ConfigError(section, key, problem)
    return listener


def _read_relays(tables: dict[str, Any], listeners: tuple[ListenerSection, ...]) -> tuple[RelaySection, ...]:
    """There has to be one, unless it is only the MTA in front that relays."""
    if "relay" in tables:
        return _read_list("[[relay]]", tables["relay"], _read_relay)
    if all(listener.role == "milter" for listener in listeners):
        return ()
    problem = 'at least one is required, unless every listener has protocol = "milter"'
    raise ConfigError("[[relay]]", "", problem)


def _read_relay(section: str, table: object) -> RelaySection:
    return read_table(section, table, RelaySection)


def _read_list(section: str, tables: object, read: Callable[[str, object], T]) -> tuple[T, ...]:
    """An array of tables with at least one entry; errors of a later one say which it is."""
    if isinstance(tables, dict):
        raise ConfigError(section, "", "needs two brackets on either side, for there can be several")
    if not isinstance(tables, list) or not tables:
        raise ConfigError(section, "", "at least one is required")
    entries = []
    for number, table in enumerate(tables, 1):
        try:
            entries.append(read(section, table))
        except ConfigError as error:
            which = f" (entry {number})" if len(tables) > 1 else ""
            raise ConfigError(error.section, error.key, error.problem + which) from None
    return tuple(entries)


def _read_filters(table: object) -> dict[str, FilterSection]:
    sections = as_table("[filters]", table)
    return {name: _read_filter(f"[filters.{name}]", value) for name, value in sections.items()}


def _read_filter(section: str, table: object) -> FilterSection:
    common, options = _split(section, table, FilterSection)
    return FilterSection(**common, options=options)


def _read_policies(table: object) -> PoliciesSection:
    values = as_table("[policies]", table)
    settings = {name: value for name, value in values.items() if isinstance(value, dict)}
    plain = {name: value for name, value in values.items() if name not in settings}
    check_known("[policies]", plain, sorted(RESERVED))
    section = read_table("[policies]", plain, PoliciesSection)
    return msgspec.structs.replace(
        section,
        settings={name: _read_policy(f"[policies.{name}]", value) for name, value in settings.items()},
    )


def _read_policy(section: str, table: object) -> PolicySection:
    common, options = _split(section, table, PolicySection)
    return PolicySection(**common, options=options)


def _read_profile(section: str, table: object) -> ProfileSection:
    values = as_table(section, table)
    check_known(section, values, ["recipients", "policies"])
    plain = {key: value for key, value in values.items() if key != "policies"}
    profile = read_table(section, plain, ProfileSection)
    try:
        check_mailboxes(profile.recipients)
    except ValueError as error:
        raise ConfigError(section, "recipients", str(error)) from None
    policies = as_table("[profile.policies]", values.get("policies", {}))
    settings = {name: _read_overrides(name, value) for name, value in policies.items()}
    return msgspec.structs.replace(profile, settings=settings)


def _read_overrides(name: str, table: object) -> PolicyOverrides:
    common, options = _split(f"[profile.policies.{name}]", table, PolicySection)
    return PolicyOverrides(**common, options=options)


def _split(section: str, table: object, kind: type[msgspec.Struct]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that every filter (or policy) has, read; and the rest, which are its own options."""
    values = as_table(section, table)
    types = {field.name: field.type for field in msgspec.structs.fields(kind) if field.name != "options"}
    common = {key: read_value(section, key, values[key], types[key]) for key in types if key in values}
    return common, {key: value for key, value in values.items() if key not in types}


def _check_addresses(config: Config) -> None:
    """Addresses are addresses, none twice, and mail does not come straight back to us."""
    listening: dict[Endpoint | Inherited, ListenerSection] = {}
    for listener in config.listener:
        endpoint = _endpoint("[[listener]]", listener.address, parse_listener)
        if endpoint in listening:
            raise ConfigError("[[listener]]", "address", f"{endpoint} is given twice")
        listening[endpoint] = listener
        _check_tls(listener)
        _check_peers("proxy_protocol", listener.proxy_protocol)
        _check_peers("xclient", listener.xclient)
    if config.metrics is not None:
        endpoint = _endpoint("[metrics]", config.metrics.address, parse_listener)
        if endpoint in listening:
            raise ConfigError("[metrics]", "address", f"{endpoint} is a listener's already")
    for relay in config.relay:
        _check_domains(relay.domains)
        for address in relay.address:
            _check_relay(address, listening)


def _check_relay(address: str, listening: dict[Endpoint | Inherited, ListenerSection]) -> None:
    target = _endpoint("[[relay]]", address, Endpoint.parse)
    for endpoint, listener in listening.items():
        if _leads_to(target, endpoint):
            is_milter = listener.role == "milter"
            why = "a milter takes no mail" if is_milter else "mail would loop"
            raise ConfigError("[[relay]]", "address", f"{address} is a listener of this gateway: {why}")


def _check_spool(gateway: GatewaySection) -> None:
    if gateway.max_spool_size < gateway.max_message_size:
        problem = f"{gateway.max_spool_size} is less than max_message_size: such a message could not be kept"
        raise ConfigError("[gateway]", "max_spool_size", problem)


def _check_memory(gateway: GatewaySection) -> None:
    if gateway.worker_memory <= gateway.policy_memory:
        problem = f"{gateway.worker_memory} is not more than policy_memory, which one policy alone may take"
        raise ConfigError("[gateway]", "worker_memory", problem)


def _check_tls(listener: ListenerSection) -> None:
    if bool(listener.tls_certificate) != bool(listener.tls_key):
        missing = "tls_key" if listener.tls_certificate else "tls_certificate"
        raise ConfigError("[[listener]]", missing, "is missing: certificate and key go together")
    if listener.tls_implicit and not listener.tls_certificate:
        raise ConfigError("[[listener]]", "tls_implicit", "needs tls_certificate and tls_key")


def _check_peers(key: str, peers: tuple[str, ...]) -> None:
    try:
        Networks(peers)
    except ValueError as error:
        raise ConfigError("[[listener]]", key, str(error)) from None


def _leads_to(endpoint: Endpoint, listener: Endpoint | Inherited) -> bool:
    """Whether a connection to `endpoint` certainly arrives at `listener`."""
    if isinstance(listener, Inherited):
        return False
    is_local = endpoint.host in {"localhost", "::1"} or endpoint.host.startswith("127.")
    takes_local = listener.host in {"0.0.0.0", "::"}
    return endpoint == listener or (endpoint.port == listener.port and is_local and takes_local)


def _endpoint(section: str, text: str, parse: Callable[[str], V]) -> V:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(section, "address", str(error)) from None


def _check_domains(domains: tuple[str, ...]) -> None:
    try:
        check_domains(domains)
    except ValueError as error:
        raise ConfigError("[[relay]]", "domains", str(error)) from None
