-- Who is not to send us mail hears it as soon as we know.
local conn = connect()
mt.conninfo(conn, "client.example.org", "192.0.2.66")
replied(conn, SMFIR_REPLYCODE, "connect")
mt.disconnect(conn)

conn = connect()
mt.conninfo(conn, "client.example.org", "2001:db8::1")
replied(conn, SMFIR_CONTINUE, "connect")
mt.helo(conn, "blocked.example.net")
replied(conn, SMFIR_REPLYCODE, "HELO")
mt.disconnect(conn)

conn = connect()
greet(conn)
replied(conn, SMFIR_CONTINUE, "HELO")
mt.mailfrom(conn, "<blocked@example.net>")
replied(conn, SMFIR_REPLYCODE, "MAIL")
-- The client may go on with another sender.
envelope(conn, "<spoken-early@example.com>")
send(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
mt.disconnect(conn)
