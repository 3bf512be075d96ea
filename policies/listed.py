"""How the lists of the built-in policies are read: mailboxes, and domains in either of their forms."""

from gateway.smtp.address import Path
from gateway.smtp.entries import FileSet, matches


def entry_for(path: Path, entries: FileSet) -> str | None:
    """The entry that covers a mailbox, or `None`.

    `anna@example.net`; for everybody of a domain `@example.net` or `example.net`, of its subdomains
    `@.example.net` or `.example.net`: whoever puts a domain on a list of senders means all of them.
    """
    return matches(path, entries) or matches(path.domain, entries)
