"""Imports point one way, and nothing grows beyond what one can read.

Read from the source with `ast`; nothing is imported, so an import inside a function counts as well.
Every failure names file and line.
"""

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "filters", "policies")

# What touches the world outside the process, one way or another.
IO_MODULES = {
    *("_io", "asyncio", "codecs", "concurrent", "ctypes", "fcntl", "fileinput", "ftplib", "glob", "http"),
    *("importlib", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "posix", "pty", "runpy"),
    *("select", "selectors", "shelve", "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3"),
    *("ssl", "subprocess", "sys", "syslog", "telnetlib", "tempfile", "threading", "time", "urllib"),
    *("webbrowser", "xmlrpc"),
}
IO_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}

# Each library, and the only files that may know it.
ADAPTERS = {
    "aiosmtpd": {"gateway/proxy/stream.py"},
    "aiospamc": {"filters/spamassassin.py"},
    "pyclamd": {"filters/clamav.py"},
    "h11": {"filters/rspamd.py"},
    "pytest": {"filters/testing/", "gateway/plugins/fixtures.py"},
    "dns": {"filters/resolver.py"},
    "libarchive": {"filters/sandbox/archives.py"},
    "magic": {"filters/sandbox/true_types.py"},
    "milter": {"gateway/milter/library.py"},
    "msoffcrypto": {"filters/sandbox/documents.py"},
    "oletools": {"filters/sandbox/documents.py"},
    "click": {"gateway/cli/"},
    "rich": {"gateway/cli/"},
    "uvloop": {"gateway/loop.py"},
    "prometheus_client": {"gateway/metrics/exposition.py"},
}
# Checks the types of what was parsed, wherever that came from.
COMMON = {"msgspec"}

# Who may read the configuration; everybody else receives plain values.
READERS_OF_CONFIGURATION = (
    "gateway.__main__",
    "gateway.config",
    "gateway.cli",
    "gateway.roles",
    "gateway.assembly",
    "gateway.child",
    "gateway.effective",
    "gateway.reference",
    "gateway.seating",
    "gateway.supervisor",
    "gateway.listening",
    "gateway.plugins.fixtures",
)

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 50
MAX_MEDIAN_FUNCTION_LINES = 10


@dataclass(frozen=True)
class Source:
    """One module: its dotted name, its file, its tree."""

    name: str
    path: str
    text: str
    tree: ast.Module


@dataclass(frozen=True)
class Import:
    """One imported module, or member of one, and where that is written."""

    by: Source
    line: int
    names: frozenset[str]

    @property
    def where(self) -> str:
        return f"{self.by.path}:{self.line}: {self.by.name} imports {min(self.names, key=len)}"

    @property
    def top(self) -> str:
        return min(self.names, key=len).partition(".")[0]

    def is_of(self, *packages: str) -> bool:
        return any(_is_in(name, packages) for name in self.names)


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _read(file: Path) -> Source:
    path = file.relative_to(ROOT)
    parts = path.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = file.read_text(encoding="utf-8")
    return Source(name, str(path), text, ast.parse(text))


SOURCES = {
    source.name: source
    for package in PACKAGES
    for source in map(_read, sorted((ROOT / package).rglob("*.py")))
}


def _imports(source: Source) -> Iterator[Import]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(source, node.lineno, frozenset({alias.name}))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                yield Import(source, node.lineno, frozenset({node.module, f"{node.module}.{alias.name}"}))


IMPORTS = [found for source in SOURCES.values() for found in _imports(source)]


def _imports_by(*packages: str) -> list[Import]:
    found = [each for each in IMPORTS if _is_in(each.by.name, packages)]
    assert found, f"nothing is imported by {packages}: the test looks in the wrong place"
    return found


def _is_of_stdlib(each: Import) -> bool:
    return each.top in sys.stdlib_module_names


# Directions


def test_the_vocabulary_is_standard_library_without_io():
    for each in _imports_by("gateway.smtp"):
        assert each.is_of("gateway.smtp") or _is_of_stdlib(each), each.where
        assert each.top not in IO_MODULES, each.where


def test_policies_import_the_vocabulary_and_evidence_and_do_no_io():
    for each in _imports_by("policies"):
        assert each.is_of("policies", "gateway.smtp", "filters.evidence") or _is_of_stdlib(each), each.where
        assert each.top not in IO_MODULES, each.where


@pytest.mark.parametrize("package", ["policies", "gateway.smtp"])
def test_neither_calls_what_touches_the_world(package: str):
    for source in SOURCES.values():
        for node in ast.walk(source.tree) if _is_in(source.name, (package,)) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in IO_CALLS, f"{source.path}:{node.lineno}: calls {node.func.id}"


def test_filters_import_the_vocabulary_and_their_own_library():
    for each in _imports_by("filters"):
        own = ADAPTERS.get(each.top)
        is_own = own is not None and any(each.by.path.startswith(place) for place in own)
        is_shared = _is_of_stdlib(each) or each.top in COMMON
        assert each.is_of("filters", "gateway.smtp") or is_shared or is_own, each.where


