"""What a trusted peer says about the client: the attributes of Postfix's XCLIENT and XFORWARD commands.

Parsed from the command's octets and applied to a session. Nothing is half believed: one attribute
that is malformed, and the whole command counts for nothing. XCLIENT_README and XFORWARD_README.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.smtp import xtext
from gateway.smtp.command import MAX_HELO_NAME, CommandError
from gateway.smtp.session import IPAddress, Session, plain

UNAVAILABLE = "[UNAVAILABLE]"
_UNKNOWN = {UNAVAILABLE, "[TEMPUNAVAIL]"}
IPV6 = "IPV6:"

_MAX_TEXT = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNPRINTABLE = re.compile(r"[^!-~]")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
# RFC 1123 section 2.1. An underscore is not allowed there, and occurs. A number at the end is an address.
_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}", re.IGNORECASE | re.ASCII)
_MAX_HOST_NAME = 253
_MAX_PORT = 65_535

# Attribute to the field of a session that it sets, and the field of a claim it is taken from.
_TOLD = {
    "NAME": ("client_name", "name"),
    "PORT": ("client_port", "port"),
    "PROTO": ("esmtp", "esmtp"),
    "HELO": ("helo_name", "helo_name"),
    "LOGIN": ("authenticated", "login"),
}


@dataclass(frozen=True, slots=True)
class Claim:
    """One client, as far as the peer knows it; port 0 is an unknown one.

    `said` are the attributes that the command named, those without a value included.
    """

    said: frozenset[str]
    name: str | None = None
    address: IPAddress | None = None
    port: int = 0
    esmtp: bool = False
    helo_name: str | None = None
    login: str | None = None


def is_host_name(text: str) -> bool:
    """Whether this could be the name of a host, and is not an address in disguise."""
    return len(text) <= _MAX_HOST_NAME and _HOST_NAME.fullmatch(text) is not None


def parse_xclient(argument: bytes) -> Claim:
    """The attributes of an XCLIENT command. Raises CommandError."""
    return _parse(argument, _XCLIENT)


def parse_xforward(argument: bytes) -> Claim:
    """The attributes of an XFORWARD command. Raises CommandError."""
    return _parse(argument, _XFORWARD)


def claimed(session: Session, peer: Session, claim: Claim) -> Session:
    """The session with what is claimed about it; `peer` is that of who claims it.

    An address, known or not, makes it another client, of whom nothing is known but what the same
    command says. A command without one adds to what is known.
    """
    said = (_TOLD[attribute] for attribute in _TOLD if attribute in claim.said)
    told = {field: getattr(claim, value) for field, value in said}
    if claim.address is not None:
        told = {"client_port": 0, **told, "client_address": claim.address}
    return replace(peer if "ADDR" in claim.said else session, **told)


def _parse(argument: bytes, known: Mapping[str, "_Attribute"]) -> Claim:
    values: dict[str, Any] = {}
    said: set[str] = set()
    for word in argument.split(b" ") if argument else ():
        attribute, equals, text = word.decode("latin-1").partition("=")
        attribute = attribute.upper()
        if attribute not in known or not equals or attribute in said:
            raise _malformed("attribute=value, each once")
        said.add(attribute)
        if text.upper() not in _UNKNOWN:
            field, convert = known[attribute]
            values[field] = convert(attribute, _decoded(attribute, text))
    if not said:
        raise _malformed("attribute=value")
    values.pop("", None)
    return Claim(frozenset(said), **values)


def _decoded(attribute: str, text: str) -> str:
    """The value in clear. Whatever is wrong with it, it is never used."""
    try:
        value = xtext.decode(text).decode("utf-8", "replace")
    except ValueError:
        raise _malformed(attribute) from None
    if not value or _CONTROL.search(value):
        raise _malformed(attribute)
    return value


# Values

_Attribute = tuple[str, Callable[[str, str], Any]]


def _name(_: str, value: str) -> str | None:
    """A verified host name; what cannot be one is as good as none."""
    return value if is_host_name(value) else None


def _address(attribute: str, value: str) -> IPAddress:
    is_v6 = value[: len(IPV6)].upper() == IPV6
    text = value[len(IPV6) :] if is_v6 else value
    try:
        if "%" in text:
            raise ValueError
        return plain(ipaddress.IPv6Address(text) if is_v6 else ipaddress.IPv4Address(text))
    except ValueError:
        raise _malformed(attribute) from None


def _port(attribute: str, value: str) -> int:
    if not _PORT.fullmatch(value) or int(value) > _MAX_PORT:
        raise _malformed(attribute)
    return int(value)


def _protocol(attribute: str, value: str) -> bool:
    if value.upper() not in {"SMTP", "ESMTP"}:
        raise _malformed(attribute)
    return value.upper() == "ESMTP"


def _any_protocol(_: str, value: str) -> bool:
    """Postfix forwards mail from elsewhere, too; whatever came by a descendant of ESMTP says so."""
    return value.upper().startswith("ESMTP")


def _helo(_: str, value: str) -> str:
    """As a client in front of us could have said it."""
    return _UNPRINTABLE.sub("?", value)[:MAX_HELO_NAME]


def _text(attribute: str, value: str) -> str:
    if len(value) > _MAX_TEXT:
        raise _malformed(attribute)
    return value


# Attribute to the field of a claim it goes to, if to any, and what its value is.
_XCLIENT: Mapping[str, _Attribute] = {
    "NAME": ("name", _name),
    "ADDR": ("address", _address),
    "PORT": ("port", _port),
    "PROTO": ("esmtp", _protocol),
    "HELO": ("helo_name", _helo),
    "LOGIN": ("login", _text),
    "DESTADDR": ("", _address),
    "DESTPORT": ("", _port),
}
_XFORWARD: Mapping[str, _Attribute] = {
    "NAME": ("name", _name),
    "ADDR": ("address", _address),
    "PORT": ("port", _port),
    "PROTO": ("esmtp", _any_protocol),
    "HELO": ("helo_name", _helo),
    "IDENT": ("", _text),
    "SOURCE": ("", _text),
}
XCLIENT = " ".join(("XCLIENT", *_XCLIENT))
XFORWARD = " ".join(("XFORWARD", *_XFORWARD))


def _malformed(what: str) -> CommandError:
    return CommandError(501, "5.5.4", f"Malformed: {what}")
