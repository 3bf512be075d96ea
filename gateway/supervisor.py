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
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from gateway import bulletin
from gateway.child import Child, Seat, StartError
from gateway.config import Config, ConfigError, load, read_plugins
from gateway.journal.layout import Layout
from gateway.listening import bind
from gateway.metrics.ledger import Counter, Ledger, Tally
from gateway.plugins.sources import Watch
from gateway.proxy.admission import share_memory
from gateway.quarantine.store import quarantine_directory
from gateway.spool import content_directory

# Of each worker: its own, and its successor's.
_SEATS = 2
# How often the plugins are looked at. What is unchanged for so long is taken to be whole.
LOOK_INTERVAL = 1.0

_log = structlog.get_logger()


class Generation:
    """All processes of one configuration, and the watch over its plugins.

    Each worker has two seats in everything they share, so that a successor can sit down while it finishes.
    """

    def __init__(
        self,
        config: Config,
        sockets: Sequence[socket.socket],
        roles: Sequence[str],
        ledger: Ledger,
        counter: Counter,
        watch: Watch | None = None,
    ) -> None:
        """`sockets` are the listeners', and behind them that of the metrics if any. Raises OSError."""
        self.config = config
        self.watch = watch
        self.sockets = sockets
        self._ledger = ledger
        self._roles = roles
        count = config.gateway.workers or len(os.sched_getaffinity(0))
        listeners = len(config.listener)
        self._slots: list[int] = []
        self._bulletins: list[int] = []
        self._counts = share_memory(_SEATS * count, listeners)
        try:
            for _ in range(_SEATS * count):
                self._slots.append(ledger.take())
                self._bulletins.append(bulletin.share_memory())
        except OSError:
            self._give_back()
            raise
        self._workers = [
            Child("smtp", config, counter, [self._seat(seat, count) for seat in (number, count + number)])
            for number in range(count)
        ]
        # Who keeps records or shows figures loads no plugins, and has no business with them.
        bare = msgspec.structs.replace(config, plugins=None)
        self._keepers = [Child("journal", bare, counter)]
        self._shows = [Child("metrics", bare, counter, [self._view(each)]) for each in sockets[listeners:]]

    async def start(self) -> None:
        """Start one worker; where that comes up, the others. Raises StartError, and OSError."""
        try:
            if "smtp" in self._roles:
                await self._workers[0].start()
                await asyncio.gather(*(worker.start() for worker in self._workers[1:]))
            if "journal" in self._roles:
                await asyncio.gather(*(keeper.start() for keeper in self._keepers))
            await asyncio.gather(*(show.start() for show in self._shows))
        except (StartError, OSError):
            await self.stop()
            raise

    async def stop(self) -> None:
        """Let the workers finish, then the journal, which has their last records to keep."""
        # A signal to the whole process group reaches all of them before it reaches us.
        for child in (*self._workers, *self._keepers, *self._shows):
            child.expect_end()
        await asyncio.gather(*(child.stop() for child in (*self._workers, *self._shows)))
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))
        self._give_back()

    def _give_back(self) -> None:
        """Whatever the workers shared."""
        for descriptor in (self._counts, *self._bulletins):
            os.close(descriptor)
        for slot in self._slots:
            self._ledger.give_back(slot)

    def _seat(self, number: int, workers: int) -> Seat:
        sockets = [each.fileno() for each in self.sockets[: len(self.config.listener)]]
        ledger, board = self._ledger.descriptor, self._bulletins[number]
        arguments = [
            f"--sockets={','.join(map(str, sockets))}",
            f"--counts={self._counts}",
            f"--seat={number}",
            f"--seats={_SEATS * workers}",
            f"--workers={workers}",
            f"--ledger={ledger}",
            f"--slot={self._slots[number]}",
            f"--bulletin={board}",
        ]
        return Seat(arguments, [*sockets, self._counts, ledger, board], board)

    def _view(self, metrics: socket.socket) -> Seat:
        number, ledger = metrics.fileno(), self._ledger.descriptor
        return Seat([f"--sockets={number}", f"--ledger={ledger}"], [number, ledger])


class Wish(enum.Enum):
    """What the supervisor is to do next."""

    STOP = "SIGTERM"
    RELOAD = "SIGHUP"
    RELOAD_PLUGINS = "changed plugins"


class Supervisor:
    """Runs the roles until SIGTERM or SIGINT.

    SIGHUP brings a new configuration, and so do changed plugins, unless that says otherwise.
    """

    def __init__(self, file: Path, roles: Sequence[str]) -> None:
        self._file = file
        self._roles = roles
        self._sockets: dict[str, socket.socket] = {}
        # What has been counted outlives every process and every configuration.
        self._ledger = Ledger()
        self._counter = Tally(self._ledger.descriptor, self._ledger.take())
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Event()
        self._draining: set[asyncio.Task[None]] = set()
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
        await asyncio.gather(generation.stop(), *self._draining)

    def _read(self) -> tuple[Config, Watch | None]:
        """Everything from its files. Raises ConfigError."""
        config = load(self._file)
        if "smtp" not in self._roles:
            return config, None
        # Looked at before they are read: what changes in between is a change.
        watch = _watch(config)
        return read_plugins(config), watch

    def _prepare(self, config: Config, watch: Watch | None) -> Generation:
        """The processes of a configuration, not started yet. Raises ConfigError."""
        prepare_directories(config)
        sockets = self._bind(config) if "smtp" in self._roles else []
        return Generation(config, sockets, self._roles, self._ledger, self._counter, watch)

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
        # In its own time, for its sessions may take minutes, and signals must be heard meanwhile.
        draining = asyncio.create_task(old.stop())
        self._draining.add(draining)
        draining.add_done_callback(self._draining.discard)
        self._close_unused(new)
        _log.info("the new configuration is in force", cause=wish.value, file=str(self._file))
        return new

    def _bind(self, config: Config) -> list[socket.socket]:
        """The listening sockets, those that are open already among them, and that of the metrics.

        Raises ConfigError.
        """
        wanted = [("[[listener]]", listener.address, listener.socket_mode) for listener in config.listener]
        if config.metrics is not None:
            wanted.append(("[metrics]", config.metrics.address, "660"))
        try:
            for section, address, mode in wanted:
                if address not in self._sockets:
                    self._sockets[address] = bind(address, mode, section)
        except ConfigError as error:
            raise error.in_file(config.file) from None
        return [self._sockets[address] for _, address, _ in wanted]

    def _close_unused(self, generation: Generation) -> None:
        for address, listening in list(self._sockets.items()):
            if listening not in generation.sockets:
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
