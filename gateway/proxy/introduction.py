"""Who the client is: what it says of itself before it sends mail, and what is offered to it.

HELO and EHLO (RFC 5321 section 4.1.1.1), STARTTLS (RFC 3207), AUTH (RFC 4954), and what peers that are
believed say about others (XCLIENT, XFORWARD). Nothing of the message is known here.
"""

import abc
from dataclasses import replace

from gateway.casefile import Judgement
from gateway.hearing.early import EarlyStages
from gateway.proxy.authentication import Authentication
from gateway.proxy.extensions import keywords, offer_to
from gateway.proxy.identity import Visitor, identity_keywords, is_believed
from gateway.proxy.replies import (
    ENCRYPTED_ALREADY,
    LINE_TOO_LONG,
    NESTED_MAIL,
    NO_ARGUMENT,
    NO_TLS,
    OK,
    START_TLS,
    THIS_IS_LMTP,
    THIS_IS_SMTP,
)
from gateway.proxy.service import ProxyService
from gateway.recorder import Event
from gateway.smtp.claim import claimed, parse_xclient, parse_xforward
from gateway.smtp.command import CommandError, parse_helo
from gateway.smtp.envelope import Envelope
from gateway.smtp.reply import Reply
from gateway.smtp.session import TLS, Session
from gateway.smtp.transaction import Stage
from policies.verdict import Decision, Verdict, reject, tempfail


