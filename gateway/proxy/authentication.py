"""AUTH, carried through: RFC 4954 between a client and the downstream that knows the passwords.

Lines in, replies out. Nothing is judged here, and nothing of an exchange gets into a log, a record or
an error: a record of a failure names the mechanism, the session of a login that succeeded its name.
"""

from dataclasses import replace

from gateway.casefile import Judgement
from gateway.journal.record import DownstreamRecord
from gateway.proxy.extensions import login_offer
from gateway.proxy.service import ProxyService
from gateway.recorder import Event
from gateway.relay.capabilities import LoginOffer
from gateway.relay.client import DownstreamError
from gateway.relay.login import Login, open_login
from gateway.relay.pool import Connections
from gateway.smtp.authentication import CHALLENGE, Exchange, is_challenge, parse_auth
from gateway.smtp.command import CommandError
from gateway.smtp.reply import Reply
from gateway.smtp.session import Session
from policies.verdict import TEXTS, Verdict, reject, tempfail

NOT_OFFERED = Reply.of(502, "5.5.1", "AUTH is not offered")
NEEDS_TLS = Reply.of(538, "5.7.11", "Encryption required, say STARTTLS first")
NEEDS_EHLO = Reply.of(503, "5.5.1", "Say EHLO first")
LOGGED_IN_ALREADY = Reply.of(503, "5.5.1", "Logged in already")
IN_TRANSACTION = Reply.of(503, "5.5.1", "Not within a transaction")
NO_SUCH_MECHANISM = Reply.of(504, "5.5.4", "This mechanism is not offered")


class Authentication:
    """One client connection's logins: one exchange at a time, and one that succeeds.

    Each `event` says who is connected, and where in the dialogue.
    """

    def __init__(self, service: ProxyService) -> None:
        self._service = service
        self._exchange: Exchange | None = None
        self._login: Login | None = None
        self.name: str | None = None

    @property
    def is_under_way(self) -> bool:
        """True while the client's next line is an answer and no command."""
        return self._exchange is not None

    @property
    def connections(self) -> Connections:
        """Where this client's deliveries get their connections from."""
        return self._service.pool if self.name is None or self._login is None else self._login

    async def begin(self, argument: bytes, event: Event) -> Reply:
        """AUTH: the downstream's first challenge or its final reply, or why not."""
        offer = login_offer(self._service, event.session)
        refusal = self._misplaced(event, offer)
        if refusal is not None or offer is None:
            return refusal or NOT_OFFERED
        try:
            mechanism, initial = parse_auth(argument)
        except CommandError as error:
            return error.reply
        if mechanism not in offer.mechanisms:
            return NO_SUCH_MECHANISM
        try:
            self._login = await open_login(self._service.pool, offer, mechanism)
        except DownstreamError as error:
            return self._record(event, _unavailable(mechanism, error))
        self._exchange = Exchange(mechanism)
        return await self._ask(self._exchange, self._exchange.begin(initial), event)

    async def go_on(self, line: bytes, event: Event) -> Reply:
        """The client's answer to a challenge: the next one, or the final reply."""
        assert self._exchange is not None
        try:
            return await self._ask(self._exchange, self._exchange.take(line), event)
        except CommandError as error:
            return self._break_off(error, event)

    def too_long(self, event: Event) -> Reply:
        """The client said more than any answer has (RFC 4954 section 4)."""
        return self._break_off(CommandError(500, "5.5.6", "Line too long"), event)

    def close(self) -> None:
        """The session is over, or the exchange."""
        if self._login is not None and self._exchange is not None:
            self._login.abort()
        elif self._login is not None:
            self._login.close()
        self._exchange = self._login = None

    def _misplaced(self, event: Event, offer: LoginOffer | None) -> Reply | None:
        """Why there can be no AUTH here and now (RFC 4954 section 4)."""
        session = event.session
        if session.authenticated is not None:
            return LOGGED_IN_ALREADY
        if offer is None:
            return NEEDS_TLS if self._would_offer(session) else NOT_OFFERED
        if not session.esmtp:
            return NEEDS_EHLO
        return IN_TRANSACTION if event.envelope is not None else None

    def _would_offer(self, session: Session) -> bool:
        """Whether it is only TLS that is missing."""
        service = self._service
        has_tls = service.certificate is not None and session.tls is None
        return has_tls and not service.lmtp and service.offer().login is not None

    async def _ask(self, exchange: Exchange, line: bytes, event: Event) -> Reply:
        assert self._login is not None
        try:
            reply = await self._login.say(line)
        except DownstreamError as error:
            self.close()
            return self._record(event, _unavailable(exchange.mechanism, error))
        if reply.code != CHALLENGE:
            return self._conclude(exchange, reply, event)
        if not is_challenge(reply):
            self.close()
            return self._record(event, _unavailable(exchange.mechanism, "a challenge that is not base64"))
        return reply

    def _break_off(self, error: CommandError, event: Event) -> Reply:
        """The client said what is no answer: the exchange has failed."""
        assert self._exchange is not None
        code, status = error.reply.code, error.reply.status or "5.5.4"
        detail = f"in AUTH {self._exchange.mechanism}"
        verdict = reject(error.reason, text=error.reply.text, code=code, status=status, detail=detail)
        self.close()
        return self._record(event, verdict)

    def _conclude(self, exchange: Exchange, reply: Reply, event: Event) -> Reply:
        """The downstream has decided: the client is told the same."""
        assert self._login is not None
        address = self._login.address
        reply = exchange.conclude(reply, TEXTS["authentication-failed"])
        self._exchange = None
        if reply.is_positive:
            self.name = exchange.name
            return reply
        self.close()
        event = replace(event, downstream=DownstreamRecord(address, str(reply)))
        return self._record(event, _refused(exchange.mechanism, reply), reply)

    def _record(self, event: Event, verdict: Verdict, reply: Reply | None = None) -> Reply:
        return self._service.recorder.refused(event, Judgement(verdict, None, event.spoken), reply)


def _refused(mechanism: str, reply: Reply) -> Verdict:
    """The downstream's refusal, by our reasons."""
    detail = f"AUTH {mechanism}"
    if reply.is_permanent:
        return reject("authentication-failed", detail=detail)
    return tempfail("downstream-deferred", detail=detail)


def _unavailable(mechanism: str, why: object) -> Verdict:
    return tempfail(
        "downstream-unavailable",
        text="Temporary authentication failure, please try again later",
        code=454,
        status="4.7.0",
        detail=f"AUTH {mechanism}: {why}",
    )
