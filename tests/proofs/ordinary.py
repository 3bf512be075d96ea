"""Sessions of the soak as they come every day: good mail, mail that is refused, and neighbours in trouble.

Each is a function that plays one session, asserts what the client must hear, and returns in a word
what came of it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tests.client import Answer
from tests.fakes.clamd import EICAR
from tests.fakes.spamd import GTUBE
from tests.proofs.daemons import MAX_MESSAGE_SIZE
from tests.proofs.guest import Guest
from tests.proofs.ledger import Visit
from tests.proofs.mailbox import FIRST_FIELD
from tests.proofs.visitor import Letter, letter

Kind = Callable[[Visit], Awaitable[str]]

DOMAIN = "our.example"
_WORDS = (b"sluice", b"gate", b"water", b"mill", b"lock", b"weir", b"canal", b"barge")


def compose(visit: Visit, size: int = 0, *recipients: str, sender: str = "", extra: bytes = b"") -> Letter:
    """A letter of this visit; `extra` are lines above its text."""
    lines = [extra]
    size = size or visit.rng.randrange(100, 4000)
    while size > 0:
        line = b" ".join(visit.rng.choices(_WORDS, k=10)) + b"\r\n"
        lines.append(line)
        size -= len(line)
    sender = sender or f"s{visit.number}@a.example"
    return letter(visit.identity(), b"".join(lines), *recipients, sender=sender)


def large(visit: Visit, size: int, **more: str) -> Letter:
    """A large letter, quickly made."""
    line = b" ".join(visit.rng.choices(_WORDS, k=10)) + b"\r\n"
    return compose(visit, 100, extra=line * (size // len(line)), **more)


async def small(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.post(compose(visit))
        await guest.bye()
    return "250"


async def big(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.post(large(visit, visit.rng.randrange(150_000, 1_500_000)))
    return "250"


async def pipelined(visit: Visit) -> str:
    message = compose(visit, 0, "u1@our.example", "u2@our.example")
    async with Guest(visit) as guest:
        await guest.hello()
        visit.mails.add(message.sender)
        to = [f"RCPT TO:<{recipient}>".encode() for recipient in message.recipients]
        guest.pipeline([f"MAIL FROM:<{message.sender}> BODY=8BITMIME".encode(), *to, b"DATA"])
        assert [each.code for each in await guest.replies(len(to) + 2)] == [250] * (len(to) + 1) + [354]
        sent = guest.send_note(message)
        guest.say(message.stuffed, b".\r\nQUIT\r\n")
        sent.answer = await guest.reply()
        assert (sent.answer.code, (await guest.reply()).code) == (250, 221)
    return "250"


async def to_several(visit: Visit) -> str:
    recipients = [f"u{number}@{DOMAIN}" for number in range(visit.rng.randrange(2, 30))]
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.post(compose(visit, 0, *recipients))
        await guest.bye()
    return "250"


async def eight_bit(visit: Visit) -> str:
    octets = bytes(octet for octet in visit.rng.randbytes(3000) if octet not in b"\r\n\0") + b"\r\n"
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.post(compose(visit, extra=octets))
    return "250"


async def dots(visit: Visit) -> str:
    edge = visit.rng.choice((4096, 8192, 16_384, 65_536)) + visit.rng.randrange(-3, 3)
    lines = visit.rng.choices((b".", b"..", b"...", b". ", b".x", b"foo.", b""), k=200)
    message = compose(visit, extra=b"\r\n".join([b"x" * edge, b"..dot", *lines, b".\r\n"]))
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.post(message)
    return "250"


async def one_after_the_other(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        for _ in range(visit.rng.randrange(2, 8)):
            await guest.post(compose(visit))
            if visit.rng.random() < 0.3:
                await guest.want(250, "RSET")
        await guest.bye()
    return "250"


async def encrypted(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.want(220, "STARTTLS")
        await guest.start_tls(visit.trust)
        assert "STARTTLS" not in str(await guest.want(250, "EHLO c.example"))
        await guest.post(compose(visit))
        await guest.bye()
    return "250"


async def all_in_one(visit: Visit) -> str:
    """The whole session in one write, and half a close behind it."""
    message = compose(visit)
    visit.mails.add(message.sender)
    async with Guest(visit) as guest:
        sent = guest.send_note(message)
        envelope = f"EHLO c.example\r\nMAIL FROM:<{message.sender}>\r\nRCPT TO:<{message.recipients[0]}>\r\n"
        guest.say(envelope.encode(), b"DATA\r\n", message.stuffed, b".\r\nQUIT\r\n")
        guest.half_close()
        *before, sent.answer, bye = await guest.everything(at_least=7)
        assert [each.code for each in before] == [220, 250, 250, 250, 354]
        assert (sent.answer.code, bye.code) == (250, 221)
    return "250"


async def from_nobody(visit: Visit) -> str:
    message = compose(visit)
    bounce = Letter(message.identity, message.content, message.recipients, sender="")
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.post(bounce)
    return "250"


async def forged(visit: Visit) -> str:
    """Fields that only we may add are taken out, and nothing else is."""
    message = compose(visit)
    first, _, rest = message.content.partition(b"\r\n")
    said = first + b"\r\nX-Spam-Flag: NO\r\nX-Sluicegate-Reference: AAAA-AAAA\r\n" + rest
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.envelope(message)
        await guest.want(354, "DATA")
        sent = guest.send_note(message)
        await guest.send(said + b".\r\n")
        sent.answer = await guest.reply()
        assert sent.answer.code == 250, sent.answer
    return "250"


async def in_pieces(visit: Visit) -> str:
    message = compose(visit, 300, extra=b".\r\n..\r\n")
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.envelope(message)
        await guest.want(354, "DATA")
        sent = guest.send_note(message)
        for octet in message.stuffed + b".\r\n":
            guest.say(bytes([octet]))
            await asyncio.sleep(0)
        sent.answer = await guest.reply()
        assert sent.answer.code == 250, sent.answer
    return "250"


async def slowly(visit: Visit) -> str:
    message = compose(visit, 2000)
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.envelope(message)
        await guest.want(354, "DATA")
        sent = guest.send_note(message)
        octets = message.stuffed + b".\r\n"
        for start in range(0, len(octets), 200):
            guest.say(octets[start : start + 200])
            # Slowness is what this client is about.
            await asyncio.sleep(0.05)
        sent.answer = await guest.reply()
        assert sent.answer.code == 250, sent.answer
    return "250"


# Refused


async def spam(visit: Visit) -> str:
    return await _refused(visit, GTUBE + b"\r\n", 550)


async def virus(visit: Visit) -> str:
    return await _refused(visit, EICAR + b"\r\n", 550)


async def too_big(visit: Visit) -> str:
    """With what would be an end of data and commands in what is thrown away (SMG-16)."""
    line = b"a" * 899 + b"\r\n"
    much = line * (MAX_MESSAGE_SIZE // len(line) + 2)
    return await _refused(visit, much + b"..\r\nHELP\r\nHELP\r\n", 552)


async def _refused(visit: Visit, extra: bytes, code: int) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        answer = await guest.post(compose(visit, extra=extra), code)
        assert answer.reference
        await guest.bye()
    return str(code)


async def to_nobody(visit: Visit) -> str:
    """An unknown user, alone or beside a known one, who gets the message all the same."""
    known = [f"u1@{DOMAIN}"] if visit.rng.random() < 0.5 else []
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.mail(f"s{visit.number}@a.example")
        answer = await guest.want(550, f"RCPT TO:<nobody{visit.number}@{DOMAIN}>")
        assert (answer.status, bool(answer.reference)) == ("5.1.1", True)
        message = compose(visit, 0, *known)
        if known:
            await guest.want(250, f"RCPT TO:<{known[0]}>")
            answer = await guest.content(message)
            assert answer.code == 250, answer
        else:
            await guest.want(554, "DATA")
        await guest.bye()
    return "550, 250" if known else "550"


async def listed(visit: Visit) -> str:
    """A client on a block list: refused at RCPT, but for postmaster."""
    is_asking = visit.rng.random() < 0.3
    async with Guest(visit) as guest:
        await guest.hello()
        if is_asking:
            await guest.post(compose(visit, 0, f"postmaster@{DOMAIN}"))
        else:
            await guest.mail(f"s{visit.number}@a.example")
            assert (await guest.want(550, f"RCPT TO:<u1@{DOMAIN}>")).reference
        await guest.bye()
    return "250" if is_asking else "550"


# Neighbours in trouble

# What the downstream does, where, and what the client hears. Only a message of several pieces has a middle.
FATES: dict[tuple[str, str], int] = {
    **{
        (fate, stage): 451
        for fate in ("drop", "reset", "421", "nonsense")
        for stage in ("mail", "rcpt", "data")
    },
    **{("451", stage): 451 for stage in ("mail", "rcpt", "data", "end")},
    **{("550", stage): 550 for stage in ("mail", "rcpt", "data", "end")},
    **{("slow", stage): 250 for stage in ("mail", "rcpt", "data", "end")},
    **{(fate, "end"): 451 for fate in ("drop", "reset", "421", "nonsense", "taken")},
    **{(fate, "end"): 250 for fate in ("eightbit", "lines", "surplus")},
    **{(fate, "content"): 451 for fate in ("drop", "reset")},
    ("552", "content"): 552,
}


async def downstream_in_trouble(visit: Visit) -> str:
    fate, stage = visit.rng.choice(list(FATES))
    sender = f"{fate}-at-{stage}.{visit.number}@a.example"
    size = 300_000 if stage == "content" else 0
    message = large(visit, size, sender=sender) if size else compose(visit, sender=sender)
    async with Guest(visit) as guest:
        await guest.hello()
        answer = await _try(guest, message, fate == "taken")
        assert answer.code == FATES[fate, stage], f"{fate} at {stage}: {answer}"
        assert answer.code == 250 or answer.reference, f"{fate} at {stage}: {answer}"
        await guest.post(compose(visit))
        await guest.bye()
    return str(answer.code)


async def _try(guest: Guest, message: Letter, may_be_taken: bool) -> Answer:
    (answer,) = await guest.envelope(message)
    if answer.code != 250:
        await guest.want(250, "RSET")
        return answer
    return await guest.content(message, may_be_taken=may_be_taken)


async def scanner_in_trouble(visit: Visit) -> str:
    who = visit.rng.choice((b"Clamd", b"Spamd"))
    what = visit.rng.choices((b"close", b"garbage", b"half", b"reset", b"hang"), (10, 10, 10, 10, 1))[0]
    message = compose(visit)
    order = b"X-%s: %s\r\n" % (who, what)
    content = message.content.replace(b"\r\nFrom:", b"\r\n" + order + b"From:", 1)
    assert content.startswith(FIRST_FIELD)
    async with Guest(visit) as guest:
        await guest.hello()
        answer = await guest.post(Letter(message.identity, content, message.recipients, message.sender), 451)
        assert (answer.status, bool(answer.reference)) == ("4.7.1", True), answer
    return "451"


KINDS: dict[str, tuple[int, Kind]] = {
    "small": (160, small),
    "large": (20, big),
    "pipelined": (80, pipelined),
    "to several": (50, to_several),
    "8-bit": (40, eight_bit),
    "dots": (40, dots),
    "several messages": (50, one_after_the_other),
    "STARTTLS": (40, encrypted),
    "one write, half closed": (30, all_in_one),
    "null sender": (20, from_nobody),
    "forged fields": (20, forged),
    "octet by octet": (15, in_pieces),
    "slow writer": (10, slowly),
    "spam": (40, spam),
    "virus": (30, virus),
    "too big": (3, too_big),
    "unknown user": (40, to_nobody),
    "client on a list": (30, listed),
    "list does not answer": (8, small),
    "list is broken": (8, small),
    "downstream in trouble": (80, downstream_in_trouble),
    "scanner in trouble": (30, scanner_in_trouble),
}
