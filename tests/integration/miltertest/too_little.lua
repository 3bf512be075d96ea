-- An MTA that does not let us change the header is sent away, and the next one is served.
local conn = dial()
local problem = mt.negotiate(conn, nil, nil, 0x01)
assert(problem ~= nil, "an MTA that allows too little was taken")
mt.disconnect(conn, false)

conn = connect()
greet(conn)
envelope(conn, "<enough@example.com>")
send(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
mt.disconnect(conn)