def test_the_filters_package_reexports_no_adapter():
    for each in [each for each in IMPORTS if each.by.name == "filters"]:
        assert each.is_of("filters.base", "filters.evidence"), each.where
    for each in _imports_by("filters.base", "filters.evidence"):
        assert each.is_of("filters.evidence", "gateway.smtp") or _is_of_stdlib(each), each.where


def test_only_tests_need_the_kit_for_tests_of_filters():
    for each in IMPORTS:
        if not _is_in(each.by.name, ("filters.testing",)):
            assert not each.is_of("filters.testing"), each.where


@pytest.mark.parametrize("library", ADAPTERS)
def test_a_library_is_known_in_one_place(library: str):
    for each in IMPORTS:
        if each.top == library:
            assert any(each.by.path.startswith(place) for place in ADAPTERS[library]), each.where


def test_front_ends_do_not_know_each_other():
    for each in _imports_by("gateway.proxy"):
        assert not each.is_of("gateway.milter"), each.where
    for each in (each for each in IMPORTS if _is_in(each.by.name, ("gateway.milter",))):
        assert not each.is_of("gateway.proxy"), each.where


def test_nobody_needs_libmilter_but_who_serves_an_mta():
    for each in IMPORTS:
        if each.is_of("gateway.milter"):
            assert _is_in(each.by.name, ("gateway.milter", "gateway.roles.milter")), each.where
    # What its module imports at once is imported where there is no libmilter, too.
    at_once = [node for node in SOURCES["gateway.roles.milter"].tree.body if isinstance(node, ast.ImportFrom)]
    modules = {node.module for node in at_once if node.module is not None}
    assert {name for name in modules if _is_in(name, ("gateway.milter",))} == {"gateway.milter.presence"}
    assert not _modules_used(SOURCES["gateway.milter.presence"])


def test_each_role_knows_its_own_front_end():
    for role, other in (("smtp", "gateway.milter"), ("milter", "gateway.proxy"), ("worker", "gateway.proxy")):
        for each in _imports_by(f"gateway.roles.{role}"):
            assert not each.is_of(other), each.where


def test_only_front_ends_are_told_what_to_do_by_clients():
    for each in _imports_by("gateway.pipeline", "gateway.relay", "gateway.journal", "gateway.recorder"):
        assert not each.is_of("gateway.proxy", "gateway.milter", "gateway.cli", "gateway.roles"), each.where


def test_only_those_on_top_read_configuration():
    for each in IMPORTS:
        if not _is_in(each.by.name, READERS_OF_CONFIGURATION):
            assert not each.is_of("gateway.config", "gateway.cli", "gateway.roles", "gateway.supervisor"), (
                each.where
            )


def test_the_journal_keeps_records_and_knows_nobody_else():
    for each in _imports_by("gateway.journal"):
        assert each.top != "gateway" or each.is_of("gateway.journal", "gateway.smtp"), each.where


def test_nothing_imports_in_a_circle():
    uses = {name: _modules_used(source) for name, source in SOURCES.items()}
    finished: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "imports in a circle: " + " -> ".join((*path[path.index(name) :], name))
        if name not in finished:
            for used in uses[name]:
                follow(used, (*path, name))
            finished.add(name)

    for name in uses:
        follow(name, ())


def _modules_used(source: Source) -> set[str]:
    """Modules whose code runs first; a package's own `__init__` is not counted for its members."""
    used = set()
    for node in source.tree.body:
        for each in _imports(Source(source.name, source.path, source.text, ast.Module([node], []))):
            name = max((name for name in each.names if name in SOURCES), key=len, default=None)
            if name is not None:
                used.add(name)
    return used


# Size and words


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.path)
def test_a_module_says_what_it_is(source: Source):
    docstring = ast.get_docstring(source.tree)
    assert docstring, f"{source.path}:1: no docstring"
    assert docstring[0].isupper() or docstring[0] == "`", f"{source.path}:1: the docstring is no sentence"


@pytest.mark.parametrize("name", [*PACKAGES, "gateway.smtp"])
def test_a_package_opens_with_its_rule(name: str):
    docstring = ast.get_docstring(SOURCES[name].tree) or ""
    assert "Rule of this package:" in docstring, f"{SOURCES[name].path}:1: no rule"


def test_no_file_is_too_long_to_read():
    for source in SOURCES.values():
        lines = source.text.count("\n")
        assert lines <= MAX_FILE_LINES, f"{source.path}:{lines}: more than {MAX_FILE_LINES} lines"


def test_no_function_is_too_long_to_hold_in_mind():
    for source, function in _functions():
        lines = _length(function)
        where = f"{source.path}:{function.lineno}: {function.name}"
        assert lines <= MAX_FUNCTION_LINES, f"{where} has {lines} lines, more than {MAX_FUNCTION_LINES}"


def test_most_functions_are_short():
    lengths = [_length(function) for _, function in _functions()]
    assert len(lengths) > 100
    assert statistics.median(lengths) < MAX_MEDIAN_FUNCTION_LINES


def _functions() -> Iterator[tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for source in SOURCES.values():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield source, node


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1
