"""The real daemons, private and throw-away, and what the demonstration shows with them.

`daemons` starts clamd, spamd and Postfix, `gateway_process` the gateway; the integration tests and
the benchmarks use them, too. Nothing here touches a system service or a file of one.
"""
