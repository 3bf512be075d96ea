"""Words of the configuration file that the parts below it understand, too."""

from typing import Literal

# What it means for the mail that a filter did not answer, or would not look.
Meaning = Literal["tempfail", "accept", "reject"]
# At which command a refusal is spoken that was decided before RCPT.
Speak = Literal["rcpt", "connect"]
# Whether the way to a downstream is encrypted: never, where it offers that, always, always and to the
# one whose certificate says so.
Encrypt = Literal["off", "may", "require", "verify"]
# How a downstream learns who the client is.
Identify = Literal["auto", "xclient", "xforward", "none"]
