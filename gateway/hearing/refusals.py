"""Refusals that are no policy's: of commands that cannot be followed, and of content nobody has to judge."""

from gateway.headers import is_forgery
from gateway.smtp.command import CommandError
from gateway.smtp.header import MAX_FIELDS
from gateway.smtp.message import MAX_HEADER_SECTION, Message
from gateway.spool import Spool
from policies.verdict import Verdict, reject, tempfail

# Fields that have to be taken out of one message. Nobody has as many by accident, and Postfix takes more
# time for each of them, until it gives up.
MAX_FORGERIES = 500


def malformed(error: CommandError, argument: bytes) -> Verdict:
    """A command that cannot be followed is a refusal like any other."""
    refuse = reject if error.reply.is_permanent else tempfail
    return refuse(
        error.reason,
        text=error.reply.text,
        code=error.reply.code,
        status=error.reply.status or "5.5.4",
        detail=argument[:500].decode("ascii", "backslashreplace"),
    )


def overloaded(status: str, detail: str) -> Verdict:
    """Not now: there is no room for the message, and the operator is told what for."""
    text = "Insufficient system resources, please try again later"
    return tempfail("overloaded", text=text, code=452, status=status, detail=detail)


def too_big(detail: str) -> Verdict:
    """More octets than a message may have."""
    return reject("message-too-big", code=552, status="5.3.4", detail=detail)


def header_too_big(detail: str) -> Verdict:
    """More header than anybody could judge, or an MTA could change."""
    return reject("header-too-big", code=552, status="5.3.4", detail=detail)


def refuse_content(spool: Spool, message: Message, has_bare_newline: bool, hostname: str) -> Verdict | None:
    """What no policy has to look at: too big, undeliverable by its line endings, not stored, looping."""
    if spool.overflowed:
        return too_big(f"{spool.size} octets")
    if spool.failure:
        return tempfail("storage-failed", code=452, status="4.3.1", detail=spool.failure)
    if has_bare_newline:
        return reject("bare-newline", status="5.6.11")
    if message.is_all_header:
        return header_too_big(f"more than {MAX_HEADER_SECTION} octets or {MAX_FIELDS} fields")
    if len(message.fields) > MAX_FORGERIES:
        forgeries = sum(is_forgery(each.name, each.value, hostname) for each in message.fields)
        if forgeries > MAX_FORGERIES:
            return header_too_big(f"{forgeries} fields that only we may add")
    if message.is_looping(hostname):
        return reject("mail-loop", code=554, status="5.4.6")
    return None
