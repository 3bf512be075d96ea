"""The index: a SQLite database of records, with what of them can be searched beside it.

Rows and the offset up to which a spool file has been read change in one transaction, so a record
is never lost and never indexed twice, whenever the process dies. The same tables are built in a
temporary database over what is still in the spool, so both are searched in the same way.
"""

import ipaddress
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from gateway.journal.record import ClientRecord, Record
from gateway.journal.spool import Batch, Entry
from gateway.journal.tracebacks import essence

SCHEMA_VERSION: Final = 1

_MODE = 0o640
_BUSY_SECONDS = 5.0
_WAL_LIMIT = 67_108_864
# How long the offset of a deleted file is kept, in seconds: a search that has opened the file
# before it was deleted must still find out how much of it is in the index.
_FORGET_AFTER = 3600.0

_SCHEMA: Final = (
    """CREATE TABLE sources (
        id INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, offset INTEGER NOT NULL, updated REAL NOT NULL
    )""",
    # AUTOINCREMENT: an id is never used again, so that "newer than id" means what it says.
    # A reference may repeat, though rarely. The record itself is last: long values come after short ones.
    """CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, source INTEGER NOT NULL, offset INTEGER NOT NULL,
        time TEXT NOT NULL, reference TEXT NOT NULL, verdict TEXT NOT NULL,
        stage TEXT NOT NULL, spoken TEXT NOT NULL, reason TEXT NOT NULL, policy TEXT,
        client_address TEXT NOT NULL, client_key BLOB, client_name TEXT, helo TEXT,
        reverse_path TEXT, sender_domain TEXT, record TEXT NOT NULL
    )""",
    "CREATE INDEX records_time ON records (time)",
    "CREATE INDEX records_reference ON records (reference)",
    "CREATE INDEX records_verdict ON records (verdict, time)",
    "CREATE INDEX records_reason ON records (reason, time)",
    "CREATE INDEX records_client ON records (client_key, time)",
    "CREATE INDEX records_sender ON records (reverse_path, time)",
    "CREATE INDEX records_sender_domain ON records (sender_domain, time)",
    """CREATE TABLE recipients (
        record INTEGER NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL,
        PRIMARY KEY (record, address)
    ) WITHOUT ROWID""",
    "CREATE INDEX recipients_address ON recipients (address)",
    "CREATE INDEX recipients_domain ON recipients (domain)",
    "CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')",
)

_INSERT_RECORD = "INSERT INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?, CAST(? AS TEXT))"
_INSERT_RECIPIENT = "INSERT OR IGNORE INTO recipients VALUES (?, ?, ?)"
_INSERT_TEXT = "INSERT INTO texts (rowid, text) VALUES (?, ?)"


class JournalError(Exception):
    """The index cannot be used; the text says why and is for the operator."""


class Index:
    """The writing side, for the keeper alone. Methods raise sqlite3.Error where the database does."""

    def __init__(self, path: Path) -> None:
        """Open the index, or create it. Raises OSError, sqlite3.Error or JournalError."""
        self._path = path
        # Created here for its mode, which the files that SQLite puts beside it inherit.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        self._inode = path.stat().st_ino
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        with _writing(self._connection):
            if schema_version(self._connection, self._path) == 0:
                create_schema(self._connection)

    @property
    def is_current(self) -> bool:
        """False if the file was deleted or replaced: what is written now, nobody would find."""
        with suppress(FileNotFoundError):
            return self._path.stat().st_ino == self._inode
        return False

    def offsets(self) -> dict[str, int]:
        """Spool file to the offset up to which its records are here."""
        return read_offsets(self._connection)

    def append(self, file: str, batch: Batch) -> bool:
        """Take over a batch, whole or not at all.

        False, and nothing was done, if the file has not been read exactly up to the batch's start:
        then another keeper was faster.
        """
        with _writing(self._connection):
            found = self._connection.execute("SELECT offset FROM sources WHERE file = ?", (file,)).fetchone()
            if (found[0] if found else 0) != batch.start:
                return False
            insert(self._connection, file, batch)
        return True

    def settle(self) -> None:
        """Put on disk for good what was appended, so that it outlives a power failure."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def expire(self, before: str, limit: int) -> int:
        """Delete up to `limit` of the records older than `before` (a record's time); how many it were."""
        with _writing(self._connection):
            found = self._connection.execute(
                "SELECT id FROM records WHERE time < ? ORDER BY time LIMIT ?", (before, limit)
            ).fetchall()
            self._connection.executemany("DELETE FROM texts WHERE rowid = ?", found)
            self._connection.executemany("DELETE FROM recipients WHERE record = ?", found)
            self._connection.executemany("DELETE FROM records WHERE id = ?", found)
        return len(found)

    def forget(self, existing: Iterable[str]) -> None:
        """Drop the offsets of files that have not existed for an hour or more."""
        gone = set(self.offsets()).difference(existing)
        oldest = time.time() - _FORGET_AFTER
        with _writing(self._connection):
            self._connection.executemany(
                "DELETE FROM sources WHERE file = ? AND updated < ?", [(file, oldest) for file in gone]
            )

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """A connection that cannot write, or `None` if there is no index yet. Raises JournalError."""
    if not path.exists():
        return None
    try:
        connection = _connect_read_only(path)
        if schema_version(connection, path) != 0:
            return connection
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot be read: {error}") from error
    connection.close()
    return None


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        # A reader that may not create the files beside the database can do without them as long as
        # nobody writes, and then there is no write-ahead log.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        return sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    return connection


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the schema; 0 where there is none yet. Raises JournalError for a newer one."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{path}: has schema {version}, written by a newer release; this one knows {SCHEMA_VERSION}"
        )
    return version


