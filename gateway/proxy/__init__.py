"""The SMTP front end.

`stream` reads and writes octets and is the only importer of aiosmtpd; `connection` takes command
lines to the dialogue and its replies back; `dialogue` is what is said, command by command, and knows no
socket; `introduction` is the part of it in which the client says who it is, `replies` what the protocol
itself has to say, `extensions` what is offered. `authentication` carries AUTH through, `chunking` is a
message that comes in chunks, `identity` whose mail it is where a peer speaks for others, `early` judges
the stages before RCPT. `transaction` is one mail transaction between MAIL and the reply after the end of
data, `group` those of its recipients who share one fate. `front_door` reads whom a balancer brings,
`server` accepts connections, `admission` and `descriptors` say how many. None of them knows the milter.
"""
