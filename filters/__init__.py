"""Filters find out.

Rule of this package: if you must ask somebody (a daemon, a server, a file that changes), it is a
filter. A filter reports what it found and never decides what that means. It imports `gateway.smtp`
and its own daemon's library, and nothing of `policies` or of the rest of `gateway`; no type of
that library leaves the filter's file.

This module re-exports the base and the evidence, never an adapter, so that a policy can import
what it needs without pulling in any daemon's library.
"""

from filters.base import Cost, Filter, FilterError, TooLarge
from filters.evidence import (
    AttachedFile,
    Attachments,
    Evidence,
    Finding,
    Listings,
    Route,
    RspamdReport,
    SpamReport,
    VirusReport,
)

__all__ = [
    "AttachedFile",
    "Attachments",
    "Cost",
    "Evidence",
    "Filter",
    "FilterError",
    "Finding",
    "Listings",
    "Route",
    "RspamdReport",
    "SpamReport",
    "TooLarge",
    "VirusReport",
]
