-- What a policy may do to a message besides refusing it: held by the MTA, thrown away, sent elsewhere.
local conn = connect()
greet(conn)

envelope(conn, "<quarantine@example.com>")
send(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
local why = string.format("kept (ref %s)", reference(conn))
assert(mt.eom_check(conn, MT_QUARANTINE, why), "not held for this: " .. why)

envelope(conn, "<discard@example.com>")
send(conn)
replied(conn, SMFIR_DISCARD, "end of message")

envelope(conn, "<moved@example.com>")
rcpt(conn, "<stays@example.com>")
send(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
assert(mt.eom_check(conn, MT_RCPTADD, "<moved-to@example.com>"))
assert(mt.eom_check(conn, MT_RCPTDELETE, "<moved@example.com>"))
assert(not mt.eom_check(conn, MT_RCPTDELETE, "<stays@example.com>"))
assert(not mt.eom_check(conn, MT_QUARANTINE), "held, as the first one")
mt.disconnect(conn)