def create_schema(connection: sqlite3.Connection) -> None:
    """Create the tables in an empty database."""
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def read_offsets(connection: sqlite3.Connection) -> dict[str, int]:
    """Spool file to the offset up to which its records are in this database."""
    return dict(connection.execute("SELECT file, offset FROM sources").fetchall())


def insert(connection: sqlite3.Connection, file: str, batch: Batch) -> None:
    """Insert a batch's records and note how far the file is read. The caller has a transaction open."""
    source = connection.execute(
        "INSERT INTO sources (file, offset, updated) VALUES (?, ?, ?) ON CONFLICT (file)"
        " DO UPDATE SET offset = excluded.offset, updated = excluded.updated RETURNING id",
        (file, batch.end, time.time()),
    ).fetchone()[0]
    last = connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'records'").fetchone()[0]
    numbered = list(enumerate(batch.entries, (last or 0) + 1))
    connection.executemany(_INSERT_RECORD, (_record_row(number, source, entry) for number, entry in numbered))
    connection.executemany(
        _INSERT_RECIPIENT,
        ((number, *split_address(path)) for number, entry in numbered for path in entry.record.recipients),
    )
    connection.executemany(_INSERT_TEXT, ((number, _text(entry.record)) for number, entry in numbered))


def split_address(path: str) -> tuple[str, str]:
    """Address and domain as they are compared: in lower case, the domain empty if there is none."""
    address = path.lower()
    return address, address.rpartition("@")[2] if "@" in address else ""


def address_key(address: str) -> bytes | None:
    """An IP address as octets that compare like numbers, the family first; `None` for anything else."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return network_key(mapped or parsed)


def network_key(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """`address_key` of an address that has been parsed already."""
    return bytes([address.version]) + address.packed


def canonical_reference(reference: str) -> str:
    """A reference as it is compared: in capitals, without hyphen, blanks and brackets."""
    return "".join(filter(str.isalnum, reference)).upper()


def _record_row(number: int, source: int, entry: Entry) -> tuple[object, ...]:
    record, client = entry.record, entry.record.client
    sender, domain = (None, None) if record.reverse_path is None else split_address(record.reverse_path)
    return (
        *(number, source, entry.offset, record.time, canonical_reference(record.reference)),
        *(record.verdict, record.stage, record.spoken, record.reason, record.policy),
        *(client.address.lower(), address_key(client.address), _lower(client.name), _lower(client.helo)),
        *(sender, domain, entry.line),
    )


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _text(record: Record) -> str:
    """What a search for words looks at: the fields an operator would remember."""
    texts = (
        *_decision_texts(record),
        *_opinion_texts(record),
        *_client_texts(record.client),
        *_mail_texts(record),
    )
    return "\n".join(filter(None, texts))


def _decision_texts(record: Record) -> Iterator[str | None]:
    yield from (record.reference, record.reason, record.policy, record.detail)
    if record.reply:
        yield record.reply.text
    if record.downstream:
        yield record.downstream.reply
    if record.mta:
        yield from (record.mta.name, record.mta.daemon, record.mta.queue_id)


def _opinion_texts(record: Record) -> Iterator[str | None]:
    """What policies said, also those that did not decide; nothing of those that had no opinion."""
    for policy, opinion in record.opinions.items():
        if opinion.get("verdict") or opinion.get("reason"):
            yield policy
            yield from (str(opinion.get(name) or "") for name in ("verdict", "reason"))
            yield essence(str(opinion.get("detail") or ""))


def _client_texts(client: ClientRecord) -> Iterator[str | None]:
    yield from (client.address, client.name, client.helo, client.authenticated)


def _mail_texts(record: Record) -> Iterator[str | None]:
    yield record.reverse_path
    yield from record.recipients
    if record.message:
        yield from (record.message.message_id, record.message.subject, record.message.from_)


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that holds the write lock from its start; rolled back if anything is raised."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
