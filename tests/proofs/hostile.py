"""Sessions of the soak that nobody wishes for: smuggling, probing, flooding, babbling, vanishing."""

import asyncio
import ssl
import string
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from tests.proofs.daemons import PER_CLIENT
from tests.proofs.guest import Guest
from tests.proofs.ledger import Sent, Visit
from tests.proofs.ordinary import DOMAIN, Kind, compose
from tests.proofs.visitor import Letter, letter

# Smuggling (SMTP commands hidden in content)


@dataclass(frozen=True)
class Trick:
    """What stands between the visible message and the smuggled one, and what must become of it.

    `codes` are the replies that may come to the whole; `ends` where this is a true end of data.
    """

    octets: bytes
    codes: tuple[int, ...] = (550,)
    ends: bool = False


# By the names these have in published scanners and advisories, in order of their spelling.
TRICKS = {
    "LF.LF": Trick(b"\n.\n"),
    "LF.CR": Trick(b"\n.\r"),
    "CR.LF": Trick(b"\r.\n"),
    "CR.CR": Trick(b"\r.\r"),
    "LF.CRLF": Trick(b"\n.\r\n"),
    "CR.CRLF": Trick(b"\r.\r\n"),
    "CRLF.CR": Trick(b"\r\n.\r"),
    "CRLF.LF": Trick(b"\r\n.\n"),
    "NUL.": Trick(b"\r\n\0.\r\n"),
    ".NUL": Trick(b"\r\n.\0\r\n", (250, 550)),
    ".CRCRLF": Trick(b"\r\n.\r\r\n"),
    "CRCRLF.CRCRLF": Trick(b"\r\r\n.\r\r\n"),
    "CRCRLF.CRLF": Trick(b"\r\r\n.\r\n", ends=True),
    ".blank": Trick(b"\r\n. \r\n", (250,)),
    ".tab": Trick(b"\r\n.\t\r\n", (250,)),
    ".VT": Trick(b"\r\n.\x0b\r\n", (250,)),
    ".FF": Trick(b"\r\n.\x0c\r\n", (250,)),
    "overlong LF.CRLF": Trick(b"a" * 1002 + b"\n.\r\n"),
    "overlong .CRLF": Trick(b"a" * 1001 + b".\r\n", (250,)),
    "overlong CRLF.LF": Trick(b"a" * 65_536 + b"\r\n.\n"),
    "CR in the header": Trick(b"\rX-Spam-Flag: NO\r\n"),
}


async def smuggling(visit: Visit) -> str:
    name = visit.rng.choice(list(TRICKS))
    trick = TRICKS[name]
    visible = compose(visit, 100)
    head = visible.content.removesuffix(b"\r\n")
    hidden, inner = _smuggled(visit)
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.envelope(visible)
        await guest.want(354, "DATA")
        whole = _decoded(head + trick.octets + inner) if not trick.ends else visible.content
        sent = guest.send_note(Letter(visible.identity, whole, visible.recipients, visible.sender))
        commanded = _announce(guest, hidden) if trick.ends else None
        guest.say(head, trick.octets, inner, b".\r\nQUIT\r\n")
        sent.answer = await guest.reply()
        assert sent.answer.code in trick.codes, f"{name}: {sent.answer}"
        if commanded is not None:
            await _hear_commands(guest, commanded)
        assert (await guest.reply()).code == 221, name
    return str(sent.answer.code)


async def pipelined_behind_content(visit: Visit) -> str:
    """Another transaction in the same segment as the end of data is taken for what it is (SMG-28)."""
    first = compose(visit)
    hidden, inner = _smuggled(visit)
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.envelope(first)
        await guest.want(354, "DATA")
        sent, commanded = guest.send_note(first), _announce(guest, hidden)
        guest.say(first.stuffed, b".\r\n", inner, b".\r\nQUIT\r\n")
        sent.answer = await guest.reply()
        assert sent.answer.code == 250
        await _hear_commands(guest, commanded)
        assert (await guest.reply()).code == 221
    return "250, 250"


def _smuggled(visit: Visit) -> tuple[Letter, bytes]:
    """The message that must not arrive, and the octets that would bring it up to its end of data."""
    sender = f"smug{visit.number}@a.example"
    identity = f"<smuggled.{visit.number}@soak.example>"
    hidden = letter(identity, b"x\r\n", f"u2@{DOMAIN}", sender=sender)
    inner = f"MAIL FROM:<{sender}>\r\nRCPT TO:<u2@{DOMAIN}>\r\nDATA\r\n".encode() + hidden.content
    return hidden, inner


def _announce(guest: Guest, hidden: Letter) -> Sent:
    """Enter into the books what looks smuggled and is said as commands."""
    guest.visit.mails.add(hidden.sender)
    return guest.send_note(hidden)


