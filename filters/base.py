"""What a filter is: an adapter to one outside source, that answers with one kind of finding."""

import abc
import enum
from collections.abc import Hashable
from typing import ClassVar

from filters.evidence import Finding
from gateway.smtp.transaction import Stage, Transaction


class Cost(enum.IntEnum):
    """How dear a question is; of what one policy needs, the cheap is asked before the dear."""

    FREE = 0  # answered from memory
    LOOKUP = 1  # a DNS, LDAP or SQL query
    SCAN = 2  # the whole content through a daemon
    HEAVY_SCAN = 3  # the whole content through a slow daemon


class FilterError(Exception):
    """The source did not answer, or not as its protocol demands. The text goes to the operator."""


class TooLarge(FilterError):
    """The source does not look at messages of this size; becomes `Skipped`, never "clean"."""


class Filter(abc.ABC):
    """Base of all filters.

    A subclass names itself and what it finds, and says from which stage it can be asked. The
    keyword-only parameters of its `__init__`, with annotation and default, are its options in the
    configuration. `timeout` and `unavailable` are every filter's options and are not its business:
    the gateway bounds each `find` and turns whatever it raises into `Unavailable`. It does say by
    `timeout` how many seconds that will be, so that they can be shared out over several addresses.
    """

    name: ClassVar[str]
    finds: ClassVar[type[Finding]]
    stage: ClassVar[Stage] = Stage.END_OF_DATA
    cost: ClassVar[Cost] = Cost.LOOKUP
    timeout: float = 30.0

    @abc.abstractmethod
    async def find(self, tx: Transaction) -> Finding:
        """Ask the source about this transaction.

        Raises TooLarge if the source would not look, FilterError or anything else if it failed. A
        cancelled call closes what it opened.
        """

    def subject(self, tx: Transaction) -> Hashable | None:  # noqa: ARG002 - for those that share
        """All that the finding depends on; with an equal subject, `find` would find the same.

        Whoever asks about an equal subject while `find` is under way, or soon after, is given the
        same finding, in whatever session. `None`, for a finding that is never shared.
        """
        return None

    async def probe(self) -> str:
        """Ask the source whether it is well; the answer, for people. Raises what `find` raises."""
        return "nothing to ask"

    async def close(self) -> None:
        """Give back what is held between calls."""
        return
