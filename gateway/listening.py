"""Sockets to listen on: bound by the supervisor, or by systemd for it; listened on by the workers."""

import errno
import os
import socket
import stat

from gateway.config import ConfigError
from gateway.smtp.endpoint import Endpoint, Inherited, parse_listener

# sd_listen_fds(3)
_FIRST_INHERITED = 3


def bind(address: str, socket_mode: str, section: str = "[[listener]]") -> socket.socket:
    """A socket that is bound and does not listen: nobody is to connect before somebody can answer.

    `socket_mode` is the octal permissions of a Unix socket, `section` where the address stands. Raises
    ConfigError.
    """
    endpoint = parse_listener(address)
    try:
        if isinstance(endpoint, Inherited):
            return _inherited(endpoint)
        return _bind_unix(endpoint.path, int(socket_mode, 8)) if endpoint.path else _bind_tcp(endpoint)
    except OSError as error:
        raise cannot_listen(address, error, section) from None


def _bind_tcp(endpoint: Endpoint) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((endpoint.host, endpoint.port))
    except OSError:
        bound.close()
        raise
    return bound


def _bind_unix(path: str, mode: int) -> socket.socket:
    """A socket of that name. One that nobody listens on any more is in the way, and is removed."""
    bound = socket.socket(socket.AF_UNIX)
    try:
        _remove_abandoned(path)
        bound.bind(path)
        os.chmod(path, mode)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_abandoned(path: str) -> None:
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _inherited(wanted: Inherited) -> socket.socket:
    """A copy of the socket that systemd opened under this name."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        for number, name in enumerate(os.environ.get("LISTEN_FDNAMES", "").split(":")):
            if name == wanted.name and number < int(os.environ.get("LISTEN_FDS", "0")):
                return socket.socket(fileno=os.dup(_FIRST_INHERITED + number))
    raise OSError("systemd passed no socket of this name")


def cannot_listen(address: str, error: OSError, section: str = "[[listener]]") -> ConfigError:
    """The error for an address that is taken, foreign, or reserved for root."""
    # A name that is not known has a number of its own kind, below zero.
    cause = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
    if error.errno == errno.EACCES and not address.startswith("unix:"):
        cause += "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return ConfigError(section, "address", f"{address} cannot be listened on: {cause}")
