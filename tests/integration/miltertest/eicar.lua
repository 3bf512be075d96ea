-- A virus is refused, and the next message of the connection is not.
local conn = connect()
greet(conn)
envelope(conn, "<eicar@example.com>")
send(conn, eicar .. "\r\n")
refused(conn, "eicar@example.com")

envelope(conn, "<after-eicar@example.com>")
send(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
assert(not mt.eom_check(conn, MT_SMTPREPLY, "550"))
mt.disconnect(conn)
