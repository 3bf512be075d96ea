"""The sections of the configuration file. Default, unit and reason stand beside each key.

docs/configuration.md is generated from this file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.plugins.sources import Source
from gateway.terms import Encrypt, Identify, Meaning, Speak

Seconds = Annotated[float, Meta(gt=0)]
Octets = Annotated[int, Meta(gt=0)]
Count = Annotated[int, Meta(gt=0)]
Mode = Literal["enforce", "warn", "off"]
Reload = Literal["auto", "signal"]
Role = Literal["smtp", "milter"]
_CENTURY = 3_155_760_000
# What a milter's listener has of its keys: the rest is the business of the MTA, which lets clients in.
KEYS_OF_A_MILTER = ("protocol", "address", "socket_mode")


class ConfigError(Exception):
    """The configuration cannot be used: `FILE: [section] key: what is wrong and what is allowed`."""

    def __init__(self, section: str, key: str, problem: str, file: Path | None = None) -> None:
        where = f"{section} {key}".strip()
        prefix = f"{file}: " if file else ""
        super().__init__(_one_line(f"{prefix}{where}: {problem}" if where else f"{prefix}{problem}"))
        self.section, self.key, self.problem = section, key, problem

    def in_file(self, file: Path) -> "ConfigError":
        """The same error, naming the file."""
        return ConfigError(self.section, self.key, self.problem, file)


def _one_line(text: str) -> str:
    """Keys, values and other people's error messages may have several; `\\n` says so as well."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class GatewaySection(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway as a whole."""

    hostname: Annotated[
        str,
        Meta(description="Name in the banner, Received and Authentication-Results. Default: the machine's."),
    ] = ""
    state_directory: Annotated[
        str, Meta(description="Record spool, index, and content waiting to be judged.")
    ] = "/var/lib/sluicegate"
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=256,
            description="Processes that serve the SMTP and LMTP listeners, and as many for each milter; 0 is "
            "one per core.",
        ),
    ] = 0
    speak: Annotated[
        Speak,
        Meta(
            description="When a refusal decided before RCPT is spoken: `rcpt` records who wrote to whom "
            "and keeps postmaster reachable, `connect` saves the most."
        ),
    ] = "rcpt"
    deadline: Annotated[
        Seconds,
        Meta(description="Seconds from the final dot to our reply, scanning and relaying included."),
    ] = 60.0
    max_message_size: Annotated[
        Octets, Meta(description="Octets; announced as SIZE, larger messages are refused with 552.")
    ] = 52_428_800
    max_spool_size: Annotated[
        Octets,
        Meta(
            description="Octets of content waiting to be judged, in all workers together; beyond it DATA is "
            "answered with 452 4.3.1. Not less than `max_message_size`."
        ),
    ] = 2_147_483_648
    policy_time: Annotated[
        Seconds,
        Meta(description="Seconds one call of a policy may take; then it is interrupted (`policy-error`)."),
    ] = 5.0
    policy_memory: Annotated[
        Octets,
        Meta(
            description="Octets one call of a policy may add to the worker's memory; then it is interrupted "
            "likewise, and the worker replaced."
        ),
    ] = 536_870_912
    worker_memory: Annotated[
        Octets,
        Meta(
            description="Octets of private memory one worker may have (RLIMIT_DATA): a policy that wants "
            "more at once fails with MemoryError. A worker with three quarters of it in use is replaced. "
            "More than `policy_memory`."
        ),
    ] = 2_147_483_648


