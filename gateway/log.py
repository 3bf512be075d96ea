"""The operational log: what happens to the processes, on standard error, one line an event.

What happens to mail is not here but in the journal.
"""

import logging
import sys

import structlog


def configure_logging() -> None:
    """Lines of `time [level] event key=value`, which is what journald and people want."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(
                colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Forward()])


class _Forward(logging.Handler):
    """What filters and libraries log by way of the standard library, in the same lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it, from warnings on, which is all that gets here."""
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )
