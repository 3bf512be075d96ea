"""A worker's file descriptors: clients and their transactions get what can be spared, and no more.

Whoever runs out of descriptors (EMFILE) fails at any place: a scanner, the downstream, the spool, the
journal. So a part is kept for what is not counted, and a client is turned away, or told to send its
message later, while everything still works.
"""

import sys
from typing import Self

# What a transaction may need besides its client's own: the downstream, two scanners, the content's
# file, and one for a filter of somebody's own.
PER_TRANSACTION = 5
# Connections that were accepted but not looked at, and those that are being turned away.
_BACKLOGS_KEPT = 4
# Kept downstream connections, DNS, records, certificates: this many, and less where there are few.
_KEPT, _KEPT_PART = 128, 8
_LONGEST_BACKLOG, _BACKLOG_PART = 512, 32


class Descriptors:
    """What is left for clients; two thirds at most are for connections, the rest for what they do."""

    def __init__(self, available: int = sys.maxsize) -> None:
        self._available = available
        self._connections = self._transactions = 0

    @classmethod
    def within(cls, limit: int, in_use: int) -> Self:
        """What `limit` leaves where so many are in use already."""
        kept = in_use + min(_KEPT, limit // _KEPT_PART) + _BACKLOGS_KEPT * backlog_within(limit)
        return cls(max(limit - kept, 0))

    def take_for_connection(self) -> bool:
        """One for a client; false where there is none left."""
        if self._left < 1 or self._connections >= self._available * 2 // 3:
            return False
        self._connections += 1
        return True

    def give_back_connection(self) -> None:
        """The client is gone."""
        self._connections -= 1

    def take_for_transaction(self) -> bool:
        """Those for a transaction; false where there are not enough left."""
        if self._left < PER_TRANSACTION:
            return False
        self._transactions += 1
        return True

    def give_back_transaction(self) -> None:
        """The transaction is over."""
        self._transactions -= 1

    @property
    def _left(self) -> int:
        return self._available - self._connections - self._transactions * PER_TRANSACTION


def backlog_within(limit: int) -> int:
    """How many may wait to be accepted: all of them may be accepted in one turn of the event loop."""
    return max(min(limit // _BACKLOG_PART, _LONGEST_BACKLOG), 1)
