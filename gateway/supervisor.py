"""The supervisor: binds the sockets, starts the processes, and then only watches.

It loads no plugin and parses nothing from outside but the configuration file. A process that dies
is started again at once; one that keeps dying is started again more and more slowly. New
configurations, and changed plugins, are tried out on one new worker before the old ones are let go.
"""

import asyncio
import contextlib
import enum
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from gateway.config import Config, ConfigError, load, read_plugins
from gateway.journal.layout import Layout
from gateway.listening import bind
from gateway.proxy.admission import share_memory
from gateway.quarantine import quarantine_directory
from gateway.roles import briefing
from gateway.roles.control import READY
from gateway.sources import Watch
from gateway.spool import content_directory

START_TIMEOUT = 60.0
# How long a process may show no life. A policy that computes for longer is held for stuck.
SILENCE = 20.0
# How often the plugins are looked at. What is unchanged for so long is taken to be whole.
LOOK_INTERVAL = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE, _LIVED_WELL = 0.1, 5.0, 10.0

_log = structlog.get_logger()


class StartError(Exception):
    """A process did not come up; `status` is what to exit with. Its own words are on standard error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"exit status {status}")
        self.status = status


class Child:
    """One process of a role, started again whenever it ends by itself."""

    def __init__(
        self, role: str, config: Config, arguments: Sequence[str] = (), descriptors: Sequence[int] = ()
    ) -> None:
        self._role = role
        self._config = config
        self._arguments = arguments
        self._descriptors = descriptors
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._is_stopping = False

    def expect_end(self) -> None:
        """From now on it may end, and is not started again."""
        self._is_stopping = True

    async def start(self) -> None:
        """Return when it works. Raises StartError when it does not."""
        await self._start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Ask it to finish and wait until it has."""
        self.expect_end()
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if self._watching is not None:
            await self._watching

    async def _start(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # not from the current directory: it may have a folder named "policies"
            "-m",
            "gateway.roles",
            self._role,
            "--config",
            str(self._config.file),
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=self._descriptors,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(briefing.pack(self._config))
        if self._is_stopping:
            # It was asked for while this one was not there yet.
            process.terminate()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                first_words = await process.stdout.readline()
        except TimeoutError:
            first_words = b""
            process.kill()
        if first_words != READY:
            raise StartError(await process.wait() or os.EX_SOFTWARE)

    async def _watch(self) -> None:
        pause = 0.0
        while True:
            assert self._process is not None
            started = asyncio.get_running_loop().time()
            status = await self._wait_for_end(self._process)
            lived = asyncio.get_running_loop().time() - started
            pause = _FIRST_PAUSE if lived > _LIVED_WELL else min(pause * 2 + _FIRST_PAUSE, _LONGEST_PAUSE)
            if not self._is_stopping:
                _log.error("a process died and is started again", role=self._role, status=status)
                await asyncio.sleep(pause)
            if self._is_stopping:
                return
            # OSError: no memory or no process left. The end of the one before is still the last news.
            with contextlib.suppress(StartError, OSError):
                await self._start()

    async def _wait_for_end(self, process: asyncio.subprocess.Process) -> int:
        """Its exit status; it is killed if its event loop no longer turns."""
        assert process.stdout is not None
        while process.returncode is None:
            try:
                async with asyncio.timeout(SILENCE):
                    if not await process.stdout.read(4096):
                        await process.wait()
            except TimeoutError:
                _log.error("a process shows no life and is killed", role=self._role, pid=process.pid)
                process.kill()
        return process.returncode


class Generation:
    """All processes of one configuration, and the watch over its plugins."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[socket.socket],
        roles: Sequence[str],
        watch: Watch | None = None,
    ) -> None:
        self.config = config
        self.watch = watch
        self.sockets = sockets
        count = config.gateway.workers or len(os.sched_getaffinity(0))
        self._counts = share_memory(count, len(config.listener))
        self._workers = [self._worker(number, count) for number in range(count)]
        # Who keeps records loads no plugins, and has no business with them.
        self._keepers = [Child("journal", msgspec.structs.replace(config, plugins=None))]
        self._roles = roles

    async def start(self) -> None:
        """Start one worker; where that comes up, the others. Raises StartError."""
        try:
            if "smtp" in self._roles:
                await self._workers[0].start()
                await asyncio.gather(*(worker.start() for worker in self._workers[1:]))
            if "journal" in self._roles:
                await asyncio.gather(*(keeper.start() for keeper in self._keepers))
        except StartError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Let the workers finish, then the journal, which has their last records to keep."""
        # A signal to the whole process group reaches all of them before it reaches us.
        for child in (*self._workers, *self._keepers):
            child.expect_end()
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))
        os.close(self._counts)

    def _worker(self, number: int, count: int) -> Child:
        sockets = [each.fileno() for each in self.sockets]
        arguments = [
            f"--sockets={','.join(map(str, sockets))}",
            f"--counts={self._counts}",
            f"--worker={number}",
            f"--workers={count}",
        ]
        return Child("smtp", self.config, arguments, [*sockets, self._counts])


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
        return Generation(config, sockets, self._roles, watch)

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
        except (ConfigError, StartError) as error:
            self._refused = config
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
        """The listening sockets, those that are open already among them. Raises ConfigError."""
        try:
            for listener in config.listener:
                if listener.address not in self._sockets:
                    self._sockets[listener.address] = bind(listener.address, listener.socket_mode)
        except ConfigError as error:
            raise error.in_file(config.file) from None
        return [self._sockets[listener.address] for listener in config.listener]

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
