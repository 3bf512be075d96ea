"""What the MTA says of its client and of itself beside the commands: macros, by Sendmail's names.

A macro that is not there, or is no text, says nothing.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

from gateway.smtp.command import Parameters
from gateway.smtp.session import MTA, TLS, Session, plain

Macros = Callable[[str], str | None]

# What is asked for at each step, by libmilter's limit at most five; the MTA may know no such thing.
AT_CONNECT = "j {daemon_name} {client_resolve}"
AT_HELO = "{tls_version} {cipher}"
AT_MAIL = "r {auth_authen} {tls_version} {cipher} {mail_addr}"
AT_RCPT = "{rcpt_addr}"
AT_END = "i"

# Mail that is handed in on the MTA's own machine comes from no address.
_LOCAL = ("127.0.0.1", 0)
_ROUTED = re.compile(rb"[%!]")
_SOURCE_ROUTE = re.compile(rb"^@[^:]*:")
# What Postfix calls a client without a name.
_NAMELESS = "unknown"


def session_of(listener: str, name: str, address: tuple[str, int] | None, macros: Macros) -> Session:
    """The client at connect. `address` is IP address and port, and nothing where it came by no network.

    Raises ValueError for an address that is none.
    """
    host, port = address or _LOCAL
    return Session(
        plain(ip_address(host.partition("%")[0])),
        port,
        listener,
        client_name=_verified(name, macros),
        mta=MTA(macros("j") or "", macros("{daemon_name}") or ""),
    )


def _verified(name: str, macros: Macros) -> str | None:
    """The client's name, where the MTA has found the address by it as well."""
    is_name = name != _NAMELESS and not name.startswith("[")
    # Sendmail passes a name that does not lead back, and says so; Postfix does not pass it.
    return name if is_name and macros("{client_resolve}") in {None, "OK"} else None


def says_esmtp(parameters: Parameters, macros: Macros) -> bool:
    """Whether the client said EHLO, as far as that shows: Sendmail tells, Postfix passes on parameters."""
    return bool(parameters) or (macros("r") or "").upper().startswith("E")


def with_security(session: Session, macros: Macros) -> Session:
    """The session with what is known of encryption and login by now."""
    version = macros("{tls_version}")
    tls = TLS(version, macros("{cipher}") or "") if version else None
    return replace(session, tls=tls, authenticated=macros("{auth_authen}") or None)


def address_meant(address: bytes, known_as: str | None, mta: MTA | None) -> bytes:
    """The address that the MTA takes this one for: what clients write is not always what it is.

    `address` is as given, without brackets, and `known_as` what the MTA says that it has made of it.
    Without a domain, or with `%` or `!`, an MTA rewrites it, and policies have to look at what it becomes.
    """
    local_part, at, _ = without_route(address).rpartition(b"@")
    if not address or (at and not _ROUTED.search(local_part)):
        return address
    if known_as and "@" in known_as and " " not in known_as:
        return known_as.encode("utf-8")
    if at or _ROUTED.search(address) or mta is None:
        return address
    return address + b"@" + mta.name.encode("utf-8")


def without_route(address: bytes) -> bytes:
    """The address by which the MTA knows the recipient: as given, but for a source route."""
    return _SOURCE_ROUTE.sub(b"", address)
