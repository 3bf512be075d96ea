"""Which answers of spamd mean what."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.base import FilterError, TooLarge
from filters.evidence import SpamReport
from filters.spamassassin import SpamAssassin
from filters.testing.server import say_early
from filters.testing.transactions import at_end_of_data
from tests.fakes.spamd import GTUBE, FakeSpamd, answer, symbols, verdict

OK = b"SPAMD/1.1 0 EX_OK\r\n"


async def judge(reply: bytes) -> SpamReport:
    async with FakeSpamd(answer(reply)) as fake:
        return await SpamAssassin(address=fake.address).find(at_end_of_data())


async def test_spam_is_told_from_ham() -> None:
    async with FakeSpamd() as fake:
        spamassassin = SpamAssassin(address=fake.address)
        assert await spamassassin.find(at_end_of_data(b"Subject: x\r\n\r\n" + GTUBE)) == SpamReport(
            1000.0, 5.0, ("GTUBE", "NO_RECEIVED")
        )
        assert await spamassassin.find(at_end_of_data()) == SpamReport(0.0, 5.0, ("NO_RECEIVED",))


async def test_the_request_is_one_spamd_understands() -> None:
    async with FakeSpamd() as fake:
        await SpamAssassin(address=fake.address, user="jo.doe@example.org").find(at_end_of_data(b"x\r\n"))
    assert fake.last.received.startswith(b"SYMBOLS SPAMC/1.5\r\n")
    assert fake.last.fields == {"User": "jo.doe@example.org", "Content-length": "3"}
    assert fake.last.received.endswith(b"\r\n\r\nx\r\n")


async def test_no_user_is_named_unless_configured() -> None:
    async with FakeSpamd() as fake:
        await SpamAssassin(address=fake.address).find(at_end_of_data())
    assert fake.last.fields.keys() == {"Content-length"}


@pytest.mark.parametrize(
    ("reply", "report"),
    [
        (symbols(7.5, ["A", "B_2"]), SpamReport(7.5, 5.0, ("A", "B_2"))),
        (symbols(0.0), SpamReport(0.0, 5.0)),
        (OK + b"Spam: False ; 2 / 5\r\n\r\n", SpamReport(2.0, 5.0)),
        (OK + b"spam:False;-1.0/5.0\r\n\r\n", SpamReport(-1.0, 5.0)),
        (OK + b"SPAM : Yes ; 5.0 / 5.0\r\n\r\n", SpamReport(5.0, 5.0)),
        (OK + b"Spam: False ; 15 / 5\r\n\r\n", SpamReport(15.0, 5.0)),
        (OK + b"Spam: True ; 15 / 0\r\n\r\n", SpamReport(15.0, 0.0)),
        (OK + b"content-length: 1\r\nspam: True ; 1 / 5\r\n\r\nA", SpamReport(1.0, 5.0, ("A",))),
        (OK + b"Content-length: 2\r\nSpam: True ; 15.0 / 5.0\r\n\r\n\r\n", SpamReport(15.0, 5.0)),
        (b"SPAMD/1.0 0 EX_OK\r\nSpam: True ; 15.0 / 5.0\r\n\r\n", SpamReport(15.0, 5.0)),
        (b"SPAMD/1.5 0 EX_OK\r\nX-New: \xff\r\nSpam: True ; 6 / 5\r\n\r\n", SpamReport(6.0, 5.0)),
    ],
)
async def test_score_threshold_and_rules_are_read(reply: bytes, report: SpamReport) -> None:
    assert await judge(reply) == report


async def test_only_names_of_rules_are_rules() -> None:
    names = ["GOOD", "also_Good2", "bad-one", "<b>", "\x1b[2J", "\xe9", "X" * 101, "LAST\r\n"]
    assert (await judge(symbols(1.0, names))).rules == ("GOOD", "also_Good2", "LAST")
    assert len((await judge(symbols(1.0, [f"R{number}" for number in range(3000)]))).rules) == 100


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"\r\n",
        OK + b"Content-length: 1\r\n\r\nA",
        OK + b"Spam: True\r\n\r\n",
        OK + b"Spam: \r\n\r\n",
        OK + b"Spam: maybe ; 1 / 5\r\n\r\n",
        OK + b"Spam: True ; x / 5\r\n\r\n",
        OK + b"Spam: True ; 1,5 / 5\r\n\r\n",
        OK + b"Spam: True ; nan / 5\r\n\r\n",
        OK + b"Spam: True ; 1 / nan\r\n\r\n",
        OK + b"Spam: False ; -inf / 5\r\n\r\n",
        OK + b"Spam: False ; 1e999 / 5\r\n\r\n",
        OK + b"Spam: False ; 1 / 5 / 9\r\n\r\n",
        OK + b"Spam: False ; \xff / 5\r\n\r\n",
        OK + b"Sp\xe4m: False ; 1 / 5\r\n\r\n",
        OK + b"Content-length: 5\r\nSpam: True ; 1 / 5\r\n\r\nA",
        OK + b"Content-length: 1\r\nSpam: True ; 1 / 5\r\n\r\nAB",
        OK + b"Content-length: -1\r\nSpam: True ; 1 / 5\r\n\r\n",
        OK + b"Content-length: x\r\nSpam: True ; 1 / 5\r\n\r\n",
        OK + b"Spam: True ; 1 / 5\r\n",
        b"SPAMD/1.1 0\r\nSpam: True ; 1 / 5\r\n\r\n",
        b"SPAMC/1.1 0 EX_OK\r\nSpam: True ; 1 / 5\r\n\r\n",
        b"SPAMD/1.1 zero EX_OK\r\nSpam: True ; 1 / 5\r\n\r\n",
        b"SPAMD/1.0 76 Bad header line: (EOF during headers)\r\n",
        b"SPAMD/1.1 75 EX_TEMPFAIL\r\nSpam: False ; 1 / 5\r\n\r\n",
        b"SPAMD/1.1 79 EX_TIMEOUT\r\n\r\n",
        b"SPAMD/1.1 1 EX_OK\r\nSpam: False ; 1 / 5\r\n\r\n",
        b"SPAMD/1.1 0 PONG\r\n",
        b"\r\n\r\n",
    ],
)
async def test_any_other_answer_is_an_error(reply: bytes) -> None:
    with pytest.raises(FilterError) as caught:
        await judge(reply)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "reply",
    [OK + b"X: y\r\n" * 2_000_000, OK + b"Content-length: 9000000\r\n\r\n" + b"A," * 4_500_000],
    ids=["fields", "rules"],
)
async def test_an_endless_answer_is_an_error(reply: bytes) -> None:
    with pytest.raises(FilterError, match="more than 65536 octets"):
        await judge(reply)


async def test_a_verdict_given_early_is_taken() -> None:
    large = bytes(500_000)
    async with FakeSpamd(say_early(symbols(15.0, ["EARLY"]), after=1000)) as fake:
        spamassassin = SpamAssassin(address=fake.address)
        for _ in range(20):
            assert await spamassassin.find(at_end_of_data(large)) == SpamReport(15.0, 5.0, ("EARLY",))


@given(reply=st.binary(max_size=200), status=st.sampled_from([b"", OK, OK + b"Spam: True ; 1 / 5\r\n"]))
async def test_no_answer_whatever_causes_another_error(reply: bytes, status: bytes) -> None:
    async with FakeSpamd(answer(status + reply)) as fake:
        with contextlib.suppress(FilterError):
            report = await SpamAssassin(address=fake.address).find(at_end_of_data())
            assert report.score == 1.0


async def test_more_than_max_size_is_not_sent() -> None:
    async with FakeSpamd(verdict(1.0)) as fake:
        spamassassin = SpamAssassin(address=fake.address, max_size=10)
        assert await spamassassin.find(at_end_of_data(b"1234567", b"abc")) == SpamReport(1.0)
        with pytest.raises(TooLarge, match="11 octets are more than max_size = 10"):
            await spamassassin.find(at_end_of_data(b"12345678", b"abc"))
        assert fake.connections == 1


async def test_a_ping_is_answered() -> None:
    async with FakeSpamd() as fake:
        assert await SpamAssassin(address=fake.address).probe() == f"{fake.address}: PONG"


async def test_a_wrong_answer_to_ping_is_an_error() -> None:
    async with FakeSpamd(answer(b"SPAMD/1.5 0 GNOP\r\n")) as fake:
        with pytest.raises(FilterError, match="answered 'GNOP' to PING"):
            await SpamAssassin(address=fake.address).probe()


async def test_nothing_is_printed_about_failures(capfd) -> None:
    with pytest.raises(FilterError):
        await judge(b"junk\r\n")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("user", ["", "a b", "a\r\nTell: x", "\xe9", "x" * 256, "../root"])
def test_a_user_that_could_be_more_than_a_name_is_refused(user: str) -> None:
    with pytest.raises(ValueError, match="is not a user name"):
        SpamAssassin(address="127.0.0.1:783", user=user)


@pytest.mark.parametrize("max_size", [0, -1])
def test_a_limit_that_lets_nothing_through_is_refused(max_size: int) -> None:
    with pytest.raises(ValueError, match="max_size"):
        SpamAssassin(address="127.0.0.1:783", max_size=max_size)
