"""What the downstream said or failed to say, in our own words: verdicts, and replies as we speak them."""

from gateway.relay.client import DownstreamError
from gateway.relay.delivery import ExtensionMissing
from gateway.smtp.reply import Reply
from policies.verdict import Verdict, reject, tempfail


def verdict_of_failure(failure: DownstreamError | TimeoutError, detail: str) -> Verdict:
    """There was no answer."""
    if isinstance(failure, TimeoutError):
        return tempfail("deadline-exceeded", status="4.4.7", detail=detail)
    if isinstance(failure, ExtensionMissing):
        return tempfail("extension-missing", status="4.3.3", detail=detail)
    return tempfail("downstream-unavailable", status="4.4.1", detail=detail)


def verdict_of_refusal(reply: Reply) -> Verdict:
    """The answer was no."""
    if not reply.is_permanent:
        return tempfail("downstream-deferred", detail=str(reply))
    unknown = reply.status is not None and reply.status.startswith("5.1.")
    return reject("unknown-recipient" if unknown else "downstream-rejected", detail=str(reply))


def as_spoken(reply: Reply, status_of_550: str | None = None) -> Reply:
    """The reply as we say it: its code and text, with an enhanced status if it has none.

    421 would announce that we hang up, which we do not.
    """
    code = 451 if reply.code == 421 else reply.code
    if reply.status is not None and code == reply.code:
        return reply
    default = status_of_550 if code == 550 and status_of_550 else f"{code // 100}.0.0"
    return Reply(code, reply.status or default, reply.lines)
