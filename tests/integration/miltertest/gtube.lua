-- Spam is refused at its end, with our text and the reference of its record.
local conn = connect()
greet(conn)
envelope(conn, "<gtube@example.com>")
send(conn, gtube .. "\r\n")
refused(conn, "gtube@example.com")
mt.disconnect(conn)
