"""What one client is offered in the reply to EHLO, and what it may make use of in MAIL and RCPT.

An offer is what was promised to this client: it holds for the session. What a downstream has lost
since then is refused for now, for a client that sends on the strength of a promise must hear of it.
"""

from dataclasses import replace

from gateway.proxy.service import ProxyService
from gateway.relay.capabilities import LoginOffer, Offer
from gateway.smtp import prdr
from gateway.smtp.address import Path
from gateway.smtp.command import (
    AUTH_MAIL_PARAMETERS,
    DSN_MAIL_PARAMETERS,
    DSN_RCPT_PARAMETERS,
    MAIL_PARAMETERS,
    PRDR_MAIL_PARAMETERS,
    SMTPUTF8_PARAMETERS,
    SMTPUTF8_RCPT_PARAMETERS,
    CommandError,
    KnownParameters,
    Parameters,
    check_known,
)
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import Session
from policies.verdict import TEXTS


def offer_to(service: ProxyService, esmtp: bool) -> Offer:
    """What a client is promised with the reply to EHLO, or to HELO, which knows no extensions."""
    offer = service.offer()
    return offer if esmtp else replace(offer, dsn=False, smtputf8=False)


def keywords(service: ProxyService, session: Session, offer: Offer) -> tuple[str, ...]:
    """The lines of the EHLO reply behind the first, in order (RFC 5321 section 4.1.1.1)."""
    offered = {
        "PIPELINING": True,
        f"SIZE {offer.size}": True,
        "8BITMIME": offer.eight_bit,
        "ENHANCEDSTATUSCODES": True,
        "DSN": offer.dsn,
        _auth(service, session): True,
        prdr.KEYWORD: not service.lmtp,
        "SMTPUTF8": offer.smtputf8,
        "CHUNKING": True,
        f"LIMITS RCPTMAX={offer.recipients}": True,
        "STARTTLS": service.certificate is not None and session.tls is None,
    }
    return tuple(keyword for keyword, is_offered in offered.items() if keyword and is_offered)


def login_offer(service: ProxyService, session: Session) -> LoginOffer | None:
    """Where this client could log in: nobody is asked for a password in clear (RFC 4954 section 9)."""
    return None if session.tls is None or service.lmtp else service.offer().login


def check_mail(
    service: ProxyService, session: Session, offer: Offer, path: Path, parameters: Parameters
) -> None:
    """Raises CommandError for a MAIL that asks for more than this client was promised."""
    if "SMTPUTF8" in parameters and not offer.smtputf8:
        raise CommandError(550, "5.6.7", "SMTPUTF8 is not offered", "smtputf8-not-offered")
    check_known(parameters, _mail_parameters(service, session, offer))
    _check_characters(path, "SMTPUTF8" in parameters)
    _check_still_offered(service, parameters)


def _mail_parameters(service: ProxyService, session: Session, offer: Offer) -> KnownParameters:
    """The parameters that this client may give with MAIL."""
    return {
        **MAIL_PARAMETERS,
        **SMTPUTF8_PARAMETERS,
        **(DSN_MAIL_PARAMETERS if offer.dsn else {}),
        **(AUTH_MAIL_PARAMETERS if session.esmtp and login_offer(service, session) else {}),
        **(PRDR_MAIL_PARAMETERS if session.esmtp and not service.lmtp else {}),
    }


def passed_on(parameters: Parameters, session: Session) -> Parameters:
    """MAIL's parameters as they go on to the downstream.

    Who submitted the message, only a client that logged in may say; of anybody else's it is said that
    nobody knows (RFC 4954 section 5). PRDR is between the client and us: what the downstream answers to
    each of our groups is one reply.
    """
    further = {keyword: value for keyword, value in parameters.items() if keyword != prdr.KEYWORD}
    if "AUTH" in further and session.authenticated is None:
        further["AUTH"] = "<>"
    return further


def check_rcpt(
    service: ProxyService, offer: Offer, envelope: Envelope, path: Path, parameters: Parameters
) -> None:
    """Raises CommandError for a RCPT that asks for more than this client was promised."""
    known = SMTPUTF8_RCPT_PARAMETERS if envelope.is_internationalized else DSN_RCPT_PARAMETERS
    check_known(parameters, known if offer.dsn else {})
    _check_characters(path, envelope.is_internationalized)
    _check_still_offered(service, parameters)


def _auth(service: ProxyService, session: Session) -> str:
    """The keyword with its mechanisms, until somebody logged in."""
    offer = login_offer(service, session)
    return f"AUTH {' '.join(offer.mechanisms)}" if offer and session.authenticated is None else ""


def _check_characters(path: Path, is_internationalized: bool) -> None:
    if not (path.is_ascii or is_internationalized):
        text = "This address needs the parameter SMTPUTF8 of MAIL"
        raise CommandError(553, "5.6.7", text, "smtputf8-required")


def _check_still_offered(service: ProxyService, parameters: Parameters) -> None:
    offer = service.offer()
    lost = set() if offer.smtputf8 else {*SMTPUTF8_PARAMETERS}
    if not offer.dsn:
        lost |= {*DSN_MAIL_PARAMETERS, *DSN_RCPT_PARAMETERS}
    if lost & set(parameters):
        raise CommandError(451, "4.3.3", TEXTS["extension-missing"], "extension-missing")
