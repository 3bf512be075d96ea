-- Transactions that are given up leave nothing to the next one of the connection.
local conn = connect()
greet(conn)

envelope(conn, "<given-up-at-rcpt@example.com>")
mt.abort(conn)

envelope(conn, "<given-up-in-body@example.com>")
header(conn)
done(mt.bodystring(conn, gtube .. "\r\n"))
mt.abort(conn)

envelope(conn, "<after-abort@example.com>")
send(conn, nil, "second")
replied(conn, SMFIR_CONTINUE, "end of message")
print("passed", reference(conn))

-- Without a word in the middle of a message.
envelope(conn, "<cut-off@example.com>")
header(conn)
mt.disconnect(conn, false)