class Introduction(abc.ABC):
    """The client's side of the state of a dialogue: session, early stages, login, and what was promised."""

    def __init__(self, service: ProxyService, session: Session) -> None:
        self._service = service
        # Who connected, who that is by now, and the client of the next transaction if that is another.
        self._peer = self._session = session
        self._early = EarlyStages(service)
        self._authentication = Authentication(service)
        self._visitor: Visitor | None = None
        self._envelope: Envelope | None = None
        self._stage = Stage.CONNECT
        # What this client was promised, which need not be what could be promised now.
        self._offer = offer_to(service, esmtp=False)

    @abc.abstractmethod
    async def _reset(self) -> None:
        """Drop the transaction that is open, if there is one."""

    async def greet(self) -> Reply:
        """The banner, or the refusal where that is spoken at once."""
        self._early.judge_client(self._session)
        refusal = await self._early.refusal_at_once()
        if refusal is not None:
            # RFC 5321 section 3.1: a server that refuses to serve greets with 554; 421 is for later.
            code = 554 if refusal.verdict.decision is Decision.REJECT else 421
            reply = None if refusal.verdict.reply is None else replace(refusal.verdict.reply, code=code)
            return self._refuse(refusal, Stage.CONNECT, reply=reply)
        protocol = "LMTP" if self._service.lmtp else "ESMTP"
        return Reply.of(220, None, f"{self._service.hostname} {protocol} Sluicegate")

    async def turn_away(self, limit: str) -> Reply:
        """The refusal instead of a banner where there are too many connections already, by that limit."""
        verdict = tempfail("overloaded", code=421, status="4.3.2", detail=limit)
        return self._refuse_by_us(verdict, Stage.CONNECT)

    async def helo(self, argument: bytes) -> Reply:
        """HELO: no extensions from here on."""
        if self._service.lmtp:
            return THIS_IS_LMTP
        return await self._hello(argument, esmtp=False) or Reply.of(250, None, self._service.hostname)

    async def ehlo(self, argument: bytes) -> Reply:
        """EHLO: the extensions we offer."""
        return THIS_IS_LMTP if self._service.lmtp else await self._greeted(argument)

    async def lhlo(self, argument: bytes) -> Reply:
        """LHLO: what EHLO is, in LMTP (RFC 2033 section 4.1)."""
        return await self._greeted(argument) if self._service.lmtp else THIS_IS_SMTP

    def starttls(self, argument: bytes) -> Reply:
        """STARTTLS: whether the handshake may begin (RFC 3207 section 4)."""
        if argument:
            return NO_ARGUMENT
        if self._session.tls is not None:
            return ENCRYPTED_ALREADY
        return NO_TLS if self._service.certificate is None else START_TLS

    async def secure(self, tls: TLS) -> None:
        """The handshake is done: nothing the client said before it counts (RFC 3207 section 4.2)."""
        await self._reset()
        self._session = replace(self._session, tls=tls, helo_name=None, esmtp=False)

    @property
    def is_authenticating(self) -> bool:
        """True while the client's next line is an answer to a challenge, and no command."""
        return self._authentication.is_under_way

    async def auth(self, argument: bytes) -> Reply:
        """AUTH: begins an exchange, or ends at once (RFC 4954 section 4)."""
        return self._authenticated(await self._authentication.begin(argument, self._here()))

    async def answer(self, line: bytes) -> Reply:
        """The next line of the exchange."""
        return self._authenticated(await self._authentication.go_on(line, self._here()))

    async def line_too_long(self) -> Reply:
        """The client said something that is longer than anything it could have to say."""
        if self._authentication.is_under_way:
            return self._authentication.too_long(self._here())
        return LINE_TOO_LONG

    async def proxy(self, argument: bytes) -> Reply:
        """PROXY where nobody asked for it: no command, but an attempt to be somebody else."""
        return self._refuse_identity(b"PROXY " + argument)

    async def xclient(self, argument: bytes) -> Reply:
        """XCLIENT: the dialogue begins anew, with another client."""
        if not is_believed(self._service, self._peer):
            return self._refuse_identity(b"XCLIENT " + argument)
        if self._envelope is not None:
            return NESTED_MAIL
        try:
            session = claimed(self._session, self._peer, parse_xclient(argument))
        except CommandError as error:
            return error.reply
        await self._reset()
        self._session = replace(session, tls=self._session.tls, helo_name=None, esmtp=False)
        self._authentication.close()
        self._authentication = Authentication(self._service)
        await self._early.close()
        self._early = EarlyStages(self._service)
        self._stage = Stage.CONNECT
        return await self.greet()

    async def xforward(self, argument: bytes) -> Reply:
        """XFORWARD: whose mail the next transaction is."""
        if not is_believed(self._service, self._peer):
            return self._refuse_identity(b"XFORWARD " + argument)
        if self._envelope is not None:
            return NESTED_MAIL
        try:
            claim = parse_xforward(argument)
        except CommandError as error:
            return error.reply
        if self._visitor is None or self._visitor.is_judged:
            await self._see_off()
            self._visitor = Visitor(self._service, self._session)
        self._visitor.learn(claim)
        return OK

    # Inside

    async def _greeted(self, argument: bytes) -> Reply:
        refused = await self._hello(argument, esmtp=True)
        offered = keywords(self._service, self._session, self._offer)
        offered += identity_keywords(self._service, self._peer)
        return refused or Reply(250, None, (self._service.hostname, *offered))

    async def _hello(self, argument: bytes, esmtp: bool) -> Reply | None:
        """Everything HELO and EHLO share; a reply only where they are refused."""
        try:
            name = parse_helo(argument)
        except CommandError as error:
            return error.reply
        await self._reset()
        self._session = replace(self._session, helo_name=name, esmtp=esmtp, lmtp=self._service.lmtp)
        self._offer = offer_to(self._service, esmtp)
        self._stage = Stage.HELO
        await self._early.judge_greeting(self._session)
        refusal = await self._early.refusal_at_once()
        return None if refusal is None else self._refuse(refusal, Stage.HELO)

    def _here(self) -> Event:
        return self._event(Stage.HELO, self._envelope)

    def _authenticated(self, reply: Reply) -> Reply:
        self._session = replace(self._session, authenticated=self._authentication.name)
        return reply

    @property
    def _client(self) -> tuple[Session, EarlyStages]:
        """Whose mail it is, and what is found out about that client."""
        visitor = self._visitor
        return (self._session, self._early) if visitor is None else (visitor.session, visitor.early)

    async def _see_off(self) -> None:
        """Whom XFORWARD brought, it brought for one transaction."""
        visitor, self._visitor = self._visitor, None
        if visitor is not None:
            await visitor.early.close()

    # Refusals

    def _event(self, stage: Stage, envelope: Envelope | None) -> Event:
        session, early = self._client
        return Event(session=session, case=early.case, spoken=stage.value, envelope=envelope)

    def _refuse(
        self,
        refusal: Judgement,
        stage: Stage,
        *,
        envelope: Envelope | None = None,
        reply: Reply | None = None,
    ) -> Reply:
        return self._service.recorder.refused(self._event(stage, envelope), refusal, reply)

    def _refuse_by_us(self, verdict: Verdict, stage: Stage, envelope: Envelope | None = None) -> Reply:
        """A refusal that is no policy's."""
        return self._refuse(Judgement(verdict, None, stage.value), stage, envelope=envelope)

    def _refuse_identity(self, command: bytes) -> Reply:
        detail = command[:500].decode("ascii", "backslashreplace")
        return self._refuse_by_us(reject("identity-refused", status="5.7.0", detail=detail), self._stage)
