"""A message as it comes in, field by field and piece by piece, in libmilter's threads."""

from gateway.hearing.service import Service
from gateway.milter.changes import Field
from gateway.milter.transaction import Submission
from gateway.smtp.header import MAX_FIELDS
from gateway.smtp.message import MAX_HEADER_SECTION, Message
from gateway.spool import Spool

# Octets that an MTA sends of a body at once.
_CHUNK = 65_535


class Gathering:
    """Of a message that has begun; to be submitted or dropped.

    `keeps_blanks` says that the MTA gives header values with the white space before them.
    """

    def __init__(self, service: Service, keeps_blanks: bool) -> None:
        self._service = service
        self._keeps_blanks = keeps_blanks
        self._fields: list[Field] = []
        self._header_size = 0
        self._is_cut = False
        self._spool: Spool | None = None
        self._is_refused_by_header: bool | None = None

    def header(self, name: str, value: bytes) -> None:
        """One header field, folds as LF. Of a section without end only so much is kept as shows that."""
        self._header_size += len(name) + len(value)
        if len(self._fields) >= MAX_FIELDS or self._header_size > MAX_HEADER_SECTION:
            self._is_cut = True
            return
        value = value.replace(b"\n", b"\r\n")
        self._fields.append((name, value if self._keeps_blanks else b" " + value))

    def end_of_header(self) -> None:
        """The header section is complete: the message begins with what the MTA has of it."""
        section = b"".join(b"%s:%s\r\n" % (name.encode("utf-8"), value) for name, value in self._fields)
        self._spool = Spool(self._service.store, self._service.max_message_size)
        self._spool.append(section + b"\r\n")
        self._message = Message(self._spool)

    def body(self, chunk: bytes) -> bool:
        """A piece of the body; false if no more of it is of use."""
        spool = self._open_spool()
        spool.append(chunk)
        if spool.overflowed or spool.failure or self._is_cut:
            return False
        # Where this is all there is, there is nothing to be spared.
        return len(chunk) < _CHUNK or not self._is_refused()

    def _is_refused(self) -> bool:
        """Whether the message is refused for its header, whatever comes behind that."""
        if self._is_refused_by_header is None:
            looping = self._message.is_looping(self._service.hostname)
            self._is_refused_by_header = looping or self._message.is_all_header
        return self._is_refused_by_header

    def submit(self, queue_id: str | None) -> Submission:
        """The whole message, to be closed by whoever takes it."""
        spool, self._spool = self._open_spool(), None
        return Submission(self._message, spool, tuple(self._fields), self._is_cut, queue_id)

    def drop(self) -> None:
        """Nobody wants it any more."""
        if self._spool is not None:
            self._spool.close()

    def _open_spool(self) -> Spool:
        if self._spool is None:
            # Without a header there may be no end of one either.
            self.end_of_header()
        assert self._spool is not None
        return self._spool
