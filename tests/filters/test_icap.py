"""Which answers of an ICAP server mean what. Clean is a 204 to the whole message, and nothing else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.base import FilterError, TooLarge
from filters.evidence import VirusReport
from filters.icap import ICAP
from filters.testing import Behaviour, at_end_of_data, say_early
from tests.fakes.clamd import EICAR, EICAR_SIGNATURE
from tests.fakes.icap import CLEAN, CONTINUE, OFFER, PAGE, FakeICAP, answer, answer_preview, infected

LARGE = b"Subject: large\r\n\r\n" + b"0123456789" * 1_000_000
FOUND = infected("X-Infection-Found: Type=0; Resolution=2; Threat=Foo;")


async def scan(
    behaviour: Behaviour, content: bytes = b"Subject: x\r\n\r\nHello\r\n", **options: str
) -> VirusReport:
    async with FakeICAP(behaviour) as fake:
        return await ICAP(address=fake.address, service="avscan", **options).find(at_end_of_data())


async def sent(content: bytes, offer: bytes = OFFER, **options: str) -> bytes:
    """All octets that a server gets which is asked about this for the first time, but for OPTIONS."""
    async with FakeICAP(answer(CLEAN, offer)) as fake:
        service = options.pop("service", "avscan")
        tx = at_end_of_data(content, b"Received: x\r\n")
        assert await ICAP(address=fake.address, service=service, **options).find(tx) == VirusReport()
        assert fake.last.content == b"Received: x\r\n" + content
        received = b"".join(bytes(talk.received) for talk in fake.conversations)
        options_request, _, rest = received.partition(b"\r\n\r\n")
        assert options_request.startswith(b"OPTIONS icap://%s/" % fake.address.encode())
        return rest.replace(fake.address.encode(), b"ADDRESS")


# What is sent


async def test_the_request_is_one_of_the_standard() -> None:
    assert await sent(b"Hello\r\n") == (
        b"RESPMOD icap://ADDRESS/avscan ICAP/1.0\r\n"
        b"Host: ADDRESS\r\n"
        b"Allow: 204\r\n"
        b"Connection: close\r\n"
        b"Preview: 4\r\n"
        b"Encapsulated: req-hdr=0, res-hdr=68, res-body=117\r\n"
        b"\r\n"
        b"GET http://mail.invalid/message.eml HTTP/1.1\r\nHost: mail.invalid\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\n\r\n"
        b"4\r\nRece\r\n0\r\n\r\n"
        b"9\r\nived: x\r\n\r\n7\r\nHello\r\n\r\n0\r\n\r\n"
    )


async def test_so_is_the_one_for_requests() -> None:
    assert await sent(b"Hello\r\n", method="REQMOD") == (
        b"REQMOD icap://ADDRESS/avscan ICAP/1.0\r\n"
        b"Host: ADDRESS\r\n"
        b"Allow: 204\r\n"
        b"Connection: close\r\n"
        b"Preview: 4\r\n"
        b"Encapsulated: req-hdr=0, req-body=99\r\n"
        b"\r\n"
        b"POST http://mail.invalid/message.eml HTTP/1.1\r\nHost: mail.invalid\r\n"
        b"Content-Type: message/rfc822\r\n\r\n"
        b"4\r\nRece\r\n0\r\n\r\n"
        b"9\r\nived: x\r\n\r\n7\r\nHello\r\n\r\n0\r\n\r\n"
    )


async def test_a_service_may_have_arguments() -> None:
    request = await sent(b"x", service="virus_scan?allow204=on&force=on")
    assert request.startswith(b"RESPMOD icap://ADDRESS/virus_scan?allow204=on&force=on ICAP/1.0\r\n")


@pytest.mark.parametrize(
    ("offered", "size", "preview"),
    [
        (b"Preview: 4\r\n", 100, 4),
        (b"Preview: 0\r\n", 100, 0),
        (b"Preview: 1024\r\n", 2000, 1024),
        (b"Preview: 65536\r\n", 2000, 1024),
        (b"Preview: 4096\r\n", 100, 99),
        (b"Preview: 4096\r\n", 1, 0),
        (b"", 100, None),
        (b"Preview: x\r\n", 100, None),
        (b"Preview: -1\r\n", 100, None),
    ],
)
async def test_a_preview_is_never_all_of_the_message(offered: bytes, size: int, preview: int | None) -> None:
    async with FakeICAP(answer(CLEAN, OFFER.replace(b"Preview: 4\r\n", offered))) as fake:
        assert (
            await ICAP(address=fake.address, service="a").find(at_end_of_data(b"x" * size)) == VirusReport()
        )
        assert fake.last.fields.get("Preview") == (None if preview is None else str(preview))
        assert fake.last.content == b"x" * size


async def test_an_empty_message_has_no_preview() -> None:
    async with FakeICAP() as fake:
        assert await ICAP(address=fake.address, service="a").find(at_end_of_data(b"")) == VirusReport()
        assert "Preview" not in fake.last.fields


# What is offered


@pytest.mark.parametrize(
    ("ttl", "asked"),
    [(b"Options-TTL: 3600\r\n", 1), (b"", 1), (b"Options-TTL: 0\r\n", 3)],
    ids=["an-hour", "unsaid", "none"],
)
async def test_what_a_server_offers_is_kept(ttl: bytes, asked: int) -> None:
    async with FakeICAP(answer(CLEAN, OFFER.replace(b"Options-TTL: 3600\r\n", ttl))) as fake:
        icap = ICAP(address=fake.address, service="a")
        for _ in range(3):
            assert await icap.find(at_end_of_data()) == VirusReport()
        assert sum(talk.received.count(b"OPTIONS ") for talk in fake.conversations) == asked
        assert fake.connections == 3


async def test_a_server_that_failed_is_asked_what_it_offers_again() -> None:
    async with FakeICAP() as fake:
        icap = ICAP(address=fake.address, service="a")
        await icap.find(at_end_of_data())
        fake.behaviour = answer(b"ICAP/1.0 500 Server error\r\n\r\n")
        with pytest.raises(FilterError, match="answered 500 Server error"):
            await icap.find(at_end_of_data())
        fake.behaviour = answer(CLEAN)
        await icap.find(at_end_of_data())
        assert [b"OPTIONS " in talk.received for talk in fake.conversations] == [True, False, True]


@pytest.mark.parametrize(
    "offer",
    [
        OFFER.replace(b"ISTag", b"Connection: close\r\nISTag"),
        OFFER.replace(b"null-body=0", b"opt-body=0") + b"3\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["closes", "has-a-body"],
)
async def test_a_connection_that_is_no_more_use_is_not_used(offer: bytes) -> None:
    async with FakeICAP(answer(CLEAN, offer)) as fake:
        assert await ICAP(address=fake.address, service="a").find(at_end_of_data()) == VirusReport()
        assert fake.connections == 2


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (OFFER.replace(b"RESPMOD, REQMOD", b"REQMOD"), "does not offer RESPMOD"),
        (OFFER.replace(b"Methods: RESPMOD, REQMOD\r\n", b""), "does not offer RESPMOD"),
        (OFFER.replace(b"Allow: 204\r\n", b""), "does not offer 204"),
        (OFFER.replace(b"Allow: 204", b"Allow: 206"), "does not offer 204"),
        (b"ICAP/1.0 404 Service not found\r\n\r\n", "answered 404 Service not found to OPTIONS"),
        (OFFER + CLEAN, "said more than an answer to OPTIONS"),
        (OFFER.replace(b"ICAP/1.0 200", b"HTTP/1.1 200"), "answered 'HTTP/1.1 200 OK"),
    ],
)
async def test_an_offer_that_is_no_use_is_an_error(offer: bytes, why: str) -> None:
    async with FakeICAP(answer(CLEAN, offer)) as fake:
        icap = ICAP(address=fake.address, service="a")
        for asked in (icap.find(at_end_of_data()), icap.probe()):
            with pytest.raises(FilterError, match=f"^{fake.address}: {why}"):
                await asked


# What is clean


@pytest.mark.parametrize(
    "reply",
    [
        b"ICAP/1.0 204 No Content\r\n\r\n",
        b"ICAP/1.0 204\r\n\r\n",
        b"ICAP/1.0 204 Unmodified\r\nEncapsulated: null-body=0\r\nX-Infection-Found: -\r\n\r\n",
        b"ICAP/1.0 204 OK\r\nX-Violations-Found: 0\r\nX-Virus-ID: no threats\r\nX-Blocked: No\r\n\r\n",
    ],
)
async def test_a_204_to_the_whole_message_is_clean(reply: bytes) -> None:
    assert await scan(answer(reply)) == VirusReport()


async def test_a_204_to_the_preview_is_no_scan() -> None:
    with pytest.raises(TooLarge, match="would not look at the message"):
        await scan(answer_preview(CLEAN))


async def test_a_204_before_the_end_is_no_scan() -> None:
    async with FakeICAP() as fake:
        icap = ICAP(address=fake.address, service="a")
        await icap.find(at_end_of_data())
        fake.behaviour = say_early(CONTINUE + CLEAN, after=100)
        with pytest.raises(FilterError):
            await icap.find(at_end_of_data(LARGE))


ECHO = b"HTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        CLEAN + b"x",
        CLEAN + CLEAN,
        CONTINUE,
        b"ICAP/1.0 204 Unmodified\r\nX\r\n\r\n",
        b"ICAP/1.0 204 Unmodified\r\n Folded: x\r\n\r\n",
        b"ICAP/1.0 204 Unmodified\r\nX: \0\r\n\r\n",
        b"ICAP/1.0 204 Unmodified\n\n\r\n\r\n",
        b"ICAP/1.1 204 Unmodified\r\n\r\n",
        b"HTTP/1.1 204 Unmodified\r\n\r\n",
        b"ICAP/1.0 2040 Unmodified\r\n\r\n",
        b"ICAP/1.0 904 Unmodified\r\n\r\n",
        b" ICAP/1.0 204 Unmodified\r\n\r\n",
        b"ICAP/1.0 204 Unmodified\r\n",
        b"ICAP/1.0 200 OK\r\n\r\n",
        b"ICAP/1.0 206 Partial Content\r\n\r\n",
        b"ICAP/1.0 301 Moved\r\n\r\n",
        b"ICAP/1.0 403 Forbidden\r\n\r\n",
        b"ICAP/1.0 500 Server error\r\n\r\n",
        b"ICAP/1.0 539 Aborted - No AV scanning license\r\n\r\n",
        infected(http=ECHO),
        infected("X-Infection-Found: ", http=ECHO),
        infected(http=b"HTTP/1.1 200 Forbidden\r\n\r\n"),
        infected(http=b"HTTP/1.1 500 Scan error\r\n\r\n"),
        infected(http=b"HTTP/1.1 4030 Forbidden\r\n\r\n"),
        infected(http=b"junk\r\n\r\n"),
        infected(http=b""),
        infected().replace(b"res-hdr=0, res-body", b"req-hdr=0, req-body"),
    ],
)
async def test_any_other_answer_is_an_error(reply: bytes) -> None:
    for behaviour in (answer(reply), answer_preview(reply)):
        with pytest.raises(FilterError) as caught:
            await scan(behaviour)
        assert not isinstance(caught.value, TooLarge)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


@given(
    reply=st.binary(max_size=200), head=st.sampled_from([b"", b"ICAP/1.0 204 OK\r\n", b"ICAP/1.0 200 OK\r\n"])
)
async def test_no_answer_whatever_causes_another_error(reply: bytes, head: bytes) -> None:
    with contextlib.suppress(FilterError):
        report = await scan(answer(head + reply))
        assert head + reply == b"ICAP/1.0 204 OK\r\n\r\n" or report != VirusReport()


# What is infected


async def test_a_virus_is_found_wherever_it_stands() -> None:
    async with FakeICAP() as fake:
        icap = ICAP(address=fake.address, service="a")
        for padding in (0, 3, 4, 131_060, 262_100):
            assert await icap.find(at_end_of_data(bytes(padding) + EICAR)) == VirusReport(EICAR_SIGNATURE)


@pytest.mark.parametrize(
    ("reply", "signature"),
    [
        (FOUND, "Foo"),
        (
            infected("X-Infection-Found: Type=2; Resolution=2; Threat=Container size violation"),
            "Container size violation",
        ),
        (infected("x-infection-found:type=0;threat=Foo Bar ;"), "Foo Bar"),
        (infected("X-Infection-Found: something"), "something"),
        (infected("X-Infection-Found: Type=0; Threat=;"), "Type=0; Threat=;"),
        (infected("X-Violations-Found: 1", "\t-", "\tFoo", "\t0", "\t0"), "Foo"),
        (infected("X-Violations-Found: 1"), "unnamed"),
        (infected("X-Virus-ID: Troj/Foo-A"), "Troj/Foo-A"),
        (infected("X-Virus-ID: Foo", "X-Infection-Found: Type=0; Resolution=2; Threat=Bar;"), "Bar"),
        (infected("X-Blocked: true"), "true"),
        (infected("X-Blocked-Reason: Infected", "X-Blocked: 1"), "Infected"),
        (infected("X-Virus-ID: Foo", http=ECHO), "Foo"),
        (infected("X-Virus-ID: Foo", status="201 Created"), "Foo"),
        (infected("X-Virus-ID: Foo", status="403 Forbidden"), "Foo"),
        (infected("X-Virus-ID: Foo", status="204 Unmodified"), "Foo"),
        (infected("X-Virus-ID: a\xffb"), "a?b"),
        (infected("X-Virus-ID: " + "x" * 3000), "x" * 200),
        (infected(), "Blocked: 403 Forbidden"),
        (infected(http=b"HTTP/1.1 403 VirusFound\r\n\r\n"), "Blocked: 403 VirusFound"),
        (infected(status="201 Created", http=PAGE), "Blocked: 403 Forbidden"),
    ],
)
async def test_a_find_is_reported_by_a_printable_name(reply: bytes, signature: str) -> None:
    assert await scan(answer(reply)) == VirusReport(signature)
    assert await scan(answer_preview(reply)) == VirusReport(signature)
    assert await scan(answer(reply), method="REQMOD") == VirusReport(signature)


async def test_a_virus_found_early_is_one() -> None:
    async with FakeICAP() as fake:
        icap = ICAP(address=fake.address, service="a")
        await icap.find(at_end_of_data())
        fake.behaviour = say_early(CONTINUE + FOUND, after=100)
        for _ in range(20):
            assert await icap.find(at_end_of_data(LARGE)) == VirusReport("Foo")


# Bounds


@pytest.mark.parametrize(
    "reply",
    [b"ICAP/1.0 204 " + b"x" * 10_000_000, b"ICAP/1.0 204 OK\r\n" + b"X: y\r\n" * 2_000_000],
    ids=["line", "fields"],
)
async def test_an_endless_answer_is_an_error(reply: bytes) -> None:
    with pytest.raises(FilterError, match="more than 16384 octets"):
        await scan(answer(reply))


async def test_more_than_max_size_is_not_sent() -> None:
    async with FakeICAP() as fake:
        icap = ICAP(address=fake.address, service="a", max_size=10)
        assert await icap.find(at_end_of_data(b"1234567", b"abc")) == VirusReport()
        with pytest.raises(TooLarge, match="11 octets are more than max_size = 10"):
            await icap.find(at_end_of_data(b"12345678", b"abc"))
        assert fake.connections == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (b"", 'a scanner, ISTag "1"'),
        (b"Max-Connections: 20\r\n", 'a scanner, ISTag "1", at most 20 connections'),
    ],
)
async def test_a_server_tells_what_it_is(fields: bytes, text: str) -> None:
    async with FakeICAP(answer(CLEAN, OFFER.replace(b"Allow", fields + b"Allow"))) as fake:
        assert await ICAP(address=fake.address, service="a").probe() == f"{fake.address}: {text}"


@pytest.mark.parametrize("service", ["", "/a", "a b", "a\r\nX: y", "a#b", "\xe4", "x" * 256])
def test_a_service_that_could_be_more_than_a_path_is_refused(service: str) -> None:
    with pytest.raises(ValueError, match="is not a service"):
        ICAP(address="127.0.0.1:1344", service=service)


@pytest.mark.parametrize("max_size", [0, -1])
def test_a_limit_that_lets_nothing_through_is_refused(max_size: int) -> None:
    with pytest.raises(ValueError, match="max_size"):
        ICAP(address="127.0.0.1:1344", service="a", max_size=max_size)
