"""Invariant: a field of ours in what is relayed is one that we put there, by any reading of its name."""

import re

from gateway.casefile import CaseFile
from gateway.headers import relayed
from gateway.smtp.header import split_fields
from policies.testing import message

SEEDS = [
    b"X-Spam-Flag: NO\r\nSubject: x\r\n\r\nb",
    b"Authentication-Results: ((c)) mx.our.example; dkim=pass\r\n\r\n",
    b'Authentication-Results: (\\)) "mx.our.example" 1; dkim=pass\r\n\r\n',
    b"From x\r\n folded\r\nX-Spam-Flag: NO\r\n\r\n",
    b"From x\r\nX-Sluicegate-Reference : AAAA-AAAA\r\n\r\n",
]
WORDS = [
    *(b"X-Spam-Flag", b"x-sluicegate-reference", b"Authentication-Results", b":", b" ", b"\t", b"\r\n", b"("),
    *(b")", b"\\", b'"', b";", b"/", b"mx.our.example", b"MX.OUR.EXAMPLE", b"other.example", b"1", b"\0"),
    *(b"From ", b"\xff"),
]

HOSTNAME = "mx.our.example"
_TOP = b"Received: from a by b; date\r\nX-Sluicegate-Reference: 7K3F-Q2MD\r\n"
_OURS = re.compile(
    rb"(x-spam-(flag|score|status)|x-virus-scanned|x-sluicegate-[!-9;-~]*)[ \t]*:", re.IGNORECASE
)
_FOREIGN_CLAIM = re.compile(rb"\s*mx\.our\.example[\s;]", re.IGNORECASE)


def fuzz(octets: bytes) -> None:
    """Content without bare line ends, as the reader hands it on."""
    content = re.sub(rb"\r(?!\n)|(?<!\r)\n", b"", octets) + b"\r\n"
    passed = b"".join(relayed(CaseFile(), _TOP, message(content=content), HOSTNAME))
    assert passed.startswith(_TOP)
    assert passed.endswith(content[len(content) - 2 :])
    fields = split_fields(passed)
    ours = [field for field in fields if _OURS.match(passed[field.start : field.end])]
    assert len(ours) == 1
    for field in fields:
        if field.name == "authentication-results":
            assert not _FOREIGN_CLAIM.match(field.value)
    # What was taken out are whole lines: the rest stands in the order it came.
    rest = iter(content.splitlines(keepends=True))
    assert all(line in rest for line in passed[len(_TOP) :].splitlines(keepends=True)[1:])
