"""A gateway inside the test's own event loop: real sockets, plain values, records kept in memory."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from filters.base import Cost, Filter
from filters.evidence import Finding, Listings, RspamdReport, SpamReport, VirusReport
from filters.route import Routes
from gateway.journal.record import Record
from gateway.journal.writer import JournalFull
from gateway.pipeline import FilterSetting, Pipeline, PolicySetting
from gateway.profiles import Profile, Profiles
from gateway.proxy.admission import Admission, ConnectionCounts, share_memory
from gateway.proxy.server import Server
from gateway.proxy.service import ProxyService
from gateway.quarantine.store import Quarantine, quarantine_directory
from gateway.recorder import Recorder
from gateway.relay.capabilities import Offer
from gateway.relay.pool import Pool
from gateway.relay.router import Destination, Router
from gateway.smtp.endpoint import Endpoint
from gateway.smtp.networks import Networks
from gateway.smtp.transaction import Stage, Transaction
from gateway.spool import Store
from policies.policy import Policy
from policies.recipients import recipients
from tests.fakes.mta import FakeMTA
from tests.waiting import eventually

HOSTNAME = "mx.our.example"
OURS = "our.example"


class Journal:
    """Stands in for the journal's writer: keeps records, is full when told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_full = False
        self.takes_none = False

    def write(self, record: Record) -> None:
        if self.takes_none:
            raise JournalFull("told so")
        self.records.append(record)


class ScriptedFilter(Filter):
    """A filter that is one function. `started` counts its calls, `cancelled` those that were cut off."""

    name: ClassVar[str] = "scripted"
    finds: ClassVar[type[Finding]] = Finding

    def __init__(self, answer: Callable[[Transaction], Awaitable[Finding]]) -> None:
        self._answer = answer
        self.started = 0
        self.cancelled = 0

    async def find(self, tx: Transaction) -> Finding:
        self.started += 1
        try:
            return await self._answer(tx)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Scanner(ScriptedFilter):
    """Finds VirusReport."""

    name = "scanner"
    finds = VirusReport
    cost = Cost.SCAN


class SpamScanner(ScriptedFilter):
    """Finds SpamReport, and is dearer."""

    name = "spam-scanner"
    finds = SpamReport
    cost = Cost.HEAVY_SCAN


class RspamdScanner(ScriptedFilter):
    """Finds RspamdReport."""

    name = "rspamd-scanner"
    finds = RspamdReport
    cost = Cost.HEAVY_SCAN


class Lists(ScriptedFilter):
    """Finds Listings of one address, and remembers who was asked about."""

    name = "lists"
    finds = Listings
    stage = Stage.CONNECT

    def __init__(self, listed: str) -> None:
        super().__init__(self._look_up)
        self.asked: list[str] = []
        self._listed = listed

    async def _look_up(self, tx: Transaction) -> Listings:
        self.asked.append(str(tx.session.client_address))
        is_listed = self.asked[-1] == self._listed
        return Listings(5.0, {"bl.example": ("127.0.0.2",)}) if is_listed else Listings(0.0, {})


def answers(finding: Finding) -> Callable[[Transaction], Awaitable[Finding]]:
    """Answer at once."""

    async def answer(tx: Transaction) -> Finding:
        return finding

    return answer


def fails(error: BaseException) -> Callable[[Transaction], Awaitable[Finding]]:
    """Raise."""

    async def answer(tx: Transaction) -> Finding:
        raise error

    return answer


