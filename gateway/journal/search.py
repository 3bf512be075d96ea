"""Finding records again, in the index and in what of the spool is not in the index yet.

A search sees every record that was written before it began, whether the keeper runs, lags or is
dead. It changes nothing on disk and needs no help from any process. There is one implementation of
matching: what is pending is put into a temporary database with the index's schema.
"""

import ipaddress
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from gateway.journal.index import (
    JournalError,
    address_key,
    canonical_reference,
    create_schema,
    insert,
    network_key,
    open_for_reading,
    read_offsets,
)
from gateway.journal.record import Record, decode, timestamp
from gateway.journal.spool import SpoolFile, list_files

FOLLOW_SECONDS: Final = 0.5
DEFAULT_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; everything given must match, and case never matters.

    `client` is an address, a network (CIDR), or a name (verified or from HELO; subdomains match,
    too). `sender` and `recipient` are an address or `@domain`; `<>` is the null sender. `stage` is
    where it was decided or where it was spoken. `text` is words, all of which must occur in the
    record's texts, the last one perhaps only begun. `policy` had an opinion, in whatever mode, or failed.
    `limit` keeps the newest; `None` keeps all.
    """

    since: datetime | None = None
    verdict: str | None = None
    reason: str | None = None
    client: str | None = None
    sender: str | None = None
    recipient: str | None = None
    stage: str | None = None
    text: str | None = None
    policy: str | None = None
    reference: str | None = None
    limit: int | None = DEFAULT_LIMIT


def search(index_path: Path, spool_directory: Path, query: Query) -> list[Record]:
    """The newest records that match, the newest last. Raises JournalError."""
    return [decode(line) for line in search_lines(index_path, spool_directory, query)]


def find(index_path: Path, spool_directory: Path, reference: str) -> list[Record]:
    """The records with this reference, which hardly ever are two. Raises JournalError.

    Case, blanks, brackets and a missing hyphen do not matter.
    """
    return search(index_path, spool_directory, Query(reference=reference, limit=None))


def search_lines(index_path: Path, spool_directory: Path, query: Query) -> Iterator[bytes]:
    """As `search`, but the lines as they were recorded, without newline, one by one."""
    with _reading(), _Snapshot.take(index_path, spool_directory) as snapshot:
        yield from snapshot.lines(snapshot.hits(query))


def follow(
    index_path: Path, spool_directory: Path, query: Query, stop: threading.Event | None = None
) -> Iterator[bytes]:
    """As `search_lines`, and then whatever comes in that matches, until `stop` is set.

    Every record comes once, whatever the keeper does meanwhile. Raises JournalError.
    """
    stop = stop or threading.Event()
    place = _START
    while True:
        with _reading(), _Snapshot.take(index_path, spool_directory, place) as snapshot:
            yield from snapshot.lines(snapshot.hits(query))
            place = snapshot.place
        query = replace(query, limit=None)
        if stop.wait(FOLLOW_SECONDS):
            return


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"the journal cannot be read: {error}") from error


class _Place(NamedTuple):
    """How far somebody has read: the offset in each spool file, and the newest row of the index."""

    offsets: Mapping[str, int]
    row: int


_START: Final = _Place({}, 0)


class _Hit(NamedTuple):
    """A matching row, in the order of the output: when, in which database, its id."""

    time: str
    database: int
    row: int


class _Snapshot:
    """The journal at one instant: a read transaction on the index, and a database of what is pending.

    Only what lies beyond `since` is looked at.
    """

    def __init__(self, index: sqlite3.Connection | None, pending: sqlite3.Connection, since: _Place) -> None:
        self._databases = [pending] if index is None else [index, pending]
        self._since = since
        newest = 0 if index is None else _newest_row(index)
        # Fewer rows than before: it is another index, begun after the old one was deleted.
        self._first_rows = [0] if index is None else [since.row if newest >= since.row else 0, 0]
        offsets = dict(since.offsets)
        for database in self._databases:
            for file, offset in read_offsets(database).items():
                offsets[file] = max(offset, offsets.get(file, 0))
        self.place = _Place(offsets, newest)

    @classmethod
    @contextmanager
    def take(cls, index_path: Path, spool_directory: Path, since: _Place = _START) -> Iterator["_Snapshot"]:
        """The files are opened before the index is read: what the keeper moves and deletes in between
        is still there, and the index says how much of it is to be left out.
        """
        with ExitStack() as stack:
            files = _open_all(spool_directory, stack)
            index = open_for_reading(index_path)
            if index is not None:
                stack.enter_context(closing(index))
                index.execute("BEGIN")
            # Without a name: in memory, and on disk if it becomes too much for that.
            pending = stack.enter_context(closing(sqlite3.connect("", isolation_level=None)))
            indexed = {} if index is None else read_offsets(index)
            _collect(pending, files, indexed, since.offsets)
            yield cls(index, pending, since)

    def hits(self, query: Query) -> list[_Hit]:
        """What matches, oldest first, as many of the newest as the query wants."""
        found = sorted(
            _Hit(row_time, number, row)
            for number, (database, first) in enumerate(zip(self._databases, self._first_rows, strict=True))
            for row_time, row, file, offset in _select(database, query, first)
            if offset >= self._since.offsets.get(file, 0)
        )
        return found if query.limit is None else found[max(0, len(found) - query.limit) :]

    def lines(self, hits: list[_Hit]) -> Iterator[bytes]:
        """The recorded lines of these rows."""
        for hit in hits:
            yield self._databases[hit.database].execute(_FETCH, (hit.row,)).fetchone()[0]


# Read from the record itself, so that those are found, too, that an earlier release has indexed.
_HAS_OPINION: Final = (
    "EXISTS (SELECT 1 FROM json_each(record, '$.opinions') AS opinion"
    " WHERE lower(opinion.key) = ? AND coalesce(json_extract(opinion.value, '$.verdict'),"
    " json_extract(opinion.value, '$.reason')) IS NOT NULL)"
)
_FETCH = "SELECT CAST(record AS BLOB) FROM records WHERE id = ?"


def _newest_row(index: sqlite3.Connection) -> int:
    return index.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()[0]  # type: ignore[no-any-return]


def _open_all(directory: Path, stack: ExitStack) -> list[SpoolFile]:
    """All spool files. One that is gone by the time it is opened is in the index, wholly."""
    files = []
    for path in list_files(directory):
        try:
            files.append(stack.enter_context(SpoolFile(path)))
        except FileNotFoundError:
            continue
    return files


def _collect(
    pending: sqlite3.Connection,
    files: list[SpoolFile],
    indexed: Mapping[str, int],
    read: Mapping[str, int],
) -> None:
    """Put into `pending` what lies in the files beyond what is indexed or has been read."""
    create_schema(pending)
    pending.execute("BEGIN")
    for file in files:
        offset = max(indexed.get(file.name, 0), read.get(file.name, 0))
        while batch := file.read(offset):
            insert(pending, file.name, batch)
            offset = batch.end
    pending.execute("COMMIT")


def _select(
    database: sqlite3.Connection, query: Query, first_row: int
) -> Iterator[tuple[str, int, str, int]]:
    """Time, id, file and offset of the rows beyond `first_row` that match."""
    conditions, values = _conditions(query)
    # Whoever follows asks for the few rows that are new; no other index is as short a way to them.
    table = "records NOT INDEXED" if first_row else "records"
    sql = (
        "SELECT records.time, records.id, coalesce(sources.file, ''), records.offset"  # noqa: S608 - constants only
        f" FROM {table} LEFT JOIN sources ON sources.id = records.source"
        f" WHERE {' AND '.join(['records.id > ?', *conditions])}"
    )
    values = [first_row, *values]
    if query.limit is not None:
        sql += " ORDER BY records.time DESC, records.id DESC LIMIT ?"
        values.append(query.limit)
    yield from database.execute(sql, values)


def _conditions(query: Query) -> tuple[list[str], list[object]]:
    """What a query demands, as SQL with its values."""
    demands: list[tuple[str, tuple[object, ...]]] = []
    if query.since is not None:
        demands.append(("time >= ?", (timestamp(query.since),)))
    words = {
        "verdict = ?": query.verdict,
        "reason = ?": query.reason,
        "? IN (stage, spoken)": query.stage,
        _HAS_OPINION: query.policy,
    }
    demands += [(sql, (word.lower(),)) for sql, word in words.items() if word is not None]
    if query.reference is not None:
        demands.append(("reference = ?", (canonical_reference(query.reference),)))
    if query.client is not None:
        demands.append(_client(query.client.strip().lower()))
    if query.sender is not None:
        demands.append(_sender(query.sender))
    if query.recipient is not None:
        demands.append(_recipient(query.recipient))
    if query.text is not None and (phrases := _words(query.text)):
        demands.append(("records.id IN (SELECT rowid FROM texts WHERE texts MATCH ?)", (phrases,)))
    return [sql for sql, _ in demands], [_bindable(value) for _, values in demands for value in values]


def _bindable(value: object) -> object:
    """Without what SQLite's UTF-8 cannot say, such as undecodable octets of a command line."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _client(wanted: str) -> tuple[str, tuple[object, ...]]:
    key = address_key(wanted)
    if key is not None:
        return "client_key = ?", (key,)
    try:
        network = ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        suffix = f".{wanted}"
        name = "? IN (client_name, helo, client_address)"
        ending = "substr({0}, -length(?)) = ?"
        sql = f"({name} OR {ending.format('client_name')} OR {ending.format('helo')})"
        return sql, (wanted, suffix, suffix, suffix, suffix)
    return "client_key BETWEEN ? AND ?", (network_key(network[0]), network_key(network[-1]))


def _sender(wanted: str) -> tuple[str, tuple[object, ...]]:
    kind, value = _address(wanted)
    if not value:
        return "reverse_path = '<>'", ()
    return ("sender_domain = ?" if kind == "domain" else "reverse_path = ?"), (value,)


def _recipient(wanted: str) -> tuple[str, tuple[object, ...]]:
    kind, value = _address(wanted)
    sql = f"records.id IN (SELECT record FROM recipients WHERE {kind} = ?)"  # noqa: S608 - one of two words
    return sql, (value,)


def _address(wanted: str) -> tuple[str, str]:
    """Whether a domain or an address is meant, and which; `<...>` around it does not matter."""
    text = wanted.strip().lower()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    return ("domain", text[1:]) if text.startswith("@") else ("address", text)


def _words(text: str) -> str:
    """A query for FTS5: each word quoted, so that nothing in it is syntax; the last one a prefix."""
    words = text.replace("\0", " ").replace('"', '""').split()
    quoted = " ".join(f'"{word}"' for word in words)
    return f"{quoted}*" if quoted else ""
