"""The messages of the demonstration, and what must become of each."""

import base64
import email.utils
import io
import random
import zipfile
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from .daemons import EICAR, LOOPBACK

LISTED_CLIENT = "127.0.0.9"

# SpamAssassin suspects old mail; the same for all of one run, so that messages can be compared.
_DATE = email.utils.formatdate().encode()

# In two pieces, lest somebody's filter takes this file for spam.
_GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


@dataclass(frozen=True)
class Sample:
    """One message and its expected fate; `policy` is None where the downstream or nobody decides.

    `unasked_code` is the code of a Postfix that refuses it by itself instead of asking.
    """

    what: str
    content: bytes
    code: int
    stage: str | None
    reason: str | None
    policy: str | None = None
    recipient: str = "b@example.com"
    source: str = LOOPBACK
    unasked_code: int | None = None

    def asked(self) -> Self:
        """Its fate where Postfix asks: nothing is relayed, and what it does not ask about has no record."""
        if self.unasked_code:
            return replace(self, code=self.unasked_code, stage=None, reason=None, policy=None)
        return replace(self, stage="end-of-data") if self.stage == "relay" else self


def message(subject: str, body: bytes, fields: bytes = b"") -> bytes:
    """A whole message with the header fields that SpamAssassin misses in a forged one."""
    return (
        b"From: Anna <anna@example.org>\r\nTo: b@example.com\r\n"
        b"Subject: " + subject.encode() + b"\r\n"
        b"Date: " + _DATE + b"\r\n"
        b"Message-ID: <" + subject.replace(" ", ".").encode() + b"@example.org>\r\n" + fields + b"\r\n" + body
    )


def with_attachment(subject: str, name: str, attachment: bytes) -> bytes:
    """A message of two parts: a sentence, and a file in base64."""
    encoded = base64.encodebytes(attachment).replace(b"\n", b"\r\n")
    return message(
        subject,
        b"--cut\r\nContent-Type: text/plain\r\n\r\nHere it is.\r\n"
        b"--cut\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="'
        + name.encode()
        + b'"\r\n\r\n'
        + encoded
        + b"--cut--\r\n",
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="cut"\r\n',
    )


def zipped(name: str, content: bytes) -> bytes:
    """A zip archive with one file in it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr(name, content)
    return archive.getvalue()


def clean() -> bytes:
    """Nothing about it."""
    return message("Meeting at ten", b"Shall we meet at ten, as last week?\r\n\r\nAnna\r\n")


def dots_and_octets() -> bytes:
    """Lines that begin with dots, lone dots, octets above 127, trailing blanks."""
    body = b".leading\r\n..two\r\n.\r\n..\r\n\r\ncaf\xc3\xa9 \xff\xfe\x80\r\nblanks  \t\r\n. \r\n"
    fields = (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    )
    return message("Dots and octets", body, fields)


def gtube() -> bytes:
    """The test pattern every SpamAssassin gives 1000 points."""
    return message("Offer of the day", _GTUBE + b"\r\n")


def eicar_attached() -> bytes:
    """The test virus as an attachment in base64."""
    return with_attachment("The invoice", "invoice.com", EICAR)


def eicar_zipped() -> bytes:
    """The test virus in an archive."""
    return with_attachment("The archive", "invoice.zip", zipped("invoice.com", EICAR))


def large(megabytes: int) -> bytes:
    """So many million octets of content, an incompressible attachment for the most part."""
    return with_attachment(
        "Holiday pictures", "pictures.bin", random.Random(1).randbytes(megabytes * 730_000)
    )


def samples() -> list[Sample]:
    """Everything the demonstration sends, in its order."""
    return [
        Sample("clean", clean(), 250, "relay", "accepted"),
        Sample("clean: 8-bit octets, leading dots", dots_and_octets(), 250, "relay", "accepted"),
        Sample("spam: GTUBE", gtube(), 550, "end-of-data", "spam-score", "spam"),
        Sample("virus: EICAR attached", eicar_attached(), 550, "end-of-data", "virus-found", "virus"),
        Sample("virus: EICAR in a zip", eicar_zipped(), 550, "end-of-data", "virus-found", "virus"),
        *_from_or_to_the_wrong(),
        Sample("clean: 20 MB, too big for spamd", large(20), 250, "relay", "scan-skipped"),
    ]


def _from_or_to_the_wrong() -> list[Sample]:
    refused = partial(Sample, content=clean(), code=550)
    return [
        refused(
            "clean, but client on a block list",
            stage="connect",
            reason="dns-blocklisted",
            policy="blocklist",
            source=LISTED_CLIENT,
        ),
        refused(
            "to a domain not ours",
            stage="rcpt",
            reason="relay-denied",
            policy="recipients",
            recipient="b@elsewhere.example.net",
            unasked_code=554,
        ),
        refused(
            "to a user Postfix does not know",
            stage="rcpt",
            reason="unknown-recipient",
            recipient="nobody@example.com",
            unasked_code=550,
        ),
    ]
