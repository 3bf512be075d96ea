"""How the downstream learns who the client is: XFORWARD, as Postfix's XFORWARD_README defines it."""

from collections.abc import Mapping

from gateway.smtp.session import Session
from gateway.terms import Identify

_MAX_LINE = 510
_UNAVAILABLE = "[UNAVAILABLE]"


def xforward(extensions: Mapping[str, str], session: Session, identify: Identify) -> list[bytes]:
    """The XFORWARD commands for this client, with the attributes that the downstream offers to take."""
    if identify == "none" or "XFORWARD" not in extensions:
        return []
    offered = extensions["XFORWARD"].upper().split()
    words = [f"{name}={value}" for name, value in _attributes(session).items() if name in offered]
    commands: list[bytes] = []
    line = b"XFORWARD"
    for word in (word.encode("ascii") for word in words):
        if len(line) + 1 + len(word) > _MAX_LINE:
            commands.append(line)
            line = b"XFORWARD"
        line += b" " + word
    return [*commands, line] if words else []


def _attributes(session: Session) -> dict[str, str]:
    address = session.client_address
    return {
        "NAME": xtext(session.client_name or _UNAVAILABLE),
        "ADDR": f"IPV6:{address.compressed}" if address.version == 6 else str(address),
        "PORT": str(session.client_port),
        "PROTO": "ESMTP" if session.esmtp else "SMTP",
        "HELO": xtext(session.helo_name or _UNAVAILABLE),
        "SOURCE": "REMOTE",
    }


def xtext(text: str) -> str:
    """RFC 3461 section 4: printable ASCII but for `+` and `=`, which are written in hexadecimal."""
    return "".join(
        char
        if "!" <= char <= "~" and char not in "+="
        else "".join(f"+{octet:02X}" for octet in char.encode())
        for char in text
    )
