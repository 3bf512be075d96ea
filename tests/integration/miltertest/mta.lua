-- Plays one of the other scripts. This has what they share: how an MTA says things, and what it expects.
-- `script` is its name; with `socket`, `gtube` and `eicar` it comes from the command line.

mt.set_timeout(60)

-- By the protocol (libmilter/mfdef.h); this program knows it by no name.
END_OF_MESSAGE = string.byte("E")

-- A connection on which nothing has been said.
function dial()
    return assert(mt.connect("unix:" .. socket), "nobody listens")
end

-- A connection that has negotiated. mt.negotiate takes steps before actions, whatever its manual says;
-- nil is all that this libmilter knows.
function connect(version, steps, actions)
    local conn = dial()
    done(mt.negotiate(conn, version, steps, actions))
    return conn
end

-- A client from that address, and its greeting.
function greet(conn, address)
    mt.macro(conn, SMFIC_CONNECT, "j", "mta.example.com", "{daemon_name}", "port25")
    done(mt.conninfo(conn, "client.example.org", address or "192.0.2.1"))
    done(mt.helo(conn, "client.example.org"))
end

-- MAIL and RCPT that are answered with yes.
function envelope(conn, recipient)
    mail(conn, "<anna@example.org>")
    rcpt(conn, recipient)
end

function mail(conn, sender, ...)
    done(mt.mailfrom(conn, sender, ...))
    replied(conn, SMFIR_CONTINUE, "MAIL")
end

function rcpt(conn, recipient, ...)
    done(mt.rcptto(conn, recipient, ...))
    replied(conn, SMFIR_CONTINUE, "RCPT")
end

-- A header that no spam filter minds, with these fields before it.
function header(conn, fields, subject)
    for _, field in ipairs(fields or {}) do
        done(mt.header(conn, field[1], field[2]))
    end
    done(mt.header(conn, "From", "Anna <anna@example.org>"))
    done(mt.header(conn, "To", "b@example.com"))
    done(mt.header(conn, "Subject", subject or "Meeting at ten"))
    done(mt.header(conn, "Date", os.date("!%a, %d %b %Y %H:%M:%S +0000")))
    done(mt.header(conn, "Message-ID", "<meeting@example.org>"))
    done(mt.eoh(conn))
end

function finish(conn, queue_id)
    mt.macro(conn, END_OF_MESSAGE, "i", queue_id or "0123456789")
    done(mt.eom(conn))
end

-- A whole message, from the header on.
function send(conn, body, queue_id)
    header(conn)
    done(mt.bodystring(conn, body or "Shall we meet at ten, as last week?\r\n"))
    finish(conn, queue_id)
end

-- The function of miltertest did what it was to do.
function done(problem)
    assert(problem == nil, problem)
end

function replied(conn, expected, what)
    local got = mt.getreply(conn)
    if got ~= expected then
        error(string.format("%s: '%s' instead of '%s'", what, string.char(got), string.char(expected)))
    end
end

-- The end of the message was answered as the record says that it was: the test reads the recipient from our
-- output, and writes what its record has as the reply.
function refused(conn, recipient)
    replied(conn, SMFIR_REPLYCODE, "end of message")
    print("refused", recipient)
    io.flush()
    local recorded = io.read("*l")
    local code, status, text = recorded:match("^(%d+) ([%d.]+) (.+)$")
    assert(mt.eom_check(conn, MT_SMTPREPLY, code, status, text), "this was not said: " .. recorded)
    assert(not mt.eom_check(conn, MT_HDRINSERT), "what is refused has fields inserted")
end

-- The reference of a message that goes on.
function reference(conn)
    return (mt.getheader(conn, "X-Sluicegate-Reference", 0):gsub("^ ", ""))
end

-- miltertest itself says nothing of what went wrong.
local went_well, problem = xpcall(dofile, debug.traceback, script .. ".lua")
if not went_well then
    print(problem)
    os.exit(1)
end
