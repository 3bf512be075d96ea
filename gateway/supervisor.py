"""The supervisor: binds the sockets, starts the processes, and then only watches.

It loads no plugin and parses nothing from outside but the configuration file. Each process is looked after
by its `Child`. New configurations, and changed plugins, are tried out on one new worker before the old ones
are let go.
"""

import asyncio
import enum
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from gateway.child import Child, Seat, StartError
from gateway.config import Config, ConfigError, load, read_plugins
from gateway.journal.layout import Layout
from gateway.listening import bind
from gateway.metrics.ledger import Counter, Ledger, Tally
from gateway.plugins.sources import Watch
from gateway.quarantine.store import quarantine_directory
from gateway.seating import Seating, listeners_of, metrics_of, roles_of
from gateway.spool import content_directory

# How often the plugins are looked at. What is unchanged for so long is taken to be whole.
LOOK_INTERVAL = 1.0
# Generations that have sessions left. Whoever edits a plugin makes one with every change.
_MAX_RETIRING = 3

_log = structlog.get_logger()


class Generation:
    """All processes of one configuration, and the watch over its plugins."""

    def __init__(
        self,
        config: Config,
        roles: Sequence[str],
        sockets: Mapping[str, socket.socket],
        ledger: Ledger,
        counter: Counter,
        watch: Watch | None = None,
    ) -> None:
        """`sockets` are, by address, those that the roles need. Raises OSError."""
        self.config = config
        self.watch = watch
        self.sockets = sockets
        self._seating = Seating(config, roles, sockets, ledger)
        self._crews = [
            [Child(role, config, counter, seats) for seats in workers]
            for role, workers in self._seating.crews
        ]
        # Who keeps records or shows figures loads no plugins, and has no business with them.
        bare = msgspec.structs.replace(config, plugins=None)
        self._keepers = [Child("journal", bare, counter)] if "journal" in roles else []
        views = [_view(sockets[shown.address], ledger) for shown in metrics_of(config, roles)]
        self._shows = [Child("metrics", bare, counter, [view]) for view in views]

    async def start(self) -> None:
        """Start one worker of each crew; where those come up, the others. Raises StartError, and OSError."""
        try:
            for first, *_ in self._crews:
                await first.start()
            others = [child for _, *rest in self._crews for child in rest]
            await asyncio.gather(*(child.start() for child in others))
            await asyncio.gather(*(keeper.start() for keeper in self._keepers))
            await asyncio.gather(*(show.start() for show in self._shows))
        except (StartError, OSError):
            await self.stop()
            raise

    async def stop(self, retiring: Iterable[Awaitable[None]] = ()) -> None:
        """Let the workers and `retiring` finish, then the journal, which has their last records to keep."""
        # A signal to the whole process group reaches all of them before it reaches us.
        for child in (*self._workers, *self._keepers, *self._shows):
            child.expect_end()
        await asyncio.gather(*(child.stop() for child in (*self._workers, *self._shows)), *retiring)
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))
        self._seating.close()

    async def retire(self) -> None:
        """Let the workers finish in their own time what they have; another generation does all the rest."""
        others = (child.stop() for child in (*self._keepers, *self._shows))
        await asyncio.gather(*others, *(worker.retire() for worker in self._workers))
        self._seating.close()

    def hurry(self) -> None:
        """The time of those who retire is over."""
        for worker in self._workers:
            worker.hurry()

    @property
    def _workers(self) -> list[Child]:
        return [child for crew in self._crews for child in crew]


def _view(metrics: socket.socket, ledger: Ledger) -> Seat:
    numbers = [metrics.fileno(), ledger.descriptor]
    return Seat([f"--sockets={numbers[0]}", f"--ledger={numbers[1]}"], numbers)


class Wish(enum.Enum):
    """What the supervisor is to do next."""

    STOP = "SIGTERM"
    RELOAD = "SIGHUP"
    RELOAD_PLUGINS = "changed plugins"


