-- An MTA of version 2 of the protocol: every step is answered, nothing is skipped, values come without blanks.
local conn = connect(2, 0x7f, 0x3f)
assert(not mt.test_option(conn, SMFIP_SKIP))
assert(not mt.test_option(conn, SMFIP_HDR_LEADSPC))
greet(conn)
replied(conn, SMFIR_CONTINUE, "HELO")
envelope(conn, "<old@example.com>")
send(conn)
replied(conn, SMFIR_CONTINUE, "end of message")
for position, name in ipairs({ "X-Spam-Score", "X-Spam-Status", "X-Virus-Scanned", "X-Sluicegate-Reference" }) do
    local value = mt.getheader(conn, name, 0)
    assert(value and value:sub(1, 1) ~= " ", name .. " with a blank that the MTA adds itself")
    assert(mt.eom_check(conn, MT_HDRINSERT, name, value, position))
end

envelope(conn, "<old-gtube@example.com>")
send(conn, gtube .. "\r\n")
refused(conn, "old-gtube@example.com")
mt.disconnect(conn)
