"""What scanners are shown is the message that the MTA has, octet for octet."""

import hashlib
import re
import uuid
from pathlib import Path

import pytest

from tests.fakes.clamd import FakeClamd
from tests.fakes.milter_delivery import Message
from tests.fakes.milter_mta import MTA
from tests.fakes.milter_protocol import ALL_STEPS, NOTHING, Steps
from tests.fakes.milter_response import Decision
from tests.fakes.rspamd import FakeRspamd
from tests.fakes.spamd import FakeSpamd
from tests.milter.asked import PLAIN, A, Asked, B, deliver, order

CORPUS = {path.stem: path.read_bytes() for path in (Path(__file__).parents[1] / "corpus").glob("*.eml")}
_SILENCE = Steps.NR_CONN | Steps.NR_HELO | Steps.NR_HDR | Steps.NR_EOH | Steps.NR_BODY
OFFERS = {
    "all": ALL_STEPS,
    "no-silence": ALL_STEPS & ~_SILENCE,
    "no-blanks": ALL_STEPS & ~Steps.HDR_LEADSPC,
    "no-skipping": ALL_STEPS & ~Steps.SKIP,
    "nothing": NOTHING,
}
each_offer = pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
EVERY_OCTET = bytes(range(256))
# What is put on top for scanners, until the MTA has its own field there.
TRACE = re.compile(rb"Received: [^\r\n]*(?:\r\n\t[^\r\n]*)*\r\n")


def as_the_mta_has_it(content: bytes, *, leading_space: bool) -> bytes:
    """Fields, an empty line, the body. Without `leading_space` nobody knows of any but one blank."""
    message = Message.of(content)
    lines = [
        field.octets
        if leading_space
        else field.name + b": " + field.value(leading_space=False).replace(b"\n", b"\r\n") + b"\r\n"
        for field in message.fields
    ]
    return b"".join(lines) + b"\r\n" + (message.body or b"")


def scanned(shown: bytes) -> bytes:
    """Without the trace field on top."""
    found = TRACE.match(shown)
    assert found is not None
    assert b"by mx.example (Sluicegate) with " in found[0]
    return shown[found.end() :]


@each_offer
@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
async def test_the_corpus_is_judged_octet_for_octet(asked: Asked, content: bytes, offer: Steps):
    async with asked.mta(steps=offer) as mta:
        await mta.greet()
        end = await deliver(mta, content)
        expected = as_the_mta_has_it(content, leading_space=mta.has_leading_space)
        message = mta.delivered(end).message
    record = (await asked.record())["message"]
    assert (record["size"], record["digest"]) == (len(expected), hashlib.sha256(expected).hexdigest())
    # And it is delivered as it came, but for our fields on top.
    whole = Message.of(content)
    assert message.body == whole.body
    assert [field.octets for field in message.fields if not is_ours(field.name)] == [
        field.octets for field in whole.fields if not is_ours(field.name)
    ]


def is_ours(name: bytes) -> bool:
    return name.lower().startswith((b"x-spam-", b"x-virus-scanned", b"x-sluicegate-"))


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
async def test_every_scanner_is_shown_these_octets(
    asked: Asked, clamd: FakeClamd, spamd: FakeSpamd, rspamd: FakeRspamd, content: bytes
):
    content += f"\r\nnever seen before: {uuid.uuid4()}\r\n".encode()
    expected = as_the_mta_has_it(content, leading_space=True)
    before = [fake.connections for fake in (clamd, spamd, rspamd)]
    async with asked.mta() as mta:
        await mta.greet()
        assert (await deliver(mta, content)).is_continue
    await asked.record()
    assert [fake.connections for fake in (clamd, spamd, rspamd)] == [each + 1 for each in before]
    assert scanned(bytes(clamd.last.content)) == expected
    assert scanned(bytes(rspamd.last.content)) == expected
    # What is shown to spamd ends in a line end.
    assert scanned(bytes(spamd.last.content)) == expected


async def begin(mta: MTA, *, has_data: bool = True) -> None:
    await mta.greet()
    await mta.mail(A)
    await mta.rcpt(B)
    if has_data:
        await mta.data()


async def judged(asked: Asked, mta: MTA) -> str:
    """The end of the message; what was judged, by its digest."""
    assert (await mta.end()).is_continue
    await mta.abort()
    return str((await asked.record())["message"]["digest"])


def digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


@each_offer
@pytest.mark.parametrize("sizes", [[1], [2, 3, 5, 7, 11], [255, 257], [4096], [65_535]], ids=str)
async def test_a_body_may_come_in_any_pieces(asked: Asked, offer: Steps, sizes: list[int]):
    """Cut between CR and LF as well; beyond what is kept in memory where the pieces are large."""
    body = (EVERY_OCTET + b"\r\n.\r\n\r\n") * (3 if sizes[0] < 255 else 1200)
    async with asked.mta(steps=offer) as mta:
        await begin(mta)
        await mta.header(b"Subject", b" x" if mta.has_leading_space else b"x")
        await mta.eoh()
        at, number = 0, 0
        while at < len(body):
            size = sizes[number % len(sizes)]
            assert (await mta.body(body[at : at + size])).goes_on
            at, number = at + size, number + 1
        assert await judged(asked, mta) == digest(b"Subject: x\r\n\r\n" + body)


