"""AUTH: RFC 4954, as far as somebody has to understand it who only carries it.

What may be offered, what may be said, who logged in. Errors name what is wrong and never what was
given, and nothing here has a representation that shows it.
"""

import base64
import re
from collections.abc import Iterator

from gateway.smtp.command import CommandError
from gateway.smtp.reply import MAX_CHALLENGE, Reply, printable

# RFC 4954 section 4: as long as any line of an exchange has to be taken, its CRLF included.
MAX_LINE = MAX_CHALLENGE
MAX_NAME = 255
CANCEL = b"*"
EMPTY = b"="

SUCCESS = 235
CHALLENGE = 334

_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")
# More would not fit into a line of the EHLO reply.
_MAX_MECHANISMS = 20
# What somebody in the middle breaks: security layers and what is bound to the connection (RFC 4422
# section 3.7, RFC 5056). And what says nothing about who it is.
_NOT_CARRIED = re.compile(
    r".*-PLUS|GSSAPI|GS2-.*|GSS-SPNEGO|KERBEROS_V[45]|DIGEST-MD5|SRP(?:-.*)?|EXTERNAL|ANONYMOUS"
)
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_SCRAM = re.compile(rb"[ny],(?:a=[^,]*)?,n=([^,]+),r=.*")
# Where the login name stands in the first thing that the client says, by mechanism: RFC 4616, RFC 2195,
# RFC 5802, and LOGIN and XOAUTH2, which have none.
_NAME = {
    "PLAIN": re.compile(rb"[^\0]*\0([^\0]+)\0[^\0]+"),
    "LOGIN": re.compile(rb"([^\0]+)"),
    "CRAM-MD5": re.compile(rb"(.+) [0-9a-f]{32}"),
    "SCRAM-SHA-1": _SCRAM,
    "SCRAM-SHA-256": _SCRAM,
    "SCRAM-SHA-512": _SCRAM,
    "XOAUTH2": re.compile(rb"user=([^\x01]+)\x01.*", re.DOTALL),
}
_BETWEEN_SECRETS = re.compile(rb"[\0\x01]+(?:auth=Bearer )?")
# Of something long, so much is as good as all of it: replies are cut.
_RECOGNIZABLE = 32
# RFC 4954 section 6.
_STATUS = {SUCCESS: "2.7.0", 432: "4.7.12", 454: "4.7.0", 534: "5.7.9", 535: "5.7.8", 538: "5.7.11"}


def mechanisms(parameters: str) -> tuple[str, ...]:
    """Those behind AUTH in a downstream's EHLO reply that can be carried, in its order."""
    words = dict.fromkeys(parameters.upper().split())
    carried = [word for word in words if _MECHANISM.fullmatch(word) and not _NOT_CARRIED.fullmatch(word)]
    return tuple(carried[:_MAX_MECHANISMS])


def parse_auth(argument: bytes) -> tuple[str, bytes | None]:
    """The mechanism in upper case and the initial response, `=` if it is empty, `None` without one."""
    words = argument.split()
    mechanism = words[0].upper().decode("latin-1") if words else ""
    if len(words) > 2 or not _MECHANISM.fullmatch(mechanism):
        raise CommandError(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    initial = words[1] if len(words) == 2 else None
    if initial is not None and initial != EMPTY:
        check_base64(initial)
    return mechanism, initial


def check_base64(octets: bytes) -> None:
    """Raises CommandError for what nobody could decode (RFC 4648 section 4)."""
    if not _BASE64.fullmatch(octets):
        raise CommandError(501, "5.5.2", "Not base64")


def is_challenge(reply: Reply) -> bool:
    """Whether it is a challenge as it should be: one line, in base64."""
    return len(reply.lines) == 1 and bool(_BASE64.fullmatch(reply.lines[0].encode("ascii")))


class Exchange:
    """One exchange: what the client said in it, for as long as it takes and no longer."""

    def __init__(self, mechanism: str) -> None:
        self.mechanism = mechanism
        self._said: list[bytes] = []

    def begin(self, initial: bytes | None) -> bytes:
        """The command for the downstream."""
        if initial is None:
            return b"AUTH " + self.mechanism.encode("ascii")
        self._said.append(initial)
        return b"AUTH %s %s" % (self.mechanism.encode("ascii"), initial)

    def take(self, line: bytes) -> bytes:
        """An answer of the client, or its cancelling, for the downstream. Raises CommandError."""
        if line != CANCEL:
            check_base64(line)
            self._said.append(line)
        return line

    @property
    def name(self) -> str:
        """Who the client said it is; the mechanism, in lower case, where that cannot be told."""
        return self._name() or self.mechanism.lower()

    def conclude(self, reply: Reply, instead: str) -> Reply:
        """The downstream's final reply for the client: with a status, and repeating nothing of what it said.

        `instead` is the text of one that would.
        """
        status = reply.status or _STATUS.get(reply.code, f"{reply.code // 100}.0.0")
        if any(secret in reply.text for secret in self._secrets()):
            return Reply.of(reply.code, status, instead)
        return Reply(reply.code, status, reply.lines)

    def _name(self) -> str | None:
        pattern = _NAME.get(self.mechanism)
        found = pattern.fullmatch(_decoded(self._said[0])) if pattern and self._said else None
        if found is None:
            return None
        try:
            name = found[1].decode("utf-8")
        except UnicodeDecodeError:
            return None
        if pattern is _SCRAM:
            name = name.replace("=2C", ",").replace("=3D", "=")
        # Never a part of it, or another one made of it: policies may know it.
        return name if name.isprintable() and len(name) <= MAX_NAME else None

    def _secrets(self) -> Iterator[str]:
        for said in self._said:
            for secret in (said, *_BETWEEN_SECRETS.split(_decoded(said))):
                if secret:
                    yield printable(secret.decode("latin-1"))[:_RECOGNIZABLE]


def _decoded(said: bytes) -> bytes:
    return b"" if said == EMPTY else base64.b64decode(said)
