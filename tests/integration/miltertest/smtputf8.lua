-- Addresses and header fields beyond ASCII.
local conn = connect()
greet(conn)
mail(conn, "<jörg@exämple.org>", "SMTPUTF8", "BODY=8BITMIME")
rcpt(conn, "<änne@example.com>", "NOTIFY=NEVER")
header(conn, nil, "Grüße")
done(mt.bodystring(conn, "Bis morgen: früh!\r\n"))
finish(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
-- A policy has words put before the subject.
assert(mt.eom_check(conn, MT_HDRCHANGE, "Subject"), "the subject is as it was")
mt.disconnect(conn)