async def hangs(tx: Transaction) -> Finding:
    """Never answer."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def waits(event: asyncio.Event, finding: Finding) -> Callable[[Transaction], Awaitable[Finding]]:
    """Answer once the test says so."""

    async def answer(tx: Transaction) -> Finding:
        await event.wait()
        return finding

    return answer


def destination(*addresses: str, domains: Sequence[str] = (OURS,), lmtp: bool = False) -> Destination:
    """A relay entry for our domain."""
    endpoints = tuple(replace(Endpoint.parse(address), lmtp=lmtp) for address in addresses)
    return Destination(tuple(domains), endpoints)


def offering(offer: Offer) -> SimpleNamespace:
    """Capabilities that are known to be these."""
    return SimpleNamespace(offer=lambda: offer)


class RunningGateway:
    """One listener on 127.0.0.1. `stop` asserts what must hold after every test."""

    def __init__(
        self,
        directory: Path,
        destinations: Sequence[Destination],
        policies: Sequence[Policy | PolicySetting] = (),
        filters: Sequence[Filter | FilterSetting] = (),
        limits: tuple[int, ...] = (1000, 1000),
        profiles: Mapping[str, Sequence[Policy | PolicySetting]] = {},
        **service: Any,
    ) -> None:
        quarantine = quarantine_directory(directory)
        quarantine.mkdir(exist_ok=True)
        self.quarantine = Quarantine(quarantine)
        routes = Routes([domain for each in destinations for domain in each.domains])
        sources = [f if isinstance(f, FilterSetting) else FilterSetting(f) for f in (routes, *filters)]
        self.journal = Journal()
        self.pool = Pool(HOSTNAME)
        self.service = ProxyService(
            hostname=HOSTNAME,
            listener="127.0.0.1:25",
            profiles=Profiles(
                Profile(_pipeline(policies, sources)),
                [
                    Profile(_pipeline(own, sources), (entry,), overrides_early=True)
                    for entry, own in profiles.items()
                ],
            ),
            router=Router(destinations),
            pool=self.pool,
            recorder=Recorder(self.journal, HOSTNAME),
            quarantine=self.quarantine,
            **{"store": Store(directory), **service},
        )
        counts = share_memory(workers=1, listeners=1)
        exempt = Networks((*self.service.proxy_protocol.texts(), *self.service.xclient.texts()))
        admission = Admission(
            ConnectionCounts(counts, 0, 1, 0),
            *limits,
            descriptors=self.service.descriptors,
            exempt=exempt,
        )
        self.server = Server(self.service, admission)
        os.close(counts)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def records(self) -> list[Record]:
        """What was recorded, in order."""
        return self.journal.records

    async def start(self) -> None:
        self._tasks = asyncio.all_tasks()
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        await self.server.start(listening)

    async def stop(self) -> None:
        """Stop, and find nothing left over (no connection, no task)."""
        await self.server.drain(0.1)
        self.pool.close()
        await eventually(lambda: asyncio.all_tasks() <= self._tasks | {_this_task()})

    async def record(self, number: int = 0) -> Record:
        """That record, waited for: an abort is recorded after the client has gone."""
        await eventually(lambda: len(self.records) > number)
        return self.records[number]

    async def no_client(self) -> None:
        """Wait until every client is gone and dealt with."""
        await eventually(lambda: asyncio.all_tasks() <= self._tasks | {_this_task()})


def _pipeline(policies: Sequence[Policy | PolicySetting], filters: Sequence[FilterSetting]) -> Pipeline:
    settings = [p if isinstance(p, PolicySetting) else PolicySetting(p) for p in (recipients, *policies)]
    return Pipeline(settings, filters)


def _this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def check_promises(gateway: RunningGateway, mta: FakeMTA) -> None:
    """What holds whatever happened: one record per message taken, nothing a receiver could misread."""
    accepted = [record for record in gateway.records if record.verdict == "accepted"]
    ours = [record for record in accepted if record.downstream and record.downstream.address == mta.address]
    taken = sum(len(message.recipients) for message in mta.messages)
    assert sum(map(_deliveries, ours)) <= taken
    assert not mta.suspicions()
    references = [record.reference for record in gateway.records]
    assert len(set(references)) == len(references)
    for stage in (record.stage for record in gateway.records):
        assert stage in {"relay", *(each.value for each in Stage)}


def _deliveries(record: Record) -> int:
    """How many recipients the downstream must have been told of at least."""
    effects = [effect for opinion in record.opinions.values() for effect in opinion.get("effects", ())]
    is_redirected = any(effect["effect"] == "redirect" for effect in effects)
    return 1 if is_redirected else len(record.recipients)
