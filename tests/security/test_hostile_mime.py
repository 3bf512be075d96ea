"""Messages made to break whoever takes them apart. We do not: they pass as they came, in bounded memory."""

import io
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator

import pytest

from gateway.proxy.stream import READ_AHEAD
from policies import Stage, policy, reject
from tests.client import Client
from tests.security.battery import START, Battery, content_of
from tests.security.conftest import BatteryStarter

FORM = b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n"


def nested(levels: int) -> bytes:
    """A multipart in a multipart in a multipart."""
    return b"".join(FORM % str(n).encode() + b"--%d\r\n" % n for n in range(levels)) + b"\r\nend\r\n"


def archive(names: list[str]) -> bytes:
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, b"\0" * 1000)
    return octets.getvalue()


def attached(octets: bytes, name: str = "a.zip") -> bytes:
    """An attachment in hexadecimal: what it is in does not matter to us."""
    head = FORM % b"b" + f'--b\r\nContent-Disposition: attachment; filename="{name}"\r\n\r\n'.encode(
        "latin-1"
    )
    return head + b"\r\n".join(octets.hex(" ", 30).encode().split()) + b"\r\n--b--\r\n"


HOSTILE = {
    "nested 100": nested(100),
    "nested 100000": nested(100_000),
    "parts": FORM % b"b" + b"--b\r\n\r\n" * 100_000,
    "borders": FORM % b"b" + b"--b\r\n" * 200_000,
    "fields": b"".join(b"X-%015d: y\r\n" % number for number in range(20_000)) + b"\r\nb\r\n",
    "one field": b"X: " + b"a" * 1_000_000 + b"\r\n\r\nb\r\n",
    "one folded field": b"X: a" + b"\r\n a" * 200_000 + b"\r\n\r\nb\r\n",
    "semicolons": b"Content-Type: text/html " + b"; " * 7000 + b"\r\n\r\nb\r\n",
    "quotes": b"From: " + b'"' * 16_000 + b"\r\n\r\nb\r\n",
    "comments": b"From: " + b"(" * 100_000 + b"\r\n\r\nb\r\n",
    "angles": b"From: " + b"<" * 100_000 + b"\r\n\r\nb\r\n",
    "encoded words": b"Subject: " + b"=?a?q? " * 100_000 + b"\r\n\r\nb\r\n",
    "unknown charsets": b"".join(
        b"Subject: =?%s?q?a=00=FF?=\r\nContent-Type: text/plain; charset=%s\r\n" % (charset, charset)
        for charset in (
            b"unicode_escape",
            b"idna",
            b"punycode",
            b"zlib_codec",
            b"rot13",
            b"../../x",
            b"utf-16",
        )
    )
    + b"\r\n=\r\n",
    "idna": b"Subject: =?idna?q?" + b"a" * 65_536 + b"?=\r\n\r\nb\r\n",
    "empty border": b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\na\r\n----\r\n',
    "long border": FORM % (b"b" * 10_000) + b"--" + b"b" * 10_000 + b"\r\n\r\na\r\n",
    "border with a border in it": FORM % b"b" + b"--bb\r\n\r\na\r\n--b\r\n\r\nc\r\n",
    "two borders": b'Content-Type: multipart/x; boundary="a"; boundary="b"\r\n\r\n--b\r\n\r\nx\r\n--a\r\n',
    "two encodings": b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: x-foo\r\n\r\n====\r\n",
    "soft line breaks": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=\r\n" * 100_000,
    "base64 of nothing": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"=?!~" * 100_000 + b"\r\n",
    "half of a message": b'Content-Type: message/partial; id="x"; number=1; total=2\r\n\r\nX5O!P%@AP\r\n',
    "outside body": b'Content-Type: message/external-body; access-type=URL; URL="http://x.example/"\r\n\r\n\r\n',
    "names": b"".join(
        attached(b"x", name) for name in ("evil.exe.", "e\0.exe.txt", "\u00e9", "../../x", "a" * 5000)
    ),
    "zeros": attached(zlib.compress(b"\0" * 10_000_000)),
    "many entries": attached(archive([f"../../{number}" for number in range(2000)])),
    "NULs": b"Subject: a\0b\r\n\r\n" + b"\0" * 100_000 + b"\r\n",
    "no header": b"body only\r\n" * 10,
    "nothing but line ends": b"\r\n" * 100_000,
    "every octet": b"X: "
    + bytes(octet for octet in range(256) if octet not in b"\r\n") * 100
    + b"\r\n\r\nb\r\n",
}


@policy(at=Stage.END_OF_DATA)
def curious(tx, evidence):
    """Reads everything that a policy can read of a header."""
    for field in tx.message.fields[:100]:
        assert isinstance(tx.message.header(field.name), str)
        assert tx.message.headers(field.name)
        assert tx.message.raw_header(field.name) is not None


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
async def test_it_passes_as_it_came(start_battery: BatteryStarter, content: bytes):
    battery = await start_battery(policies=[curious])
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    assert await battery.codes(START, stuffed + b".\r\nQUIT\r\n") == [250, 250, 250, 354, 250, 221]
    assert content_of(battery.mta.messages[0]) == content


@policy(at=Stage.END_OF_DATA)
def nothing(tx, evidence):
    """Keeps it from the downstream, which has all of it in memory."""
    return reject("seen-enough")


def pieces(line: bytes, octets: int) -> Iterator[bytes]:
    piece = line * (65_536 // len(line))
    for _ in range(octets // len(piece)):
        yield piece


@pytest.mark.parametrize("line", [b"\r\n", b"..\r\n", b"a" * 1022 + b"\r\n", b"a", b"\0\r\n"], ids=len)
async def test_content_is_in_bounded_memory(start_battery: BatteryStarter, line: bytes):
    """Twenty megabytes of it, whatever its lines are."""
    battery = await start_battery(policies=[nothing])
    battery.takes_nothing = True
    async with Client(battery.gateway.port) as client:
        await client.open("u1@our.example")
        await client.ask("DATA")
        tracemalloc.start()
        try:
            for piece in pieces(line, 20_000_000):
                await client.send(piece)
            client.say(b"\r\n.\r\n")
            answer = await client.reply()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    battery.heard.append(answer)
    assert answer.code == 550
    assert battery.gateway.records[0].message.size >= 14_000_000
    # What is read in one go, and copied a few times on its way.
    assert peak < 4_000_000 + 10 * READ_AHEAD


async def test_more_fields_than_any_mail_has_are_refused(battery: Battery):
    """Each takes more memory as a field than as octets."""
    codes = await battery.codes(START, b"a:\r\n" * 200_000 + b"\r\nb\r\n.\r\nQUIT\r\n")
    assert codes == [250, 250, 250, 354, 552, 221]
    assert battery.gateway.records[0].reason == "header-too-big"
