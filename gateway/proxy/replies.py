"""What the protocol itself has to say (RFC 5321 section 4.2), whoever the client is and whatever it sends.

Refusals with a reason of their own, which are recorded, are verdicts and have their texts there.
"""

from gateway.smtp.reply import Reply

OK = Reply.of(250, "2.0.0", "Ok")
START_CONTENT = Reply.of(354, None, "End data with <CR><LF>.<CR><LF>")
BYE = Reply.of(221, "2.0.0", "Bye")
START_TLS = Reply.of(220, "2.0.0", "Ready to start TLS")
NO_TLS = Reply.of(502, "5.5.1", "TLS is not offered")
ENCRYPTED_ALREADY = Reply.of(503, "5.5.1", "TLS is active already")
LINE_TOO_LONG = Reply.of(500, "5.5.2", "Line too long")
NO_HELO = Reply.of(503, "5.5.1", "Say EHLO first")
NO_LHLO = Reply.of(503, "5.5.1", "Say LHLO first")
THIS_IS_LMTP = Reply.of(500, "5.5.1", "This is LMTP, say LHLO")
THIS_IS_SMTP = Reply.of(500, "5.5.1", "This is SMTP, say EHLO")
NO_MAIL = Reply.of(503, "5.5.1", "Say MAIL first")
NESTED_MAIL = Reply.of(503, "5.5.1", "A transaction is open already")
NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")
# RFC 2033 section 4.2 wants this code.
NO_RECIPIENTS_LMTP = Reply.of(503, "5.5.1", "No valid recipients")
CHUNKS_BEGUN = Reply.of(503, "5.5.1", "The message has begun with BDAT, and goes on with it")
CHUNKS_REFUSED = Reply.of(503, "5.5.1", "An earlier chunk was refused, say RSET first")
NO_ARGUMENT = Reply.of(501, "5.5.4", "This command takes no argument")
CANNOT_VERIFY = Reply.of(252, "2.1.5", "Cannot verify, but will take mail and try")
NOT_RECOGNIZED = Reply.of(500, "5.5.2", "Command not recognized")
NOT_IMPLEMENTED = Reply.of(502, "5.5.1", "Command not implemented")
TIMED_OUT = Reply.of(421, "4.4.2", "Timed out, closing the connection")
SHUTTING_DOWN = Reply.of(421, "4.3.2", "Shutting down, please try again later")
NOT_SMTP = Reply.of(421, "4.7.0", "This is an SMTP server, closing the connection")
HELP = Reply.of(214, "2.0.0", "See RFC 5321")
