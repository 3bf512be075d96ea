"""How the downstream learns who the client is: XCLIENT and XFORWARD, by Postfix's documents of these names.

XCLIENT makes the downstream treat us as the client, access control included; XFORWARD is for its log.
Names that a client or its DNS may have chosen leave only where they are what they should be.
"""

from collections.abc import Mapping

from gateway.relay.client import ClientConnection, DownstreamError
from gateway.smtp import xtext
from gateway.smtp.claim import IPV6, UNAVAILABLE, is_host_name
from gateway.smtp.session import IPAddress, Session
from gateway.terms import Identify

_MAX_LINE = 510


async def introduce(
    connection: ClientConnection, session: Session, identify: Identify, hostname: str
) -> list[bytes]:
    """Say who the client of the next transaction is; the commands that are still to go before MAIL.

    Raises DownstreamError where the downstream would take us for somebody else than it should. Then
    the connection is gone.
    """
    commands = xclient(connection.extensions, session) if identify in {"auto", "xclient"} else []
    if commands or identify == "xclient":
        try:
            await _speak_for(connection, commands, session.helo_name or hostname)
        except DownstreamError as error:
            connection.abort(str(error))
            raise
        return []
    if connection.speaks_for_client:
        connection.abort("speaks for another client")
        raise DownstreamError(f"{connection.endpoint}: {connection.failure}")
    return xforward(connection.extensions, session, identify)


async def _speak_for(connection: ClientConnection, commands: list[bytes], name: str) -> None:
    """XCLIENT, then the client's own greeting. Who may say XCLIENT is not asked anew after it."""
    offered = connection.extensions.get("XCLIENT", "")
    if not commands:
        raise DownstreamError(f"{connection.endpoint}: takes no client's address by XCLIENT")
    connection.speaks_for_client = True
    for command in commands:
        reply = await connection.ask(command)
        if not reply.is_positive:
            raise DownstreamError(f"{connection.endpoint}: answered XCLIENT with {reply}")
    await connection.hello(name)
    connection.extensions["XCLIENT"] = offered


def xclient(extensions: Mapping[str, str], session: Session) -> list[bytes]:
    """The XCLIENT commands for this client, with every attribute that the downstream offers to take.

    None where it does not take the address, without which the rest is about somebody else. Each
    attribute is given, known or not, for what is not given stays as it was. The address goes first,
    since it may make the downstream forget what it knew.
    """
    names = ("ADDR", "PORT", "NAME", "LOGIN", "PROTO", "HELO")
    commands = _commands(b"XCLIENT", extensions, session, names)
    return commands if b" ADDR=" in b"".join(commands[:1]) else []


def xforward(extensions: Mapping[str, str], session: Session, identify: Identify) -> list[bytes]:
    """The XFORWARD commands for this client, with the attributes that the downstream offers to take."""
    if identify in {"none", "xclient"}:
        return []
    return _commands(b"XFORWARD", extensions, session, ("NAME", "ADDR", "PORT", "PROTO", "HELO", "SOURCE"))


def _commands(
    verb: bytes, extensions: Mapping[str, str], session: Session, names: tuple[str, ...]
) -> list[bytes]:
    offered = extensions.get(verb.decode(), "").upper().split()
    if not offered:
        return []
    attributes = _attributes(session)
    words = [f"{name}={attributes[name]}".encode("ascii") for name in names if name in offered]
    commands: list[bytes] = []
    line = verb
    for word in words:
        if len(line) + 1 + len(word) > _MAX_LINE:
            commands.append(line)
            line = verb
        line += b" " + word
    return [*commands, line] if words else []


def _attributes(session: Session) -> dict[str, str]:
    name = session.client_name
    return {
        "NAME": name if name is not None and is_host_name(name) else UNAVAILABLE,
        "ADDR": _address(session.client_address),
        "PORT": str(session.client_port or UNAVAILABLE),
        "PROTO": "ESMTP" if session.esmtp else "SMTP",
        "HELO": _value(session.helo_name),
        "LOGIN": _value(session.authenticated),
        "SOURCE": "REMOTE",
    }


def _address(address: IPAddress) -> str:
    return f"{IPV6}{address.compressed}" if address.version == 6 else str(address)


def _value(text: str | None) -> str:
    """A value in xtext. One with a line end or the like in it would be one again once it is decoded."""
    return xtext.encode(text) if text and text.isprintable() else UNAVAILABLE
