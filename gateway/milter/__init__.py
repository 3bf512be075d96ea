"""The front end for an MTA that keeps the port and asks: Postfix or Sendmail, by the milter protocol.

`library` is the only importer of pymilter; libmilter's threads come in there and nowhere else. `link` is
what those threads know of one MTA connection, `gathering` a message that comes in there; `crossing` is
their way into the event loop, and has an end. On the loop `conversation` is one connection and
`transaction` one mail transaction of it; `changes` is what the MTA is asked to do to a message, `macros`
what it says of its client. `server` begins and ends all this, `presence` says whether it can begin. None
of them knows the proxy.
"""
