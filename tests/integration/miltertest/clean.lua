-- A message that passes: our fields on top in their order, forged ones away, the rest as it was.
local conn = connect()
greet(conn)
envelope(conn, "<clean@example.com>")
header(conn, {
    { "X-Spam-Score", "-100" },
    { "X-Virus-Scanned", "clean, says the sender" },
    { "X-Spam-Score", "-99" },
    { "Authentication-Results", "mx.example.com; spf=pass" },
    { "Authentication-Results", "elsewhere.example.net; spf=pass" },
})
replied(conn, SMFIR_CONTINUE, "end of header")
done(mt.bodystring(conn, "Shall we meet at ten, as last week?\r\n"))
finish(conn, "4Xyz")
replied(conn, SMFIR_CONTINUE, "end of message")

-- At 0 stands the Received field of the MTA.
local order = { "X-Spam-Score", "X-Spam-Status", "X-Virus-Scanned", "X-Sluicegate-Reference" }
for position, name in ipairs(order) do
    local value = mt.getheader(conn, name, 0)
    assert(value and value:sub(1, 1) == " ", name .. " without its blank")
    assert(mt.eom_check(conn, MT_HDRINSERT, name, value, position), name .. " is not at its position")
    assert(mt.getheader(conn, name, 1) == nil, name .. " twice")
end
assert(mt.eom_check(conn, MT_HDRDELETE, "X-Spam-Score", 1))
assert(mt.eom_check(conn, MT_HDRDELETE, "X-Spam-Score", 2))
assert(mt.eom_check(conn, MT_HDRDELETE, "X-Virus-Scanned", 1))
assert(mt.eom_check(conn, MT_HDRDELETE, "Authentication-Results", 1))
assert(not mt.eom_check(conn, MT_HDRDELETE, "Authentication-Results", 2))
assert(not mt.eom_check(conn, MT_HDRDELETE, "Subject"))
assert(not mt.eom_check(conn, MT_BODYCHANGE))
assert(not mt.eom_check(conn, MT_QUARANTINE))
assert(not mt.eom_check(conn, MT_HDRADD))
print("passed", reference(conn))
mt.disconnect(conn)
