"""A message that comes in chunks: what is remembered from one BDAT to the next (RFC 3030).

A chunk is always taken whole, whatever is answered to it: none of its octets may ever be read as a
command.
"""

from gateway.proxy.service import ProxyService
from gateway.smtp.command import Chunk
from gateway.smtp.content import ChunkReader
from gateway.smtp.reply import Reply
from gateway.spool import Spool


class ChunkedMessage:
    """Content under construction, or, with a `refusal`, where content goes that nobody wants."""

    def __init__(self, service: ProxyService, refusal: Reply | None = None) -> None:
        self.refusal = refusal
        limit = service.max_message_size if refusal is None else 0
        self.spool = Spool(service.store, limit)
        self.reader = ChunkReader(service.bare_newline)

    @property
    def is_lost(self) -> bool:
        """Whether it will not be delivered whatever follows, so that the client may hear it now."""
        return self.spool.overflowed or self.spool.failure is not None

    def begin(self, chunk: Chunk) -> None:
        """That chunk comes next."""
        self.reader.begin(chunk.size, chunk.is_last)


def received(chunk: Chunk) -> Reply:
    """What is said to a chunk that was taken and is not the last one."""
    return Reply.of(250, "2.0.0", f"{chunk.size} octets received")
