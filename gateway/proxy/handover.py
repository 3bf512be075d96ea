"""A group's message on its way to the downstream, and what is recorded of the answers.

One record for what the downstream took, one for each kind of refusal, one for what it left unanswered.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from gateway.casefile import Judgement
from gateway.journal.record import DownstreamRecord
from gateway.proxy.addressing import Addressing
from gateway.recorder import Event, Recorder, only
from gateway.relay.answers import as_spoken, verdict_of_failure, verdict_of_refusal
from gateway.relay.client import DownstreamError
from gateway.relay.delivery import Delivery
from gateway.smtp.reply import Reply
from policies.verdict import Verdict

RELAY = "relay"


class Handover:
    """One message for the recipients of `event`, by way of `delivery`; first `run`, then `answers`."""

    def __init__(self, recorder: Recorder, delivery: Delivery, addressing: Addressing, event: Event) -> None:
        self._recorder = recorder
        self._delivery = delivery
        self._addressing = addressing
        self._event = event
        self._failure: DownstreamError | TimeoutError | None = None

    async def run(self, content: Iterable[bytes], deadline: float) -> None:
        """Hand it over, until `deadline` in the event loop's time; what goes wrong is an answer, too."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                await self._delivery.commit(content)
        except (DownstreamError, TimeoutError) as error:
            self._failure = error
        finally:
            self._event.case.spend(RELAY, loop.time() - started)

    def answers(
        self, reference: str, accepted_by: Judgement | None, remarks: Iterable[str]
    ) -> dict[int, Reply]:
        """The answer to each recipient by its number, recorded.

        One record has this `reference`, which the message and its copy go by; the others have their own.
        """
        heard = self._heard()
        answers = {number: reply for number, reply in heard.items() if reply.is_positive}
        if answers:
            event = self._event_for(answers, "; ".join(dict.fromkeys(map(str, answers.values()))))
            reply = next(iter(answers.values()))
            remark = "; ".join([*remarks, *self._refused_additions()])
            self._recorder.accepted(event, reference, reply, accepted_by, remark)
        left = None if answers else reference
        for reply in dict.fromkeys(reply for reply in heard.values() if not reply.is_positive):
            numbers = [number for number, each in heard.items() if each == reply]
            event = self._event_for(numbers, str(reply))
            answers |= dict.fromkeys(numbers, self._refuse(event, verdict_of_refusal(reply), reply, left))
            left = None
        if self._failure is not None:
            missing = [number for number in self._addressing.answered_by if number not in heard]
            answers |= dict.fromkeys(missing, self._refuse_undelivered(missing, self._failure))
        return answers

    def _heard(self) -> dict[int, Reply]:
        """What the downstream said about each recipient, by its number."""
        replies = [as_spoken(reply) for reply in self._delivery.replies]
        places = self._addressing.answered_by.items()
        return {number: replies[place] for number, place in places if place < len(replies)}

    def _refused_additions(self) -> Iterable[str]:
        """Recipients of a policy's own that the downstream did not take: nobody else hears of it."""
        first = len(self._addressing.targets) - len(self._addressing.added)
        for path, reply in zip(self._addressing.added, self._delivery.replies[first:], strict=False):
            if not reply.is_positive:
                yield f"not delivered to {path}, whom a policy added: {reply}"

    def _refuse_undelivered(self, numbers: Iterable[int], failure: DownstreamError | TimeoutError) -> Reply:
        """The downstream did not answer, or not in time. If it had the whole message we cannot know."""
        detail = str(failure) or "the deadline passed while relaying"
        if self._delivery.is_committed:
            detail += " (after the end of data: the downstream may have taken the message)"
        self._delivery.abandon()
        return self._refuse(self._event_for(numbers), verdict_of_failure(failure, detail))

    def _event_for(self, numbers: Iterable[int], reply: str | None = None) -> Event:
        """The event for some of the recipients, by their numbers, with what the downstream said."""
        downstream = DownstreamRecord(self._delivery.address, reply)
        return replace(only(self._event, numbers), downstream=downstream)

    def _refuse(
        self, event: Event, verdict: Verdict, reply: Reply | None = None, reference: str | None = None
    ) -> Reply:
        try:
            return self._recorder.refused(event, Judgement(verdict, None, RELAY), reply, reference)
        except Exception as error:
            # This recipient's alone: another one's message may be with the downstream.
            return self._recorder.failed(event, error)
