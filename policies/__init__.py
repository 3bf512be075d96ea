"""Policies decide.

Rule of this package: if you must make up your mind, it is a policy; it may not ask anybody. A
policy is a pure, synchronous function of `(transaction, evidence)` that returns a verdict, or
`None` for no opinion. It imports no third-party package and does no I/O; what it wants to know it
names in `needs`, and a filter finds out.

Everything a policy author imports comes from here.
"""

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
from gateway.smtp.address import Path
from gateway.smtp.entries import FileSet, matches
from gateway.smtp.mime import Part
from gateway.smtp.networks import Networks
from gateway.smtp.transaction import Stage, Transaction
from policies.effects import AddRecipient, Copy, HeaderField, Redirect, SubjectPrefix
from policies.policy import Policy, PolicyError, policy
from policies.verdict import (
    Verdict,
    accept,
    add_recipient,
    discard,
    mark,
    quarantine,
    redirect,
    reject,
    subject,
    tempfail,
)

__all__ = [
    "AddRecipient",
    "AttachedFile",
    "Attachments",
    "Copy",
    "Evidence",
    "FileSet",
    "Finding",
    "HeaderField",
    "Listings",
    "Networks",
    "Part",
    "Path",
    "Policy",
    "PolicyError",
    "Redirect",
    "Route",
    "RspamdReport",
    "SpamReport",
    "Stage",
    "SubjectPrefix",
    "Transaction",
    "Verdict",
    "VirusReport",
    "accept",
    "add_recipient",
    "discard",
    "mark",
    "matches",
    "policy",
    "quarantine",
    "redirect",
    "reject",
    "subject",
    "tempfail",
]
