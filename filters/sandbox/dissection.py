"""Takes a message apart: its parts, the archives among them, what is in those, down to the limits.

What is malformed, damaged or too much is a defect and never an error. Files are named by their way:
`a.zip/b/c.doc`.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator

from filters.sandbox import archives, documents
from filters.sandbox.archives import BadArchiveError, Entry
from filters.sandbox.limits import File, LimitReachedError, Limits
from filters.sandbox.true_types import find_type
from gateway.smtp.message import Content, Message
from gateway.smtp.mime import Part, defects_of

# Little things of any ratio are no bomb.
_HARMLESS = 1_048_576
# All of it goes into the record, which has 4 MiB: of names, of macros, and of links together.
_MAX_NAME = 300
_MAX_LINK_TEXT = 200_000
# What turns the characters behind it around, so that "fdp.exe" is read as "exe.pdf". No name keeps it.
_TURNING = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
# Fewer than one part ever names, so that it is noticed where there are more.
_MAX_LINKS = 900
# What an archive says of a member need not be true, nor fit where numbers are kept.
_MAX_SIZE = 2**63 - 1
_PIECE = 1_048_576
_MESSAGES = frozenset({"message/rfc822", "message/global"})
# What every document that is a zip is made of, if it is what it is called: nobody needs a list of that.
_STUFFING_NAMES = (".xml", ".rels", ".png", ".jpg", ".jpeg", ".gif", ".emf", ".wmf", ".svg", ".odttf")
_STUFFING_TYPES = ("text/plain", "text/xml", "image/", "application/xml", "font/")
# Excel's older macro language, in the newer documents.
_MACRO_SHEETS = "xl/macrosheets/"


class HeldContent:
    """Octets in memory: a `gateway.smtp.message.Content`."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)
        self.digest = ""

    def head(self, limit: int) -> bytes:
        """The first `limit` octets."""
        return self._octets[:limit]

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The octets from `start` on, in pieces."""
        for at in range(start, self.size, _PIECE):
            yield self._octets[at : at + _PIECE]


class Dissection:
    """What is found in one message. It can be looked at whenever the looking was broken off."""

    def __init__(self, limits: Limits) -> None:
        self.files: list[File] = []
        self.urls: dict[str, None] = {}
        self.defects: dict[str, None] = {}
        self._limits = limits
        self._unpacked = 0
        self._url_length = 0

    def run(self, content: Content) -> None:
        """Look at all of it, or as much as the limits allow."""
        try:
            self._message(content, "", 0)
        except LimitReachedError as error:
            self.add_defect(str(error))

    def add_defect(self, defect: str) -> None:
        """Note what is wrong; each once."""
        self.defects.setdefault(defect)

    def _message(self, content: Content, way: str, depth: int) -> None:
        parts = Message(content).parts_within(content.size)
        if malformed := defects_of(parts):
            for defect in ("malformed-mime", *malformed):
                self.add_defect(defect)
        for url in itertools.chain.from_iterable(part.urls for part in parts):
            self._add_url(url)
        for part in parts:
            if not part.is_container and _is_file(part):
                name = part.file_name or f"part-{part.number}"
                self._file(File(_join(way, name), part.content_type, depth), part.octets)

    def _add_url(self, url: str) -> None:
        if url in self.urls:
            return
        if self._url_length + len(url) > _MAX_LINK_TEXT or len(self.urls) >= _MAX_LINKS:
            self.add_defect("too-many-urls")
        else:
            self.urls[url] = None
            self._url_length += len(url)

    def _file(self, file: File, octets: bytes) -> None:
        """Look at one whole file, and into it."""
        self._add(file)
        file.size = len(octets)
        file.digest = hashlib.sha256(octets).hexdigest()
        file.true_type = find_type(octets)
        file.is_archive = file.true_type in archives.ARCHIVES
        if documents.is_document(octets):
            self._document(file, octets)
        if file.true_type in _MESSAGES:
            self._inside(file, lambda: self._message(HeldContent(octets), file.name, file.depth + 1))
        if archives.is_archive(file.true_type, octets):
            self._inside(file, lambda: self._archive(file, octets))

    def _add(self, file: File) -> None:
        if len(self.files) >= self._limits.max_files:
            raise LimitReachedError("too-many-files")
        self.files.append(file)

    def _inside(self, file: File, look: Callable[[], None]) -> None:
        if file.depth >= self._limits.max_depth:
            self.add_defect("too-deep")
        else:
            look()

    def _document(self, file: File, octets: bytes) -> None:
        try:
            document = documents.examine(octets)
        except ValueError:
            self.add_defect("document-damaged")
            return
        file.macros = dict.fromkeys(document.macros)
        file.is_encrypted = document.is_encrypted
        if document.is_encrypted:
            self.add_defect("document-encrypted")

    def _archive(self, file: File, octets: bytes) -> None:
        unpacking = _Unpacking(self, len(octets))
        is_document = not file.is_archive and (octets.startswith(b"PK") or documents.is_document(octets))
        try:
            for entry in archives.entries(file.true_type, file.name, octets):
                unpacking.check_entry()
                before = len(self.files)
                inner = self._entry(file, entry, unpacking)
                if is_document:
                    self._settle(file, inner, before)
            if file.is_archive and unpacking.is_empty:
                self.add_defect("archive-empty")
        except BadArchiveError as error:
            self.add_defect(str(error))
            file.is_encrypted |= str(error) == "archive-encrypted"

    def _entry(self, outer: File, entry: Entry, unpacking: "_Unpacking") -> File:
        """One member of an archive, which knows no types."""
        name, is_harmless = _clean_way(entry.name)
        if not is_harmless:
            self.add_defect("name-traversal")
        if _TURNING.search(entry.name):
            self.add_defect("name-disguised")
        file = File(_join(outer.name, name), None, outer.depth + 1, size=min(max(entry.size, 0), _MAX_SIZE))
        if entry.is_encrypted:
            self.add_defect("archive-encrypted")
            outer.is_encrypted = file.is_encrypted = True
            self._add(file)
            return file
        try:
            octets = unpacking.take(entry)
        except (BadArchiveError, LimitReachedError):
            self._add(file)
            raise
        self._file(file, octets)
        return file

    def _settle(self, document: File, file: File, before: int) -> None:
        """What a document holds is said of the document; its own stuffing is not listed."""
        telling = itertools.islice(document.macros | file.macros, documents.MAX_KEYWORDS)
        document.macros = dict.fromkeys(telling)
        if f"/{_MACRO_SHEETS}" in file.name.lower():
            document.macros.setdefault("XLM macro")
        is_alone = len(self.files) == before + 1
        is_stuffing = file.true_type is None or file.true_type.startswith(_STUFFING_TYPES)
        if is_alone and is_stuffing and file.name.lower().endswith(_STUFFING_NAMES) and not file.macros:
            self.files.pop()

    def account(self, octets: int) -> None:
        """Count what comes out of archives. Raises LimitReachedError when it is too much."""
        self._unpacked += octets
        if self._unpacked > self._limits.max_unpacked:
            raise LimitReachedError("too-large-unpacked")

    @property
    def limits(self) -> Limits:
        """How far to go."""
        return self._limits


class _Unpacking:
    """One archive on its way out: what it took to pack, and what has come out of it."""

    def __init__(self, dissection: Dissection, packed: int) -> None:
        self._dissection = dissection
        self._packed = packed
        self._unpacked = 0
        self._entries = 0

    def check_entry(self) -> None:
        """A document's stuffing is not listed, but counts for what it takes to look at it."""
        self._entries += 1
        if self._entries > self._dissection.limits.max_files:
            raise LimitReachedError("too-many-files")

    @property
    def is_empty(self) -> bool:
        """Whether it had no entries, which only a damaged archive has."""
        return not self._entries

    def take(self, entry: Entry) -> bytes:
        """The entry's octets. Raises BadArchiveError or LimitReachedError."""
        octets = bytearray()
        for piece in entry.read():
            octets += piece
            self._unpacked += len(piece)
            self._dissection.account(len(piece))
            if self._unpacked > max(_HARMLESS, self._packed * self._dissection.limits.max_ratio):
                raise BadArchiveError("compression-ratio")
        return bytes(octets)


def _is_file(part: Part) -> bool:
    """Whether a leaf is more than text to read."""
    if part.file_name is not None or part.disposition == "attachment":
        return True
    is_text = part.content_type.startswith("text/")
    return not is_text or part.true_type not in {None, "text/html"}


def _join(way: str, name: str) -> str:
    """The way to a file; of a long one the end."""
    joined = f"{way}/{name}" if way else name
    return joined if len(joined) <= _MAX_NAME else f"\u2026{joined[1 - _MAX_NAME :]}"


def _clean_way(written: str) -> tuple[str, bool]:
    """The way within an archive, made harmless, and whether it was."""
    path = "".join(char if char.isprintable() else "_" for char in written.replace("\\", "/"))
    steps = [step for step in path.split("/") if step not in {"", "."}]
    is_harmless = ".." not in steps and not path.startswith("/") and path[1:2] != ":"
    return "/".join("_" if step == ".." else step for step in steps) or "_", is_harmless
