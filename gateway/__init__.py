"""The gateway speaks, and carries out.

Rule of this package: every byte that crosses a socket to an SMTP peer or to an MTA is read or
written here, and every verdict is carried out here. It may not find anything out by itself (that
is a filter) and may not make up its mind about a message (that is a policy).

`gateway.smtp` is the vocabulary everybody shares; the import directions between the other parts
are in docs/architecture.md and are held by tests/test_architecture.py.
"""

__version__ = "0.1.0"
