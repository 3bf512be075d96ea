"""What one client is offered in the reply to EHLO, and which parameters it may use for that."""

from gateway.proxy.service import Service
from gateway.relay.capabilities import LoginOffer
from gateway.smtp import prdr
from gateway.smtp.command import (
    AUTH_MAIL_PARAMETERS,
    DSN_MAIL_PARAMETERS,
    DSN_RCPT_PARAMETERS,
    MAIL_PARAMETERS,
    PRDR_MAIL_PARAMETERS,
    KnownParameters,
    Parameters,
)
from gateway.smtp.session import Session


def keywords(service: Service, session: Session) -> tuple[str, ...]:
    """The lines of the EHLO reply behind the first, in order (RFC 5321 section 4.1.1.1)."""
    offer = service.offer()
    offered = {
        "PIPELINING": True,
        f"SIZE {offer.size}": True,
        "8BITMIME": offer.eight_bit,
        "ENHANCEDSTATUSCODES": True,
        "DSN": offer.dsn,
        _auth(service, session): True,
        prdr.KEYWORD: not service.lmtp,
        "STARTTLS": service.certificate is not None and session.tls is None,
    }
    return tuple(keyword for keyword, is_offered in offered.items() if keyword and is_offered)


def login_offer(service: Service, session: Session) -> LoginOffer | None:
    """Where this client could log in: nobody is asked for a password in clear (RFC 4954 section 9)."""
    return None if session.tls is None or service.lmtp else service.offer().login


def mail_parameters(service: Service, session: Session) -> KnownParameters:
    """The parameters that this client may give with MAIL."""
    return {
        **MAIL_PARAMETERS,
        **(DSN_MAIL_PARAMETERS if _has_dsn(service, session) else {}),
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


def rcpt_parameters(service: Service, session: Session) -> KnownParameters:
    """The parameters that this client may give with RCPT."""
    return DSN_RCPT_PARAMETERS if _has_dsn(service, session) else {}


def _auth(service: Service, session: Session) -> str:
    """The keyword with its mechanisms, until somebody logged in."""
    offer = login_offer(service, session)
    return f"AUTH {' '.join(offer.mechanisms)}" if offer and session.authenticated is None else ""


def _has_dsn(service: Service, session: Session) -> bool:
    return session.esmtp and service.offer().dsn
