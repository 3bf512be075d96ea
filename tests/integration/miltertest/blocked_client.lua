-- Who is not to send us mail hears it at RCPT, from each recipient.
local conn = connect()
greet(conn, "192.0.2.66")
mail(conn, "<anna@example.org>")
for _, recipient in ipairs({ "<first@example.com>", "<second@example.com>" }) do
    done(mt.rcptto(conn, recipient))
    replied(conn, SMFIR_REPLYCODE, "RCPT")
end
mt.abort(conn)
mt.disconnect(conn)
