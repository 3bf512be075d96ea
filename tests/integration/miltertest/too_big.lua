-- Of a message that is too big we want no more, and refuse it; said to be so big it is refused at MAIL.
local conn = connect()
greet(conn)
envelope(conn, "<big@example.com>")
header(conn)
assert(mt.test_option(conn, SMFIP_SKIP), "SKIP was not negotiated")
done(mt.bodyrandom(conn, 400000))
replied(conn, SMFIR_SKIP, "body")
finish(conn)
refused(conn, "big@example.com")

mt.mailfrom(conn, "<anna@example.org>", "SIZE=400000")
replied(conn, SMFIR_REPLYCODE, "MAIL")

envelope(conn, "<after-big@example.com>")
send(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
mt.disconnect(conn)
