"""The SMTP front end.

`connection` reads and writes bytes and is the only importer of aiosmtpd; `dialogue` is what is
said, command by command, and knows no socket; `transaction` is one mail transaction between MAIL
and the reply after the end of data; `server` accepts connections. None of them knows the milter.
"""
