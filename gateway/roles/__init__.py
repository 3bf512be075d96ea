"""The processes: one module for each role, with an `async def` that works until told to stop.

The supervisor starts them as `python -m gateway.roles ROLE`; they share no memory and can run under
different UIDs.
"""

from gateway.config.schema import Role

# Those that judge mail. The supervisor can be told to run one of them alone, or the journal.
WORKERS: tuple[Role, ...] = ("smtp", "milter")
ROLES = (*WORKERS, "journal")
