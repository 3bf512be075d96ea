"""Handing a message from the quarantine to the downstream, when the operator says so.

The same client as in the dialogue, but nobody waits for the answer: it is reported, and whoever did
not get the message is still in the entry.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

import msgspec

from gateway.quarantine.store import Entry, Quarantine
from gateway.relay.client import DownstreamError
from gateway.relay.delivery import Delivery
from gateway.relay.pool import Pool
from gateway.relay.router import Destination, Router
from gateway.smtp.address import Path as Mailbox
from gateway.smtp.address import parse_address
from gateway.smtp.envelope import Envelope
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session

_CHUNK = 131_072


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient; `said` is the downstream's reply, or why there is none."""

    recipient: str
    is_delivered: bool
    said: str


class Releaser:
    """Releases what is in `quarantine`. `deadline` is the seconds for one downstream transaction."""

    def __init__(self, quarantine: Quarantine, router: Router, hostname: str, deadline: float) -> None:
        self._quarantine = quarantine
        self._router = router
        self._hostname = hostname
        self._deadline = deadline

    async def release(self, entry: Entry, elsewhere: Sequence[Mailbox] = ()) -> list[Outcome]:
        """Deliver the entry to its recipients; who got it is no longer in it, and one of nobody is deleted.

        What is sent `elsewhere` stays, for its own recipients wait for it all the same. What has become of
        the entry since it was found counts.
        """
        try:
            with self._quarantine.claimed(entry.reference) as claimed:
                return await self._release(claimed, elsewhere)
        except BlockingIOError:
            return _not_ours(entry, elsewhere, "another release of it is under way")
        except FileNotFoundError:
            return _not_ours(entry, elsewhere, "it is not there any more")

    async def _release(self, entry: Entry, elsewhere: Sequence[Mailbox]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        pool = Pool(self._hostname)
        try:
            for destination, recipients in self._by_destination(entry, elsewhere).items():
                outcomes += await self._deliver(pool, entry, destination, recipients)
                if not elsewhere:
                    # At once: who has it shall not get it again, whatever becomes of the others.
                    self._write_off(entry, outcomes)
        finally:
            pool.close()
        return outcomes

    def _write_off(self, entry: Entry, outcomes: Sequence[Outcome]) -> None:
        delivered = {outcome.recipient for outcome in outcomes if outcome.is_delivered}
        waiting = [recipient for recipient in entry.recipients if recipient not in delivered]
        if not waiting:
            self._quarantine.delete(entry.reference)
        elif len(waiting) < len(entry.recipients):
            self._quarantine.rewrite(msgspec.structs.replace(entry, recipients=waiting))

    def _by_destination(
        self, entry: Entry, elsewhere: Sequence[Mailbox]
    ) -> dict[Destination | None, list[Mailbox]]:
        apart: dict[Destination | None, list[Mailbox]] = {}
        for recipient in dict.fromkeys(elsewhere or map(parse_address, entry.recipients)):
            apart.setdefault(self._router.find(recipient), []).append(recipient)
        return apart

    async def _deliver(
        self, pool: Pool, entry: Entry, destination: Destination | None, recipients: Sequence[Mailbox]
    ) -> list[Outcome]:
        """One downstream transaction."""
        if destination is None:
            return [Outcome(str(each), False, "no [[relay]] has its domain") for each in recipients]
        # It is we who send this, not the client of that day.
        session = Session(ip_address("127.0.0.1"), 0, "quarantine", helo_name=self._hostname, esmtp=True)
        envelope = Envelope(parse_address(entry.reverse_path), parameters=entry.parameters)
        delivery = Delivery(pool, replace(destination, identify="none"), session, envelope)
        try:
            async with asyncio.timeout(self._deadline):
                return await self._hand_over(delivery, entry, recipients)
        except (DownstreamError, TimeoutError) as error:
            return _broken_off(delivery, recipients, str(error) or "the deadline passed")
        finally:
            delivery.abandon()

    async def _hand_over(
        self, delivery: Delivery, entry: Entry, recipients: Sequence[Mailbox]
    ) -> list[Outcome]:
        """Raises DownstreamError."""
        said = {recipient: await delivery.add(recipient, {}) for recipient in recipients}
        if delivery.accepted:
            await delivery.commit(self._chunks(entry))
            said |= _said(delivery)
        return [_outcome(recipient, reply) for recipient, reply in said.items()]

    def _chunks(self, entry: Entry) -> Iterator[bytes]:
        with self._quarantine.open(entry.reference) as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _not_ours(entry: Entry, elsewhere: Sequence[Mailbox], why: str) -> list[Outcome]:
    return [Outcome(each, False, why) for each in (map(str, elsewhere) if elsewhere else entry.recipients)]


def _said(delivery: Delivery) -> dict[Mailbox, Reply]:
    """What was said after the end of data, as far as it was."""
    return {path: reply for (path, _), reply in zip(delivery.accepted, delivery.replies, strict=False)}


def _broken_off(delivery: Delivery, recipients: Sequence[Mailbox], why: str) -> list[Outcome]:
    """Some may have been answered before it broke off."""
    if delivery.is_committed:
        why += " (after the end of data: it may have been taken)"
    said = _said(delivery)
    return [
        _outcome(each, said[each]) if each in said else Outcome(str(each), False, why) for each in recipients
    ]


def _outcome(recipient: Mailbox, reply: Reply) -> Outcome:
    return Outcome(str(recipient), reply.is_positive, str(reply))