async def _hear_commands(guest: Guest, sent: Sent) -> None:
    """They are answered like any others."""
    codes = [reply.code for reply in await guest.replies(3)]
    sent.answer = await guest.reply()
    assert (codes, sent.answer.code) == ([250, 250, 354], 250)


def _decoded(stuffed: bytes) -> bytes:
    return (b"\r\n" + stuffed).replace(b"\r\n.", b"\r\n")[2:]


# Relaying, and addresses with something in them

STRANGERS = (
    b"<nobody@victim.example>",
    b"<nobody%victim.example@[127.0.0.1]>",
    b'<"nobody%victim.example">',
    b"<nobody@victim.example@our.example>",
    b"<@our.example:nobody@victim.example>",
    b"<victim.example!nobody>",
    b"<x@our.example.victim.example>",
    b"<x@xour.example>",
    b"<x@.our.example>",
    b"<=?utf-8?q?a=0d=0aRCPT_TO=3a=3cx=40victim.example=3e?=@victim.example>",
    b'<"a\\\rb"@our.example>',
    b"<u1@our.example>,<x@victim.example>",
    b"<u1@our.example> <x@victim.example>",
    b"<u1@our.example\0@victim.example>",
    b"<x@victim.example\0@our.example>",
    b"<>",
    b"<x\xef\xbc\xa0victim.example@our.example>",
)