class ListenerSection(msgspec.Struct, frozen=True, kw_only=True):
    """Where clients connect, or with `milter` an MTA. One section for each address.

    With `milter` there are only `protocol`, `address` and `socket_mode`: the MTA lets clients in.
    """

    protocol: Annotated[
        Literal["smtp", "lmtp", "milter"],
        Meta(
            description="What is spoken there; LMTP (RFC 2033) has a reply for each recipient. `milter`: an "
            "MTA in front asks what to do with its clients' mail, and relays it itself."
        ),
    ] = "smtp"
    address: Annotated[
        str,
        Meta(
            description="`host:port`, `[v6-address]:port`, `unix:/path`, or `systemd:NAME` for a socket that "
            "systemd has opened."
        ),
    ]
    socket_mode: Annotated[
        str,
        Meta(
            pattern="^[0-7]{3}$",
            description="Permissions of a Unix socket, in octal. With `660` who connects has to be in our "
            "group: for a milter the user of the MTA's processes, `postfix` for Postfix.",
        ),
    ] = "660"
    tls_certificate: Annotated[
        str, Meta(description="PEM file with the certificate chain. STARTTLS is offered where it is set.")
    ] = ""
    tls_key: Annotated[
        str, Meta(description="PEM file with its key. Both files are read again when they change.")
    ] = ""
    tls_implicit: Annotated[
        bool, Meta(description="TLS from the first octet, as on port 465, instead of STARTTLS.")
    ] = False
    proxy_protocol: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses and networks of peers that must begin with a PROXY header, version 1 or "
            "2: load balancers. What it says is believed. They do not count as one client. With "
            "`tls_implicit` nobody else is let in."
        ),
    ] = ()
    xclient: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses and networks of peers whose XCLIENT and XFORWARD are believed: a Postfix "
            "in front. They do not count as one client."
        ),
    ] = ()
    bare_newline: Annotated[
        Literal["reject", "normalize"],
        Meta(
            description="A CR or LF that is not part of a CRLF: refused with 550 5.6.11, or rewritten to "
            "CRLF before anything is scanned. Either way a line of NULs and a dot is refused, and any other "
            "NUL passes."
        ),
    ] = "reject"
    max_connections: Annotated[
        Count,
        Meta(
            description="Connections at once; one more is greeted with 421 4.3.2. Clients that have "
            "delivered mail within a day find a tenth more."
        ),
    ] = 1000
    max_connections_per_client: Annotated[
        Count,
        Meta(description="The same from one client: an IPv4 address, or an IPv6 network of 64 bits."),
    ] = 20
    max_connections_per_network: Annotated[
        Count | None,
        Meta(
            description="The same from one network: 24 bits of an IPv4 address, 48 bits of an IPv6 one. "
            "Where nothing is said, five times as many as from one client, and 100 at least."
        ),
    ] = None

    @property
    def role(self) -> Role:
        """Which processes serve it."""
        return "milter" if self.protocol == "milter" else "smtp"


class RelaySection(msgspec.Struct, frozen=True, kw_only=True):
    """Where clean mail goes. The first entry whose domains match the recipient is used.

    There need be none where every listener is a milter: the MTA knows where its mail goes.
    """

    domains: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description='`"example.com"`, `".example.com"` for its subdomains, `"*"` for any; beyond ASCII'
            " in UTF-8 or as `xn--`.",
        ),
    ]
    address: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="`host:port` or `unix:/path`; tried in order."),
    ]
    protocol: Annotated[
        Literal["smtp", "lmtp"],
        Meta(
            description="What is spoken there. LMTP answers for each recipient: a client that cannot take "
            "that (PRDR, LMTP) sends to one recipient at a time."
        ),
    ] = "smtp"
    tls: Annotated[
        Encrypt,
        Meta(
            description="`off`; `may`: STARTTLS where it is offered; `require`: no mail without it; "
            "`verify`: and only with a certificate for the host in `address` from an authority that the "
            "system trusts."
        ),
    ] = "may"
    identify: Annotated[
        Identify,
        Meta(
            description="How the downstream learns who the client is: `xclient`, as if we were the client, "
            "and no mail without it; `xforward`, for its log; `auto`: XCLIENT where it is offered, else "
            "XFORWARD where that is; `none`."
        ),
    ] = "auto"


