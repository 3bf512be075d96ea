"""Who has the port: the gateway, with Postfix behind it, or Postfix, which asks the gateway.

Whatever follows from that is here: what is started, where clients connect, who refuses what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from .daemons import LOOPBACK, Daemon
from .gateway_process import Gateway, GatewayProcess, MilterGateway
from .messages import Sample
from .postfix import Postfix
from .postfix_milter import MilterPostfix

D = TypeVar("D", bound=Daemon)


class Start(Protocol):
    """What starts a daemon and sees to its end, as `ExitStack.enter_context` does."""

    def __call__(self, daemon: D, /) -> D:
        """Returns it when it is ready."""


@dataclass(frozen=True)
class Front:
    """A running gateway and Postfix; clients connect to `port` of 127.0.0.1.

    Where `postfix_asks`, it has refused unknown recipients before.
    """

    what: str
    gateway: GatewayProcess
    postfix: Postfix
    port: int
    postfix_asks: bool

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{LOOPBACK}:{self.port}"

    def expected(self, sample: Sample) -> Sample:
        """The same message with its fate here."""
        return sample.asked() if self.postfix_asks else sample


class StartFront(Protocol):
    """Starts Postfix and a gateway that has these filter sections, policies and directory."""

    def __call__(
        self, start: Start, filters: Sequence[str], order: Sequence[str], directory: Path | None = None
    ) -> Front:
        """Raises DaemonError."""


def _proxy(
    start: Start, filters: Sequence[str], order: Sequence[str], directory: Path | None = None
) -> Front:
    postfix = start(Postfix())
    gateway = start(Gateway(postfix.address, filters, order, directory=directory))
    return Front("the gateway in front of Postfix", gateway, postfix, gateway.port, postfix_asks=False)


def _milter(
    start: Start, filters: Sequence[str], order: Sequence[str], directory: Path | None = None
) -> Front:
    postfix = start(MilterPostfix())
    gateway = start(MilterGateway(postfix.socket, filters, order, directory=directory))
    return Front("Postfix asking the gateway", gateway, postfix, postfix.port, postfix_asks=True)


FRONTS: Mapping[str, StartFront] = {"proxy": _proxy, "milter": _milter}