async def relay_probe(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.mail(f"s{visit.number}@{DOMAIN}")
        for recipient in visit.rng.sample(STRANGERS, k=4):
            guest.say(b"RCPT TO:", recipient, b"\r\n")
            answer = await guest.reply()
            assert answer.code >= 500, f"{recipient!r}: {answer}"
            # A line with a control character in it is no command, and nobody's refused recipient.
            assert answer.reference or set(recipient) & set(b"\0\r"), f"{recipient!r}: {answer}"
        await guest.want(554, "DATA")
        await guest.bye()
    return "5xx"


async def out_of_order(visit: Visit) -> str:
    async with Guest(visit) as guest:
        assert (await guest.reply()).code == 220
        for code, command in (
            (503, f"MAIL FROM:<s{visit.number}@a.example>"),
            (501, "EHLO"),
            (250, "EHLO c.example"),
            (503, f"RCPT TO:<u1@{DOMAIN}>"),
            (503, "DATA"),
            (500, "XYZZY"),
            (502, "EXPN all"),
        ):
            await guest.want(code, command)
        await guest.mail(f"s{visit.number}@a.example")
        await guest.want(503, "MAIL FROM:<again@a.example>")
        await guest.want(554, "DATA")
        await guest.want(250, "RSET")
        await guest.post(compose(visit))
    return "250"


# Babble


async def garbage(visit: Visit) -> str:
    visit.aborts = None
    alphabet = bytes(range(256)) if visit.rng.random() < 0.5 else string.printable.encode()
    return await _babble(visit, bytes(visit.rng.choices(alphabet, k=visit.rng.randrange(1, 600))))


async def http(visit: Visit) -> str:
    return await _babble(visit, b"GET / HTTP/1.1\r\nHost: mx.our.example\r\n\r\n")


async def tls_hello(visit: Visit) -> str:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = visit.trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return await _babble(visit, outgoing.read())


async def _babble(visit: Visit, octets: bytes) -> str:
    """Whatever is said, what is answered is SMTP, and ends."""
    async with Guest(visit) as guest:
        guest.say(octets)
        guest.half_close()
        answers = await guest.everything(at_least=1)
        assert answers[0].code == 220
        assert all(answer.code >= 400 for answer in answers[1:]), answers
    return "hung up"


async def overlong_line(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        guest.say(b"NOOP ", b"x" * visit.rng.randrange(3000, 200_000), b"\r\n")
        answer = await guest.reply()
        assert (answer.code, answer.status) == (500, "5.5.2")
        await guest.post(compose(visit))
        await guest.bye()
    return "250"


# Floods


async def commands_without_end(visit: Visit) -> str:
    command = visit.rng.choice((b"NOOP", b"RSET", b"EHLO c.example", b"VRFY x"))
    async with Guest(visit) as guest:
        await guest.hello()
        guest.pipeline([command] * 300)
        answers = await guest.everything()
        assert len(answers) <= 100
        # A connection closed with something unread is reset, and then the last words may be lost.
        assert {answer.code for answer in answers[:-1]} <= {250, 252}
    return "421"


async def nonsense_without_end(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        guest.pipeline([b"XYZZY"] * 12)
        assert {answer.code for answer in await guest.replies(12)} == {500}
        await guest.bye()
    return "5xx"


async def recipients_without_end(visit: Visit) -> str:
    """RFC 5321 section 4.5.3.1.10: what is over the limit is for another time, the rest is taken."""
    recipients = [f"u{number}@{DOMAIN}" for number in range(1000)]
    message = compose(visit, 0, *recipients)
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.mail(message.sender)
        for start in range(0, 1000, 100):
            guest.pipeline([f"RCPT TO:<{each}>".encode() for each in recipients[start : start + 100]])
            assert {answer.code for answer in await guest.replies(100)} == {250}
        for _ in range(20):
            await guest.want(452, f"RCPT TO:<{recipients[0]}>")
        answer = await guest.content(message)
        assert answer.code == 250, answer
    return "250"


async def reads_nothing(visit: Visit) -> str:
    """Takes the banner and then no reply any more."""
    visit.aborts = None
    async with Guest(visit) as guest:
        await guest.reply()
        visit.mails.add(f"s{visit.number}@a.example")
        said = ["EHLO c.example", f"MAIL FROM:<s{visit.number}@a.example>"]
        said += [f"RCPT TO:<u{number}@{DOMAIN}>" for number in range(500)]
        guest.pipeline([command.encode() for command in said])
        await asyncio.sleep(0.2)  # as long as it has patience
        guest.reset()
    return "gone"


async def crowd(visit: Visit) -> str:
    """More connections from one client than it may have; each is told at once."""
    async with AsyncExitStack() as stack:
        codes = []
        for _ in range(PER_CLIENT + 3):
            guest = await stack.enter_async_context(Guest(visit))
            codes.append((await guest.reply()).code)
    # While one configuration takes over from another, each counts for itself.
    assert codes == [220] * PER_CLIENT + [421] * 3 or not visit.is_quiet, codes
    return "220, 421"


# STARTTLS


async def injected_before_tls(visit: Visit) -> str:
    """CVE-2011-0411: what was said in clear behind STARTTLS was never said."""
    async with Guest(visit) as guest:
        await guest.hello()
        guest.say(b"STARTTLS\r\nMAIL FROM:<injected@evil.example>\r\n")
        assert (await guest.reply()).code == 220
        await guest.start_tls(visit.trust)
        await guest.want(250, "NOOP")
        await guest.want(503, f"RCPT TO:<u1@{DOMAIN}>")
        await guest.want(250, "EHLO c.example")
        await guest.post(compose(visit))
    return "250"


async def no_handshake(visit: Visit) -> str:
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.want(220, "STARTTLS")
        guest.say(
            visit.rng.choice((b"MAIL FROM:<a@a.example>\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 50))
        )
        guest.half_close()
        assert await guest.says_no_more()
    return "hung up"


# Vanishing


async def vanishing(visit: Visit) -> str:
    """Gone in any state, by FIN or by RST, with replies read or not."""
    message = compose(visit)
    visit.mails.add(message.sender)
    envelope = [f"MAIL FROM:<{message.sender}>", f"RCPT TO:<{message.recipients[0]}>", "DATA"]
    commands = ["EHLO c.example", *envelope][: visit.rng.randrange(5)]
    is_open = any(command.startswith("MAIL") for command in commands)
    async with Guest(visit) as guest:
        assert (await guest.reply()).code == 220
        for command in commands:
            await guest.ask(command)
        if commands[-1:] == ["DATA"]:
            _say_some(guest, message)
        visit.aborts = int(is_open) if not visit.sent else None
        if visit.rng.random() < 0.5:
            guest.reset()
    return "gone"


def _say_some(guest: Guest, message: Letter) -> None:
    """A part of the content, or all of it; the last octet alone makes the difference."""
    octets = message.stuffed + b".\r\n"
    cut = guest.visit.rng.choice((0, 10, len(octets) // 2, len(octets) - 2, len(octets) - 1, len(octets)))
    if cut == len(octets):
        guest.send_note(message)
    guest.say(octets[:cut])


async def half_closed_in_content(visit: Visit) -> str:
    visit.aborts = 1
    message = compose(visit)
    async with Guest(visit) as guest:
        await guest.hello()
        await guest.envelope(message)
        await guest.want(354, "DATA")
        guest.say(message.stuffed)
        guest.half_close()
        assert await guest.everything() == []
    return "gone"


KINDS: dict[str, tuple[int, Kind]] = {
    "smuggling": (70, smuggling),
    "pipelined behind content": (10, pipelined_behind_content),
    "relay probe": (40, relay_probe),
    "out of order": (15, out_of_order),
    "garbage": (25, garbage),
    "HTTP": (8, http),
    "TLS hello in clear": (8, tls_hello),
    "overlong line": (12, overlong_line),
    "flood of commands": (15, commands_without_end),
    "flood of nonsense": (3, nonsense_without_end),
    "flood of recipients": (2, recipients_without_end),
    "reads nothing": (8, reads_nothing),
    "crowd": (6, crowd),
    "injection before TLS": (10, injected_before_tls),
    "no handshake": (8, no_handshake),
    "vanishing": (60, vanishing),
    "half closed in content": (12, half_closed_in_content),
}
