"""A message meets the same fate by the proxy and by the milter, octet for octet from our fields down."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.daemons import Clamd
from deploy.demo.messages import eicar_attached, gtube
from tests.fakes.spamd import FakeSpamd, verdict
from tests.integration.front_ends import SENDERS, BothWays, Fate, differences

CORPUS = {path.stem: path.read_bytes() for path in (Path(__file__).parents[1] / "corpus").glob("*.eml")}
# Enough to be marked and not to be refused; words enough for folds.
SCANNED = verdict(2.5, ["NO_RECEIVED", "ALL_SORTS_OF_THINGS", "A_RULE_OF_SOME_LENGTH", "X" * 90])

FORGERIES = (
    b"X-Spam-Flag: NO\r\n",
    b"x-SPAM-status: No,\r\n\tscore=-100\r\n autolearn=ham\r\n",
    b"X-Virus-Scanned : by nobody\r\n",
    b"X-Sluicegate-Reference: AAAA-AAAA\r\n",
    b"X-Sluicegate-Anything:\r\n",
    b"Authentication-Results: (c) MX.example.com 1; spf=pass\r\n",
)
FORGED = b"".join(FORGERIES)
# They look like ours and are not.
LEFT_ALONE = b"Authentication-Results: mx.other.example; spf=pass\r\nX-Spam-Flags: NO\r\nX-Class: theirs\r\n"
REST = b"From: a@example.org\r\nTo: b@example.com\r\n\r\nX-Spam-Flag: NO\r\n\r\n.\r\nbody\r\n"
SUBJECTS = {
    "folded": b"Subject: one\r\n\ttwo\r\n three\r\n",
    "beginning with a fold": b"Subject:\r\n one\r\n",
    "a line of blanks in it": b"Subject: one\r\n \r\n two\r\n",
    "empty": b"Subject:\r\n",
    "blank": b"Subject:   \t\r\n",
    "without a blank": b"Subject:one\r\n",
    "in capitals": b"SUBJECT: one\r\n",
    "blank before the colon": b"Subject \t: one\r\n",
    "trailing blanks": b"Subject: one \t \r\n",
    "twice": b"Subject: one\r\nSubject: two\r\n",
    "twice, forgeries around": FORGED + b"Subject: 1\r\n" + FORGED + b"subject: 2\r\n" + FORGED,
    "UTF-8": "Subject: Grüße\r\n".encode(),
    "octets that are no text": b"Subject: Gr\xfc\xdfe\r\n\t\xff\xfe\x80\r\n",
    "percent": b"Subject: 100%s %d %%\r\n",
    "long": b"Subject: " + b"many words " * 90 + b"\r\n",
    "encoded": b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_und_mehr?=\r\n",
    "of blanks and folds": b"Subject:\r\n \r\n\t\r\n",
    "control characters": b"Subject:\x0b1\x0c\x01\x7f \r\n",
    "UTF-8 that is none": b"Subject: \xc3\xbc\xfc \xed\xa0\x80 \xf4\x90\x80\x80\r\n",
    "lines without end": b"Subject: " + b"x" * 3000 + b"\r\n " + b"y" * 3000 + b"\r\n",
    "five times": b"Subject: 1\r\n" * 4 + b"subJECT: 2\r\n",
    "none": b"",
}
TO_FORGE = (
    *("plain", "folded-header", "trace-fields", "many-fields", "eight-bit-header", "nested-multipart"),
    "every-octet",
)


def with_forgeries(content: bytes) -> bytes:
    """All of them at the top, between all fields, and below them."""
    header, _, body = content.partition(b"\r\n\r\n")
    fields = re.split(rb"(?<=\r\n)(?![ \t])", header + b"\r\n")
    mixed = b"".join(field + FORGERIES[number % len(FORGERIES)] for number, field in enumerate(fields))
    return FORGED + mixed + LEFT_ALONE + FORGED + b"\r\n" + body


MADE = {
    **{f"forged {name}": with_forgeries(CORPUS[name]) for name in TO_FORGE},
    **{f"subject {name}": subject + REST for name, subject in SUBJECTS.items()},
    "forged below a mailbox line": b"From a Mon\r\n" + FORGED + REST,
    "forged below a quoted mailbox line": b">From a Mon\r\n" + FORGED + REST,
    "forged below a mailbox line with a fold": b"From a Mon\r\n folded\r\n" + FORGED + REST,
    "forged below a fold": b" fold\r\n" + FORGED + REST,
    "forged below a line that is none": b"A: 1\r\nno field\r\n" + FORGED + REST,
    "forged below a line of blanks": b"A: 1\r\n \t\r\n" + FORGED + REST,
    "nothing but forgeries": FORGED + b"\r\n",
    "a forgery of many lines": b"A: 1\r\nX-Spam-Status: No\r\n" + b"\t and so on\r\n" * 500 + REST,
    "forgeries by the hundred": FORGERIES[0] * 150 + b"Subject: s\r\n" + FORGERIES[3] * 150 + REST,
    "names of all sorts": b"X_Y!#$%&'*+-.^`|~: 1\r\nX(c): 2\r\nX/Y:3\r\n:4\r\n" + REST,
    "names beyond ASCII": b"X-Spam-Fl\xe4g: NO\r\n" + FORGED + REST,
    "fields for no receiver": b"Bcc: a@example.net\r\nReturn-Path: <a@example.net>\r\n\tx\r\n"
    + FORGED
    + REST,
    "bare LFs": b"A: 1\nX-Spam-Flag: NO\r\nB: 2\n fold\r\n" + FORGED + REST,
    "three thousand fields": b"".join(b"A%d: " % n + b"z" * 60 + b"\r\n" for n in range(3000))
    + FORGED
    + REST,
    "more fields than any mail has": b"A: 1\r\n" * 30_000 + REST,
    "bare CR": b"A: 1\rX-Spam-Flag: NO\r\n" + FORGED + REST,
    "NUL in a field": b"Subject: a\0b\r\n" + FORGED + REST,
    "70,000 octets in a field": b"A: " + b"x " * 35_000 + b"\r\n" + FORGED + REST,
    "two mailbox lines": b"From a Mon\r\nFrom b Tue\r\n" + FORGED + REST,
    "mailbox line quoted twice": b">>From a Mon\r\n" + FORGED + REST,
    "in circles": b"Received: from a by mx.example.com; today\r\n" * 10 + REST,
    "virus": eicar_attached(),
    "GTUBE": gtube(),
}
MESSAGES = {**CORPUS, **MADE}

# What can be different, and why.
_SEEN = {"judged", "fields", "kept"}
DIFFERENT = {
    # Postfix has the body begin with a fold that follows a mailbox line. Once the gateway has made a field of
    # the mailbox line, the fold goes on with that, and fields follow.
    "forged below a mailbox line with a fold": {"content", "fields", "kept"},
    # What makes a field for Postfix if it is the first line is none below our fields.
    "two mailbox lines": {"content", *_SEEN},
    "mailbox line quoted twice": {"content", *_SEEN},
    # A CRLF by the gateway (bare_newline), a blank by Postfix.
    "bare CR": {"content", "kept"},
    # Postfix takes away what follows it, for a milter to see or behind the proxy.
    "NUL in a field": _SEEN,
    # Postfix cuts a field off after 60,000 octets where it has milters.
    "70,000 octets in a field": {"content", *_SEEN},
    # Where so much comes behind a milter not all is kept, and the record of the refusal has no message.
    "more fields than any mail has": {"judged", "fields"},
}


@pytest.fixture(scope="module")
def fates(clamd: Clamd) -> Iterator[dict[str, tuple[Fate, Fate]]]:
    sent = {
        f"{name} {kind}": (sender, content)
        for name, content in MESSAGES.items()
        for kind, sender in SENDERS.items()
    }
    with FakeSpamd(SCANNED) as spamd, BothWays(clamd.address, spamd.address) as both:
        yield both.carry(sent)


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("kind", SENDERS)
def test_both_ways_lead_to_the_same(fates: dict[str, tuple[Fate, Fate]], name: str, kind: str):
    found = differences(fates[f"{name} {kind}"])
    assert found.keys() <= DIFFERENT.get(name, set())
    assert bool(found) == (name in DIFFERENT)


def test_all_that_can_be_the_same_happens(fates: dict[str, tuple[Fate, Fate]]):
    proxy = {name: each[0] for name, each in fates.items()}
    reasons = {"accepted", "virus-found", "mail-loop", "header-too-big"}
    assert {fate["reason"] for fate in proxy.values()} == reasons
    assert {proxy[f"{name} plain"]["judged"] for name in MESSAGES} == {"what came"}
    assert all((fate["content"] is None) == (fate["verdict"] != "accepted") for fate in proxy.values())
    assert {name for name, fate in proxy.items() if fate["kept"] is not None} == {
        f"{name} kept" for name in MESSAGES if proxy[f"{name} kept"]["reason"] == "accepted"
    }
    changed = proxy["subject octets that are no text marked"]["content"]
    assert b"\r\nSubject: =?utf-8?b?W1Byw7xmdW5nXQ==?= Gr\xfc\xdfe\r\n\t\xff\xfe\x80\r\n" in changed
    clean = proxy["forged trace-fields plain"]["content"]
    assert clean.partition(b"X-Sluicegate-Reference: ...\r\n")[2].startswith(CORPUS["trace-fields"][:40])
    assert clean.count(b"X-Sluicegate-") == 1 + LEFT_ALONE.count(b"X-Sluicegate-")
