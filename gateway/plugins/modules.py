"""Modules from source files that were read before: the operator's plugins, as Python sees them.

Nothing is read from a file system here. Tracebacks and `inspect` show the lines that were read, and
a plugin may import the others of its directory by their names.
"""

import importlib.machinery
import importlib.util
import linecache
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

from gateway.plugins.sources import Source

# In front of a file's name: what other modules of the process are called like it stay what they are.
PREFIX = "sluicegate_plugin_"


class Modules(MetaPathFinder, Loader):
    """The files of one directory as modules, each executed at most once, when it is first wanted.

    They are imported by their own names where nothing installed is called so.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = {source.name: source for source in sources}
        self._modules: dict[str, ModuleType] = {}

    def install(self) -> None:
        """Take part in imports from now on, instead of whoever did before."""
        for finder in [each for each in sys.meta_path if isinstance(each, Modules)]:
            finder._uninstall()
        # Last: an `email.py` of the operator's is not what the standard library imports.
        sys.meta_path.append(self)

    def _uninstall(self) -> None:
        sys.meta_path.remove(self)
        for name, module in self._modules.items():
            for known in (name, module.__name__):
                if sys.modules.get(known) is module:
                    del sys.modules[known]

    def load(self, source: Source) -> ModuleType:
        """The module of one of the files. Raises whatever its code raises."""
        if source.name in self._modules:
            return self._modules[source.name]
        name = f"{PREFIX}{source.name}"
        module = ModuleType(name)
        module.__file__ = source.path
        module.__spec__ = importlib.machinery.ModuleSpec(name, self, origin=source.path)
        module.__loader__ = self
        # Known before it is executed, as two files may import each other.
        self._modules[source.name] = sys.modules[name] = module
        try:
            _show(source)
            _check_octets(source)
            exec(compile(source.octets, source.path, "exec", dont_inherit=True), vars(module))  # noqa: S102
        except BaseException:
            del self._modules[source.name], sys.modules[name]
            raise
        return module

    # What `import` asks

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for `import NAME` in one of the files; nothing for the rest of the world."""
        if path is not None or fullname not in self._sources:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=self._sources[fullname].path)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The very module that the directory's own loading makes: no class of it exists twice."""
        return self.load(self._sources[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """It was executed when it was made."""


def _check_octets(source: Source) -> None:
    """Raises SyntaxError for what the compiler refuses without saying where."""
    before, nul, _ = source.octets.partition(b"\0")
    if nul:
        raise SyntaxError("there is a NUL in it", (source.path, before.count(b"\n") + 1, None, None))


def _show(source: Source) -> None:
    """Let tracebacks and `inspect` have the lines as they were read; no time: they are never stale."""
    try:
        text = importlib.util.decode_source(source.octets)
    except (SyntaxError, UnicodeDecodeError):
        return  # what is wrong with the encoding, the compiler says
    linecache.cache[source.path] = len(text), None, text.splitlines(keepends=True), source.path
