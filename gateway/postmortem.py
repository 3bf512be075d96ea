"""From what a dead worker was at to a record, so that whoever looks for the mail finds the policy."""

from pathlib import Path

import structlog

from gateway.bulletin import Notice
from gateway.journal.layout import Layout
from gateway.journal.record import Record, new_reference, timestamp
from gateway.journal.writer import JournalWriter

# Of a traceback by the interpreter the beginning says most.
_MAX_DETAIL = 4000

_log = structlog.get_logger()


def record_death(notice: Notice, end: str, traceback: str, node: str, state_directory: Path) -> None:
    """Write the record of a transaction that ended with its worker, in the middle of a policy.

    `end` says how, `traceback` is the interpreter's own (may be empty). `node` is our host name.
    """
    subject = notice.subject
    if subject is None:
        _log.error("a transaction cannot be told from what its worker left", policy=notice.policy)
        return
    detail = f"the worker {end}, {notice.seconds:.1f} s after it had called policy {notice.policy}"
    detail = "\n".join(filter(None, (detail, traceback)))[:_MAX_DETAIL]
    writer = JournalWriter(Layout(state_directory).spool)
    writer.write(
        Record(
            reference=new_reference(),
            time=timestamp(),
            node=node,
            listener=subject.listener,
            verdict="aborted",
            stage=subject.stage,
            spoken=subject.stage,
            reason="policy-error",
            policy=notice.policy,
            detail=detail,
            client=subject.client,
            reverse_path=subject.reverse_path,
            recipients=subject.recipients,
            mta=subject.mta,
        )
    )
    if not writer.flush():
        _log.error("an aborted transaction has no record", reason="policy-error", policy=notice.policy)
    writer.close()
