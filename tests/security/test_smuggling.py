"""One message in is one message out, whatever stands in it and however it arrives (SMTP smuggling)."""

import itertools
import re

import pytest

import gateway.proxy.budget
from gateway.smtp.content import BareNewline, ContentReader
from tests.security.battery import END, ENVELOPE, MESSAGE, START, Battery, content_of
from tests.security.conftest import BatteryStarter

HEADER = b"From: <s@a.example>\r\nSubject: t\r\n\r\nbody"
SMUGGLED = b"mail FROM:<smug@a.example>\r\nrcpt TO:<u2@our.example>\r\ndata\r\nSubject: SMUGGLED\r\n\r\nx"

LINE_ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r", b"\n\r", b"\0\r\n", b"\r\n\0", b"\r\0\n"]
DOTS = [b".", b"..", b"\0.", b".\0", b". ", b".\t", b".\x0b", b".\x85"]
LOOKALIKES = [
    lookalike
    for parts in itertools.product(LINE_ENDS, DOTS, LINE_ENDS)
    if END not in (lookalike := b"".join(parts))
]
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
HIDDEN_DOT = re.compile(rb"\n\0+\.\0*\r?\n")


def is_smuggling(lookalike: bytes, mode: BareNewline) -> bool:
    """Whether it is to be refused, and not to be taken for content."""
    sent = lookalike + SMUGGLED
    if mode is BareNewline.NORMALIZE:
        sent = BARE.sub(b"\r\n", sent)
    return BARE.search(sent) is not None or HIDDEN_DOT.search(sent) is not None


@pytest.mark.parametrize("mode", BareNewline)
async def test_nothing_that_looks_like_an_end_is_one(
    start_battery: BatteryStarter, monkeypatch: pytest.MonkeyPatch, mode: BareNewline
):
    """Each in a transaction of one session; what follows the false end is never carried out."""
    monkeypatch.setattr(gateway.proxy.budget, "MAX_ERRORS", 10_000)
    battery = await start_battery(bare_newline=mode)
    contents = [HEADER + lookalike + SMUGGLED + END for lookalike in LOOKALIKES]
    answers = await battery.talk(
        b"EHLO c.example\r\n", *(ENVELOPE + b"DATA\r\n" + content for content in contents), b"QUIT\r\n"
    )
    codes = [answer.code for answer in answers]
    assert (codes[0], codes[-1]) == (250, 221)
    for number, lookalike in enumerate(LOOKALIKES):
        decisive = 550 if is_smuggling(lookalike, mode) else 250
        assert codes[1 + 4 * number : 5 + 4 * number] == [250, 250, 354, decisive], lookalike
    assert not any("smug" in line or "u2@" in line for line in battery.mta.commands)


@pytest.mark.parametrize("mode", BareNewline)
def test_the_border_of_a_piece_is_nothing(mode: BareNewline):
    """Wherever the network cuts, a lookalike is read as it is in one piece."""
    for lookalike in LOOKALIKES:
        sent = b"a" + lookalike + b"b" + END + b"QUIT\r\n"
        whole = ContentReader(mode)
        content = whole.feed(sent)
        for cut in range(1, len(sent)):
            reader = ContentReader(mode)
            pieces = reader.feed(sent[:cut])
            if not reader.at_end:
                pieces += reader.feed(sent[cut:])
                assert reader.rest == whole.rest, (lookalike, cut)
            assert (pieces, reader.at_end, reader.must_refuse) == (content, True, whole.must_refuse), (
                lookalike,
                cut,
            )


async def test_a_session_cut_in_two_anywhere_is_the_same_session(battery: Battery):
    """A cut between CR and LF, in a verb, in the end of data."""
    session = START + b".Subject: x\r\n\r\n..\r\n.\r\nRSET\r\n" + ENVELOPE + b"QUIT\r\n"
    for cut in range(1, len(session)):
        assert await battery.codes(session[:cut], session[cut:]) == [
            250,
            250,
            250,
            354,
            250,
            250,
            250,
            250,
            221,
        ]
    assert {content_of(message) for message in battery.mta.messages} == {b"Subject: x\r\n\r\n.\r\n"}


async def test_a_session_in_single_octets_is_the_same_session(battery: Battery):
    session = START + MESSAGE + b".\r\nQUIT\r\n"
    segments = [session[at : at + 1] for at in range(len(session))]
    assert await battery.codes(*segments) == [250, 250, 250, 354, 250, 221]


@pytest.mark.parametrize("mode", BareNewline)
async def test_a_nul_anywhere_in_the_content_changes_no_border(
    start_battery: BatteryStarter, mode: BareNewline
):
    """Refused where it makes a dot look alone, passed on as it is anywhere else."""
    battery = await start_battery(bare_newline=mode)
    content = b"A: b\r\n\r\nc\r\n..\r\nd\r\n"
    for at in range(len(content)):
        with_nul = content[:at] + b"\0" + content[at:]
        codes = await battery.codes(START, with_nul + b"e\r\n", b".\r\nQUIT\r\n")
        is_torn = BARE.search(with_nul) is not None and mode is BareNewline.REJECT
        # The first dot is the stuffing, and goes.
        is_hidden = b"\r\n.\0.\r\n" in with_nul
        assert codes[-2:] == [550 if is_torn or is_hidden else 250, 221], with_nul


async def test_what_is_too_big_hides_no_end_and_no_command(start_battery: BatteryStarter):
    battery = await start_battery(max_message_size=100_000)
    for lookalike in (b"\n.\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r\r\n"):
        content = b"a" * 120_000 + lookalike + b"HELP\r\nHELP\r\n"
        assert await battery.codes(START, content, b".\r\nQUIT\r\n") == [250, 250, 250, 354, 552, 221]


async def test_the_transaction_behind_a_refused_one_has_nothing_of_it(battery: Battery):
    second = b"MAIL FROM:<t@a.example>\r\nRCPT TO:<u2@our.example>\r\nDATA\r\n" + MESSAGE + b".\r\n"
    codes = await battery.codes(START + b"bare\nx" + END + second + b"QUIT\r\n")
    assert codes == [250, 250, 250, 354, 550, 250, 250, 354, 250, 221]
    (message,) = battery.mta.messages
    assert (message.mail, message.recipients) == ("MAIL FROM:<t@a.example>", ["RCPT TO:<u2@our.example>"])


@pytest.mark.parametrize("end", [b"", b"\n.\n", b"\r.\r", b"\r\n.", b"\r\n.\r", b"\r\n.\n", b"\r\n\0.\r\n"])
@pytest.mark.parametrize("mode", BareNewline)
async def test_the_end_of_the_connection_is_no_end_of_data(
    start_battery: BatteryStarter, mode: BareNewline, end: bytes
):
    battery = await start_battery(bare_newline=mode)
    assert await battery.codes(START, HEADER + end, hang_up=True) == [250, 250, 250, 354]
    await battery.gateway.no_client()
    assert [(r.verdict, r.reason) for r in battery.gateway.records] == [("aborted", "client-disconnected")]
    assert not battery.mta.heard("DATA")