class Supervisor:
    """Runs all roles that the configuration needs, or only one, until SIGTERM or SIGINT.

    SIGHUP brings a new configuration, and so do changed plugins, unless that says otherwise.
    """

    def __init__(self, file: Path, only: str | None = None) -> None:
        self._file = file
        self._only = only
        self._sockets: dict[str, socket.socket] = {}
        # What has been counted outlives every process and every configuration.
        self._ledger = Ledger()
        self._counter = Tally(self._ledger.descriptor, self._ledger.take())
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Event()
        self._retiring: dict[asyncio.Task[None], Generation] = {}
        self._refused: Config | None = None

    async def run(self, announce: Callable[[Config], None]) -> None:
        """Start everything, say so, and watch. Raises ConfigError or StartError if it does not come up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloading.set)
        generation = self._prepare(*self._read())
        await generation.start()
        announce(generation.config)
        while (wish := await self._next_wish(generation.watch)) is not Wish.STOP:
            generation = await self._reload(generation, wish)
        # Whoever connects from now on shall be refused, not kept waiting.
        for listening in self._sockets.values():
            listening.close()
        for old in self._retiring.values():
            old.hurry()
        await generation.stop(tuple(self._retiring))

    def _read(self) -> tuple[Config, Watch | None]:
        """Everything from its files. Raises ConfigError."""
        config = load(self._file)
        if self._only == "journal":
            return config, None
        # Looked at before they are read: what changes in between is a change.
        watch = _watch(config)
        return read_plugins(config), watch

    def _prepare(self, config: Config, watch: Watch | None) -> Generation:
        """The processes of a configuration, not started yet. Raises ConfigError."""
        roles = roles_of(config, self._only)
        prepare_directories(config)
        sockets = self._bind(config, roles)
        return Generation(config, roles, sockets, self._ledger, self._counter, watch)

    async def _next_wish(self, watch: Watch | None) -> Wish:
        """Wait for a signal, or for a change of the plugins that has settled."""
        waits = [asyncio.create_task(event.wait()) for event in (self._stopping, self._reloading)]
        interval = LOOK_INTERVAL if watch else None
        while True:
            done, _ = await asyncio.wait(waits, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
            if done or (watch is not None and watch.has_changed()):
                break
        for wait in waits:
            wait.cancel()
        if self._stopping.is_set():
            return Wish.STOP
        wish = Wish.RELOAD if self._reloading.is_set() else Wish.RELOAD_PLUGINS
        self._reloading.clear()
        return wish

    async def _reload(self, old: Generation, wish: Wish) -> Generation:
        """The generation to go on with: a new one, or the old one if the new one does not come up."""
        config = None
        try:
            config, watch = self._read() if wish is Wish.RELOAD else (_with_plugins_of_now(old), old.watch)
            if wish is Wish.RELOAD_PLUGINS and config in (old.config, self._refused):
                # Touched or put back. Why something was refused has been said.
                self._refused = None if config == old.config else config
                _log.info("the plugins are the same as before", refused=self._refused is not None)
                return old
            new = self._prepare(config, watch)
            await new.start()
        except (ConfigError, StartError, OSError) as error:
            # No descriptor, process or memory for both says nothing about the configuration.
            self._refused = None if isinstance(error, OSError) else config
            _log.error(
                "the new configuration is refused, the old one stays", cause=wish.value, error=str(error)
            )
            self._close_unused(old)
            return old
        self._refused = None
        self._let_retire(old)
        self._close_unused(new)
        _log.info("the new configuration is in force", cause=wish.value, file=str(self._file))
        return new

    def _let_retire(self, old: Generation) -> None:
        """In its own time, for its sessions may take minutes, and signals must be heard meanwhile."""
        for longest in [*self._retiring.values()][: 1 - _MAX_RETIRING]:
            longest.hurry()
        retiring = asyncio.create_task(old.retire())
        self._retiring[retiring] = old
        retiring.add_done_callback(lambda task: self._retiring.pop(task, None))

    def _bind(self, config: Config, roles: Sequence[str]) -> dict[str, socket.socket]:
        """The sockets that the roles need, those that are open already among them, by address.

        Raises ConfigError.
        """
        listeners = listeners_of(config, roles)
        wanted = [("[[listener]]", listener.address, listener.socket_mode) for listener in listeners]
        wanted += [("[metrics]", shown.address, "660") for shown in metrics_of(config, roles)]
        try:
            for section, address, mode in wanted:
                if address not in self._sockets:
                    self._sockets[address] = bind(address, mode, section)
        except ConfigError as error:
            raise error.in_file(config.file) from None
        return {address: self._sockets[address] for _, address, _ in wanted}

    def _close_unused(self, generation: Generation) -> None:
        for address, listening in list(self._sockets.items()):
            if address not in generation.sockets:
                del self._sockets[address]
                listening.close()


def _watch(config: Config) -> Watch | None:
    policies = config.policies
    is_watched = policies.directory and policies.reload == "auto"
    return Watch(Path(policies.directory)) if is_watched else None


def _with_plugins_of_now(generation: Generation) -> Config:
    """What is in force, with the plugins read again. Somebody may be editing the configuration file."""
    return read_plugins(msgspec.structs.replace(generation.config, plugins=None))


def prepare_directories(config: Config) -> None:
    """Make the state directory and what is in it. Raises ConfigError."""
    state = Path(config.gateway.state_directory)
    try:
        for directory in (Layout(state).spool, content_directory(state), quarantine_directory(state)):
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            if not os.access(directory, os.W_OK | os.X_OK):
                raise PermissionError(None, "Permission denied")
    except OSError as error:
        problem = f'"{state}" cannot be used: {error.strerror}'
        raise ConfigError("[gateway]", "state_directory", problem, config.file) from None
