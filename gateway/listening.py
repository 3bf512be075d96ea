"""Sockets to listen on: bound by the supervisor, listened on by the workers."""

import errno
import os
import socket

from gateway.config import ConfigError
from gateway.smtp.endpoint import Endpoint


def bind(address: str) -> socket.socket:
    """A socket that is bound and does not listen: nobody is to connect before somebody can answer.

    Raises ConfigError.
    """
    endpoint = Endpoint.parse(address)
    bound = socket.socket(socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((endpoint.host, endpoint.port))
    except OSError as error:
        bound.close()
        raise cannot_listen(address, error) from None
    return bound


def cannot_listen(address: str, error: OSError) -> ConfigError:
    """The error for an address that is taken, foreign, or reserved for root."""
    # A name that is not known has a number of its own kind, below zero.
    cause = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
    if error.errno == errno.EACCES:
        cause += "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
    return ConfigError("[[listener]]", "address", f"{address} cannot be listened on: {cause}")
