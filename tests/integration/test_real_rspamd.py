"""The Rspamd filter against Rspamd."""

import asyncio
import gc
from ipaddress import ip_address

import pytest

from deploy.demo import rspamd as daemons
from filters.base import FilterError
from filters.evidence import RspamdReport
from filters.rspamd import Rspamd
from filters.testing import at_end_of_data
from gateway.smtp.address import NULL_PATH, Path
from gateway.smtp.envelope import Envelope
from gateway.smtp.session import TLS, Session
from gateway.smtp.transaction import Stage, Transaction
from tests.fakes.spamd import GTUBE
from tests.integration.test_real_scanners import HEADER, PLAIN, TRACE

MEBIBYTE = 1_048_576
SPAM = PLAIN + GTUBE + b"\r\n"


@pytest.fixture(autouse=True)
def leaks_are_noticed():
    yield
    gc.collect()


@pytest.fixture(params=["tcp", "unix"])
def filter_(request: pytest.FixtureRequest, rspamd: daemons.Rspamd) -> Rspamd:
    return Rspamd(address=rspamd.address if request.param == "tcp" else rspamd.unix_address)


def sent(
    content: bytes,
    sender: Path = NULL_PATH,
    recipients: tuple[Path, ...] = (),
    session: Session | None = None,
) -> Transaction:
    tx = at_end_of_data(content, TRACE)
    return Transaction(
        Stage.END_OF_DATA, session or tx.session, Envelope(sender, recipients), tx.message, tx.trace
    )


async def test_rspamd_knows_spam(filter_: Rspamd) -> None:
    report = await filter_.find(sent(SPAM, Path("a", "example.net"), (Path("b", "example.org"),)))
    assert report.action == "reject"
    assert report.threshold == 15.0
    assert report.rules[0] == "GTUBE"


async def test_rspamd_lets_ham_pass(filter_: Rspamd) -> None:
    report = await filter_.find(sent(PLAIN, Path("a", "example.net"), (Path("b", "example.org"),)))
    assert report.action == "no action"
    assert report.score < report.threshold
    assert {"FROM_EQ_ENVFROM", "TO_MATCH_ENVRCPT_ALL"} <= set(report.rules)


@pytest.mark.parametrize(
    "content",
    [b"", b"\r\n", b"no header", HEADER, bytes(range(256)), HEADER + b"\r\n" + bytes(range(128, 256)) * 100],
    ids=["empty", "blank", "text", "header", "octets", "8-bit"],
)
async def test_rspamd_has_an_opinion_about_anything(filter_: Rspamd, content: bytes) -> None:
    assert isinstance(await filter_.find(sent(content)), RspamdReport)
    assert isinstance(await filter_.find(at_end_of_data(content)), RspamdReport)


async def test_rspamd_takes_addresses_beyond_ascii(filter_: Rspamd) -> None:
    header = HEADER.replace(b"a@example.net", "jürgen@bücher.example".encode(), 1).replace(
        b"b@example.org", "用户@例子.example".encode()
    )
    content = header + b"\r\nHello\r\n"
    sender, recipient = Path("jürgen", "bücher.example"), Path("用户", "例子.example")
    report = await filter_.find(sent(content, sender, (recipient,)))
    assert "RCPT_COUNT_ONE" in report.rules
    assert isinstance(await filter_.find(sent(content, Path('"a>\\" b"', "example.net"))), RspamdReport)


async def test_rspamd_is_told_the_envelope(filter_: Rspamd) -> None:
    sender, recipient, other = Path("a", "example.net"), Path("b", "example.org"), Path("c", "example.org")
    same = (await filter_.find(sent(PLAIN, sender, (recipient,)))).rules
    assert {"FROM_EQ_ENVFROM", "TO_MATCH_ENVRCPT_ALL"} <= set(same)
    forged = (await filter_.find(sent(PLAIN, other, (other,)))).rules
    assert "FROM_NEQ_ENVFROM" in forged
    assert "TO_MATCH_ENVRCPT_ALL" not in forged


async def test_rspamd_is_told_the_client(filter_: Rspamd) -> None:
    known = Session(
        ip_address("2001:db8::1"),
        4321,
        "127.0.0.1:25",
        client_name="mail.example.net",
        helo_name="mail.example.net",
        tls=TLS("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        authenticated="anna",
    )
    assert "RDNS_NONE" in (await filter_.find(sent(PLAIN))).rules
    assert "RDNS_NONE" not in (await filter_.find(sent(PLAIN, session=known))).rules


async def test_rspamd_is_sent_all_of_a_large_message(filter_: Rspamd) -> None:
    large = HEADER + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n"
    large += (b"word " * 150 + b"\r\n") * (10 * MEBIBYTE // 752)
    last = b'--x\r\nContent-Disposition: attachment; filename="a.exe"\r\n\r\nMZ\r\n--x--\r\n'
    assert "MIME_BAD_EXTENSION" not in (await filter_.find(sent(large))).rules
    assert "MIME_BAD_EXTENSION" in (await filter_.find(sent(large + last))).rules


async def test_more_than_rspamds_own_limit_is_an_error(rspamd: daemons.Rspamd) -> None:
    filter_ = Rspamd(address=rspamd.address, max_size=1_000 * MEBIBYTE)
    with pytest.raises(FilterError, match=r"closed|answered"):
        await filter_.find(sent(bytes(60 * MEBIBYTE)))


async def test_many_scans_at_once_are_kept_apart(filter_: Rspamd) -> None:
    reports = await asyncio.gather(*(filter_.find(sent(content)) for content in [PLAIN, SPAM] * 10))
    assert [report.action for report in reports] == ["no action", "reject"] * 10


async def test_rspamd_tells_its_version(filter_: Rspamd) -> None:
    assert ": pong from rspamd/" in await filter_.probe()