class FilterSection(msgspec.Struct, frozen=True, kw_only=True):
    """What every filter has; the rest of its keys are its own options."""

    timeout: Annotated[Seconds, Meta(description="Seconds to wait for this filter's answer.")] = 30.0
    unavailable: Annotated[
        Meaning,
        Meta(
            description="What it means for the mail when the filter does not answer: `tempfail` (451 4.7.1), "
            "`accept` (with the field X-Sluicegate-Unscanned) or `reject`."
        ),
    ] = "tempfail"
    skipped: Annotated[
        Meaning,
        Meta(description="What it means when the filter would not look, for example at a large message."),
    ] = "accept"
    options: dict[str, Any] = {}


class PolicySection(msgspec.Struct, frozen=True, kw_only=True):
    """What every policy has; the rest of its keys are its own options."""

    mode: Annotated[
        Mode,
        Meta(
            description="`enforce`; `warn` records what the policy would have done and lets the mail "
            "pass; `off`."
        ),
    ] = "enforce"
    on_error: Annotated[
        Meaning,
        Meta(
            description="What it means for the mail when the policy fails (`policy-error`): `tempfail` "
            "(451 4.3.0), `accept` (with the field X-Sluicegate-Unscanned) or `reject` (550 5.3.0)."
        ),
    ] = "tempfail"
    options: dict[str, Any] = {}


class PoliciesSection(msgspec.Struct, frozen=True, kw_only=True):
    """Which policies are asked, and in which order."""

    directory: Annotated[
        str,
        Meta(
            description="Directory of `*.py` files with policies and filters of your own. Tests beside them "
            "(`test_*.py`, `*_test.py`, `conftest.py`), hidden files and subdirectories are left alone."
        ),
    ] = ""
    reload: Annotated[
        Reload,
        Meta(
            description="When changed files of `directory` are put to work: `auto`, a second or two after "
            "the last change; `signal`, at SIGHUP. This file is read again at SIGHUP only."
        ),
    ] = "auto"
    order: Annotated[tuple[str, ...], Meta(description="Policies by name; the first refusal ends it.")] = (
        "recipients",
    )
    settings: dict[str, PolicySection] = {}


class PolicyOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's section in a profile: what it leaves out is as in `[policies.NAME]`."""

    mode: Mode | None = None
    on_error: Meaning | None = None
    options: dict[str, Any] = {}


class ProfileSection(msgspec.Struct, frozen=True, kw_only=True):
    """Other settings for some recipients. The first one that names the recipient is used.

    `[profile.policies.NAME]` below it has keys of `[policies.NAME]`; those it leaves out are as they are
    there. All recipients of one message have the same profile, unless the client takes a reply for each
    (PRDR, LMTP): another one is told 452 4.5.3, and the sender sends to it separately.
    """

    recipients: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description='`"user@example.com"`, `"@example.com"` for a domain, `"@.example.com"` for its '
            "subdomains.",
        ),
    ]
    settings: dict[str, PolicyOverrides] = {}


class JournalSection(msgspec.Struct, frozen=True, kw_only=True):
    """The records of decisions."""

    index: Annotated[Literal["sqlite"], Meta(description="Where records are searched.")] = "sqlite"
    retention: Annotated[
        int, Meta(gt=0, le=_CENTURY, description="Seconds a record is kept; the default is 90 days.")
    ] = 7_776_000


class MetricsSection(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers for Prometheus, at /metrics. There are none without this section."""

    address: Annotated[
        str, Meta(description="`host:port` or `unix:/path`; whoever can connect there can read them.")
    ] = "127.0.0.1:9125"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration file, defaults filled in. `source` is its text as it was read.

    `plugins` are the files of `[policies] directory`, `None` until somebody needs them.
    """

    file: Path
    source: bytes = b""
    plugins: tuple[Source, ...] | None = None
    gateway: GatewaySection
    listener: tuple[ListenerSection, ...]
    relay: tuple[RelaySection, ...]
    filters: dict[str, FilterSection]
    policies: PoliciesSection
    profile: tuple[ProfileSection, ...] = ()
    journal: JournalSection
    metrics: MetricsSection | None = None

    def listeners(self, role: Role) -> tuple[ListenerSection, ...]:
        """Those that processes of this role serve, in configured order."""
        return tuple(listener for listener in self.listener if listener.role == role)
