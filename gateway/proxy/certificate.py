"""A listener's TLS: its certificate and key, loaded again when the files change (RFC 3207, RFC 8314)."""

import os
import ssl
from pathlib import Path

import structlog

from gateway.smtp.session import TLS

HANDSHAKE_TIMEOUT = 30.0

_log = structlog.get_logger()


class Certificate:
    """Raises OSError (ssl.SSLError is one) where the files cannot be used."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._loaded = self._stamps()
        self._context = _context()
        self._context.load_cert_chain(*self._files)

    @property
    def context(self) -> ssl.SSLContext:
        """For the next handshake. Files that changed are read; bad ones leave what was there before."""
        try:
            stamps = self._stamps()
            if stamps != self._loaded:
                self._loaded = stamps
                # Tried out first: a key that does not fit must not replace one that does.
                _context().load_cert_chain(*self._files)
                self._context.load_cert_chain(*self._files)
                _log.info("a certificate was renewed", certificate=str(self._files[0]))
        except OSError as error:
            _log.error("a changed certificate cannot be used", file=str(self._files[0]), error=str(error))
        return self._context

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        status = [os.stat(file) for file in self._files]
        return tuple((each.st_mtime_ns, each.st_ino) for each in status)


def negotiated(connection: ssl.SSLObject) -> TLS:
    """What a handshake came to."""
    cipher = connection.cipher()
    return TLS(connection.version() or "unknown", cipher[0] if cipher else "unknown")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context