async def test_a_large_message_is_shown_whole(asked: Asked, clamd: FakeClamd):
    content = PLAIN + uuid.uuid4().bytes.hex().encode() + b"\r\n" + (EVERY_OCTET * 4 + b"\r\n") * 1000
    async with asked.mta() as mta:
        await mta.greet()
        assert (await deliver(mta, content)).is_continue
    await asked.record()
    assert scanned(bytes(clamd.last.content)) == as_the_mta_has_it(content, leading_space=True)


@pytest.mark.parametrize("has_data", [True, False])
@pytest.mark.parametrize("has_field", [True, False])
@pytest.mark.parametrize("body", [b"", b"x\r\n"])
async def test_a_message_may_lack_any_part(asked: Asked, has_data: bool, has_field: bool, body: bytes):
    """Where there is no DATA, as with old MTAs, libmilter takes a message without the end of a header."""
    async with asked.mta() as mta:
        await begin(mta, has_data=has_data)
        if has_field:
            await mta.header(b"Subject", b" x")
        if has_data or has_field:
            await mta.eoh()
        if body:
            await mta.body(body)
        header = b"Subject: x\r\n" if has_field else b""
        assert await judged(asked, mta) == digest(header + b"\r\n" + body)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"x",
        b" x",
        b"  x ",
        b"\tx",
        b" a\n b\n\tc",
        b"\n folded",
        " grün \u2603".encode(),
        b" \xff\x80",
    ],
)
async def test_a_value_is_what_stands_behind_the_colon(asked: Asked, value: bytes):
    async with asked.mta() as mta:
        await begin(mta)
        await mta.header(b"X-Field", value)
        await mta.eoh()
        expected = b"X-Field:" + value.replace(b"\n", b"\r\n") + b"\r\n\r\n"
        assert await judged(asked, mta) == digest(expected)


async def test_one_message_knows_nothing_of_another_at_the_same_time(asked: Asked):
    async with asked.mta() as one, asked.mta() as other:
        for mta in (one, other):
            await begin(mta)
        for mta, value in ((one, b" 1"), (other, b" 2"), (one, b" 3"), (other, b" 4")):
            await mta.header(b"X-Number", value)
        for mta, body in ((one, b"one\r\n"), (other, b"other\r\n")):
            await mta.eoh()
            await mta.body(body)
        for mta in (one, other):
            assert (await mta.end()).is_continue
    first, second = await asked.recorded(2)
    assert first["message"]["digest"] == digest(b"X-Number: 1\r\nX-Number: 3\r\n\r\none\r\n")
    assert second["message"]["digest"] == digest(b"X-Number: 2\r\nX-Number: 4\r\n\r\nother\r\n")


@each_offer
async def test_an_mta_that_cannot_skip_is_let_finish(asked: Asked, offer: Steps):
    """A message that is too big in any case."""
    async with asked.mta(steps=offer) as mta:
        await begin(mta)
        await mta.eoh()
        answers = {(await mta.body(b"x" * 65_535)).decision for _ in range(40)}
        expected = {Decision.CONTINUE, Decision.SKIP, Decision.NOT_SENT}
        assert answers == (expected if offer & Steps.SKIP else {Decision.CONTINUE})
        assert (await mta.end()).reply.code == 552


# Text beyond ASCII


async def test_addresses_in_utf8_go_through(asked: Asked):
    async with asked.mta() as mta:
        await mta.greet()
        await mta.mail("<ä@exämple.net>".encode(), b"SMTPUTF8", b"BODY=8BITMIME")
        assert (await mta.rcpt("<grün@our.example>".encode())).is_continue
        assert (await mta.rcpt("<rot@öur.example>".encode())).is_continue
        what = 'redirect("blau@öur.example") & mark("X-Ascii", "1")'
        end = await mta.message(order(ascii(what).strip("'"), "From: ä@exämple.net"))
        delivered = mta.delivered(end)
    assert delivered.recipients == ("blau@öur.example".encode(),)
    assert delivered.values(b"From") == ["ä@exämple.net".encode()]
    record = await asked.record()
    assert record["recipients"] == ["grün@our.example", "rot@öur.example"]
    assert record["parameters"] == {"SMTPUTF8": None, "BODY": "8BITMIME"}


async def test_utf8_in_the_header_is_read_as_such(asked: Asked):
    content = "X-Order: None\r\nSubject: grün \u2603\r\nFrom: ä@exämple.net\r\n\r\n".encode()
    async with asked.mta() as mta:
        await mta.greet()
        assert (await deliver(mta, content)).is_continue
    message = (await asked.record())["message"]
    assert (message["subject"], message["from"]) == ("grün \u2603", "ä@exämple.net")
