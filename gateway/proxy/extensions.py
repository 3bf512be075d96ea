"""What one client is offered in the reply to EHLO, and which parameters it may use for that."""

from gateway.proxy.service import Service
from gateway.smtp import prdr
from gateway.smtp.command import (
    DSN_MAIL_PARAMETERS,
    DSN_RCPT_PARAMETERS,
    MAIL_PARAMETERS,
    PRDR_MAIL_PARAMETERS,
    KnownParameters,
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
        prdr.KEYWORD: not service.lmtp,
        "STARTTLS": service.certificate is not None and session.tls is None,
    }
    return tuple(keyword for keyword, is_offered in offered.items() if is_offered)


def mail_parameters(service: Service, session: Session) -> KnownParameters:
    """The parameters that this client may give with MAIL."""
    return {
        **MAIL_PARAMETERS,
        **(DSN_MAIL_PARAMETERS if _has_dsn(service, session) else {}),
        **(PRDR_MAIL_PARAMETERS if session.esmtp and not service.lmtp else {}),
    }


def rcpt_parameters(service: Service, session: Session) -> KnownParameters:
    """The parameters that this client may give with RCPT."""
    return DSN_RCPT_PARAMETERS if _has_dsn(service, session) else {}


def _has_dsn(service: Service, session: Session) -> bool:
    return session.esmtp and service.offer().dsn
