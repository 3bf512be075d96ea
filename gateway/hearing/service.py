"""What every session of one listener shares, whichever front end it comes by."""

import asyncio
from dataclasses import dataclass

from gateway.pipeline import Pipeline
from gateway.profiles import Profiles
from gateway.quarantine.store import Quarantine
from gateway.recorder import Recorder
from gateway.spool import Store
from gateway.terms import Speak


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """`deadline` is seconds from the end of data to our reply, `max_message_size` octets."""

    hostname: str
    listener: str
    profiles: Profiles
    recorder: Recorder
    store: Store
    quarantine: Quarantine
    speak: Speak = "rcpt"
    deadline: float = 60.0
    max_message_size: int = 52_428_800

    @property
    def pipeline(self) -> Pipeline:
        """The general settings' filters and policies, for what is judged before a recipient is named."""
        return self.profiles.general.pipeline

    def next_deadline(self) -> float:
        """When what begins now has to be over, in the event loop's time."""
        return asyncio.get_running_loop().time() + self.deadline
