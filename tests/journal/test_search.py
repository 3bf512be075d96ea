"""Searching: every record once, wherever it is by now; every criterion; any text."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.journal import search as search_module
from gateway.journal.index import JournalError
from gateway.journal.keeper import Keeper
from gateway.journal.layout import Layout
from gateway.journal.record import ClientRecord, DownstreamRecord, Record, ReplyRecord, decode
from gateway.journal.search import Query, find, follow, search, search_lines
from gateway.journal.writer import JournalWriter
from tests.journal.records import make_record, put, spooled, subjects


@pytest.fixture
def keeper(layout: Layout) -> Iterator[Keeper]:
    with closing(Keeper(layout.spool, layout.index, 86_400)) as keeper:
        yield keeper


def found(layout: Layout, **demands: object) -> list[str | None]:
    return subjects(search(layout.index, layout.spool, Query(**demands)))  # type: ignore[arg-type]


def spool_and_index(layout: Layout, records: list[Record], indexed: int) -> None:
    """The first so many records in the index, the others in the spool only."""
    put(layout.spool, "old", *records[:indexed])
    with closing(Keeper(layout.spool, layout.index, 86_400)) as keeper:
        keeper.poll()
    put(layout.spool, "new", *records[indexed:])


def test_nothing_is_found_where_nothing_is(tmp_path: Path):
    assert search(tmp_path / "no.sqlite", tmp_path / "no-spool", Query()) == []


@pytest.mark.parametrize("indexed", [0, 1, 3, 5])
def test_records_of_index_and_spool_come_together_newest_last(layout: Layout, indexed: int):
    records = [make_record(str(number), age=100 - number) for number in range(5)]
    mixed = [records[number] for number in (3, 0, 4, 1, 2)]
    spool_and_index(layout, mixed, indexed)
    assert search(layout.index, layout.spool, Query()) == records
    assert found(layout, limit=2) == ["3", "4"]
    assert found(layout, limit=None) == ["0", "1", "2", "3", "4"]


def test_the_lines_are_those_that_were_recorded(layout: Layout, keeper: Keeper):
    line = b'{"version": 1, "new field": "\xc3\xa9",' + JSON_REST
    (layout.spool / "a.jsonl").write_bytes(line + b"\n")
    assert list(search_lines(layout.index, layout.spool, Query())) == [line]
    keeper.poll()
    assert list(search_lines(layout.index, layout.spool, Query())) == [line]


JSON_REST = (
    b'"reference":"AAAA-BBBB","time":"2999-01-01T00:00:00.000000Z","node":"n","listener":"l","verdict":"rejected",'
    b'"stage":"rcpt","spoken":"rcpt","reason":"r","client":{"address":"192.0.2.1","port":1}}'
)

NOISE = make_record(
    "noise",
    age=7200,
    verdict="accepted",
    stage="relay",
    spoken="relay",
    reason="accepted",
    policy=None,
    detail="",
    reply=ReplyRecord(250, "2.0.0", "Ok"),
    client=ClientRecord("198.51.100.1", 1, "mail.elsewhere.example", "helo.elsewhere.example"),
    reverse_path="other@elsewhere.example",
    recipients=["c@example.net", "d@example.net"],
    opinions={"blocklist": {"verdict": None, "mode": "enforce"}, "silent": {"verdict": None, "mode": "warn"}},
)
WANTED = make_record(
    "Wanted: a Réplica",
    age=60,
    reference="7K3F-Q2MD",
    verdict="rejected",
    stage="connect",
    spoken="rcpt",
    reason="dns-blocklisted",
    policy="blocklist",
    detail="weight 4: zen.example=127.0.0.2",
    reply=ReplyRecord(550, "5.7.1", "Refused: your address is on a block list (ref 7K3F-Q2MD)"),
    client=ClientRecord("192.0.2.77", 1, "Mail.Sender.example", "[192.0.2.77]"),
    reverse_path="Some.One@Sender.example",
    recipients=["B@Example.com", "a@example.com"],
    downstream=DownstreamRecord("127.0.0.1:10025", "550 mailbox unheard of"),
    opinions={
        "blocklist": {"verdict": "reject", "mode": "enforce", "reason": "dns-blocklisted"},
        "greetings": {
            "verdict": "would-tempfail",
            "mode": "warn",
            "reason": "dear-friend",
            "detail": "Traceback (most recent call last):\n"
            '  File "hidden.py", line 1, in x\nOddError: oddity\n',
        },
        "Failing": {"verdict": None, "mode": "enforce", "reason": "policy-error", "detail": "it failed"},
        "silent": {"verdict": None, "mode": "enforce"},
    },
)
IPV6 = make_record("six", age=30, client=ClientRecord("2001:db8::7", 1), reverse_path="<>", recipients=[])
CRITERIA: dict[str, list[object]] = {
    "verdict": ["rejected"],
    "reason": ["dns-blocklisted", "DNS-Blocklisted"],
    "client": [
        *("192.0.2.77", "::ffff:192.0.2.77", "192.0.2.0/24", "192.0.2.77/32", "192.0.2.1/24"),
        *("mail.sender.example", "SENDER.example", "[192.0.2.77]"),
    ],
    "sender": ["some.one@sender.example", "<Some.One@Sender.Example>", "@sender.example", "@SENDER.EXAMPLE"],
    "recipient": ["b@example.com", "A@EXAMPLE.COM", "<b@example.com>", "@example.com"],
    "stage": ["connect", "rcpt"],
    "text": [
        *("wanted", "WANTED replica", "Réplica", "rep", "zen.example", "block list", "7K3F-Q2MD", "unheard"),
        *(
            "b@example.com",
            "some.one@sender",
            "mail.sender.example",
            '"wanted"',
            "wanted*",
            "wanted -- replica",
        ),
        *("dear-friend", "greetings", "would-tempfail dear-friend", "greetings OddError oddity", "failing"),
    ],
    "policy": ["blocklist", "greetings", "GREETINGS", "failing"],
    "reference": ["7K3F-Q2MD", "7k3fq2md", " 7K3F Q2MD ", "(7K3F-Q2MD)"],
    "since": [datetime.now(UTC) - timedelta(seconds=600)],
}


@pytest.mark.parametrize("is_indexed", [True, False])
@pytest.mark.parametrize(("name", "value"), [(name, value) for name in CRITERIA for value in CRITERIA[name]])
def test_each_criterion_finds_what_it_should(layout: Layout, name: str, value: object, is_indexed: bool):
    spool_and_index(layout, [NOISE, WANTED], 2 if is_indexed else 0)
    assert found(layout, **{name: value}) == ["Wanted: a Réplica"]


@pytest.mark.parametrize("is_indexed", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verdict", "quarantined"),
        ("reason", "dns"),
        ("client", "192.0.2.7"),
        ("client", "10.0.0.0/8"),
        ("client", "ender.example"),
        ("client", "%.example"),
        ("client", ""),
        ("sender", "one@sender.example"),
        ("sender", "@example"),
        ("sender", "%@sender.example"),
        ("recipient", "@com"),
        ("recipient", "b"),
        ("recipient", "x' OR '1'='1"),
        ("recipient", "\udcff@example.com"),
        ("stage", "mail"),
        ("text", "wanted nowhere"),
        ("text", "!!!"),
        ("text", "silent"),
        ("text", "hidden.py"),
        ("policy", "silent"),
        ("policy", "greet"),
        ("policy", "$.greetings' OR '1'='1"),
        ("reference", "7K3F"),
        ("since", datetime.now(UTC) + timedelta(days=1)),
    ],
)
def test_each_criterion_leaves_out_what_it_should(layout: Layout, name: str, value: object, is_indexed: bool):
    spool_and_index(layout, [NOISE, WANTED], 2 if is_indexed else 0)
    assert found(layout, **{name: value}) == []


@pytest.mark.parametrize("is_indexed", [True, False])
@pytest.mark.parametrize(
    "demands",
    [
        {"client": "2001:DB8::/32"},
        {"client": "2001:db8:0::7"},
        {"client": "::/0"},
        {"sender": "<>"},
        {"sender": ""},
    ],
)
def test_ipv6_and_the_null_sender_are_found(layout: Layout, demands: dict[str, str], is_indexed: bool):
    spool_and_index(layout, [NOISE, WANTED, IPV6], 3 if is_indexed else 0)
    assert found(layout, **demands) == ["six"]


def test_all_criteria_together_must_match(layout: Layout):
    spool_and_index(layout, [NOISE, WANTED], 1)
    every = {name: values[0] for name, values in CRITERIA.items()}
    assert found(layout, **every) == ["Wanted: a Réplica"]
    for name, other in (("verdict", "accepted"), ("client", "198.51.100.1"), ("recipient", "c@example.net")):
        assert found(layout, **{**every, name: other}) == []


def test_a_reference_that_repeats_leads_to_all_its_records(layout: Layout):
    twice = [make_record(name, reference="AAAA-BBBB") for name in ("first", "second")]
    spool_and_index(layout, [twice[0], NOISE, twice[1]], 1)
    assert subjects(find(layout.index, layout.spool, "aaaabbbb")) == ["first", "second"]


def test_records_of_people_who_attack_sql_are_stored_as_they_are(layout: Layout, keeper: Keeper):
    nasty = "x'); DROP TABLE records; -- \x00 %s {0} \x1b[2J"
    record = make_record(nasty, reverse_path=f'"{nasty}"@a.example', recipients=[f'"{nasty}"@b.example'])
    put(layout.spool, "a", record)
    keeper.poll()
    assert find(layout.index, layout.spool, record.reference) == [record]
    assert found(layout, sender="@a.example", recipient=f'"{nasty}"@b.example') == [nasty]


@pytest.fixture(scope="module")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("state"))
    layout.spool.mkdir(parents=True)
    spool_and_index(layout, [NOISE, WANTED], 1)
    return layout


@given(st.text())
@example('"')
@example('" OR ""')
@example("NEAR(a b) AND NOT ^x:y*")
@example("text : x")
@example("a\x00b")
@example("\udcff")
@example("- + * ( ) { }")
@example("word " * 5000)
@settings(deadline=None, max_examples=150)
def test_no_text_is_a_syntax_error(populated: Layout, text: str):
    search(populated.index, populated.spool, Query(text=text))


@given(st.lists(st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True), min_size=1, max_size=5), st.data())
@settings(deadline=None, max_examples=50)
def test_words_of_a_subject_find_it_in_any_order_and_case(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], data: st.DataObject
):
    spool = tmp_path_factory.mktemp("spool")
    put(spool, "a", make_record(" ".join(words)), NOISE)
    asked = data.draw(st.permutations(words))
    text = " ".join(word.swapcase() for word in asked)[: data.draw(st.integers(1, 70))]
    results = search(spool / "no.sqlite", spool, Query(text=text, verdict="rejected"))
    assert subjects(results) == [" ".join(words)]


def test_the_keeper_moving_records_meanwhile_neither_hides_nor_doubles_any(layout: Layout, keeper: Keeper):
    stop = threading.Event()
    keeping = threading.Thread(target=_poll_until, args=(Keeper(layout.spool, layout.index, 86_400), stop))
    keeping.start()
    written: list[str | None] = []
    try:
        with closing(JournalWriter(layout.spool, rotate_at=15_000)) as writer:
            for _ in range(60):
                for _ in range(10):
                    writer.write(make_record(str(len(written))))
                    written.append(str(len(written)))
                assert found(layout, limit=None) == written
    finally:
        stop.set()
        keeping.join()


def _poll_until(keeper: Keeper, stop: threading.Event) -> None:
    while not stop.is_set():
        keeper.poll()
    keeper.close()


def test_a_keeper_that_moves_and_deletes_between_spool_and_index_hides_nothing(
    layout: Layout, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
):
    spool_and_index(layout, [make_record("indexed"), make_record("pending")], 1)
    really_open = search_module.open_for_reading

    def open_after_keeper(path: Path) -> object:
        keeper.poll()
        assert spooled(layout.spool) == []
        return really_open(path)

    monkeypatch.setattr(search_module, "open_for_reading", open_after_keeper)
    assert found(layout) == ["indexed", "pending"]


def test_a_keeper_that_moves_and_deletes_during_a_search_doubles_nothing(layout: Layout, keeper: Keeper):
    spool_and_index(layout, [make_record("indexed"), make_record("pending")], 1)
    lines = search_lines(layout.index, layout.spool, Query())
    first = next(lines)
    keeper.poll()
    assert spooled(layout.spool) == []
    assert subjects([decode(first), *map(decode, lines)]) == ["indexed", "pending"]


def test_a_torn_line_is_no_record_yet(layout: Layout):
    put(layout.spool, "a", make_record("whole"), tail=b'{"version":1,')
    assert found(layout) == ["whole"]


def test_an_unreadable_index_is_an_error_and_no_short_answer(layout: Layout):
    put(layout.spool, "a", make_record())
    layout.index.write_bytes(b"no database at all" * 1000)
    with pytest.raises(JournalError, match="cannot be read"):
        search(layout.index, layout.spool, Query())


class Follower:
    """`follow`, stepped: before each look at the journal but the first, the next of `steps` is done."""

    def __init__(self, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
        self._layout = layout
        monkeypatch.setattr(search_module, "FOLLOW_SECONDS", 0)

    def follow(self, query: Query, *steps: Callable[[], object]) -> list[str | None]:
        remaining = list(steps)

        class Stop(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                if remaining:
                    remaining.pop(0)()
                    return False
                return True

        lines = follow(self._layout.index, self._layout.spool, query, Stop())
        return subjects([decode(line) for line in lines])


@pytest.fixture
def follower(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Follower:
    return Follower(layout, monkeypatch)


def test_follow_begins_with_the_newest_and_goes_on_with_what_matches(layout: Layout, follower: Follower):
    put(layout.spool, "a", *[make_record(str(number)) for number in range(5)])
    shown = follower.follow(
        Query(limit=2, verdict="rejected"),
        lambda: put(layout.spool, "b", make_record("5"), NOISE, make_record("6"), make_record("7")),
        lambda: put(layout.spool, "c", make_record("8")),
    )
    assert shown == ["3", "4", "5", "6", "7", "8"]


def test_follow_shows_each_record_once_whatever_the_keeper_does(
    layout: Layout, follower: Follower, keeper: Keeper
):
    with closing(JournalWriter(layout.spool)) as writer:

        def write(name: str) -> Callable[[], None]:
            return lambda: writer.write(make_record(name))

        def write_and_index(name: str) -> Callable[[], None]:
            def step() -> None:
                writer.write(make_record(name))
                keeper.poll()

            return step

        def index_short_lived_worker() -> None:
            put(layout.spool, "short", make_record("short"))
            keeper.poll()

        shown = follower.follow(
            Query(),
            *(write("1"), keeper.poll, write("2"), write_and_index("3"), keeper.poll, write("4")),
            *(writer.close, keeper.poll, index_short_lived_worker, write_and_index("5"), keeper.poll),
        )
    assert shown == ["1", "2", "3", "4", "short", "5"]


def test_follow_survives_an_index_begun_anew(layout: Layout, follower: Follower, keeper: Keeper):
    put(layout.spool, "a", make_record("1"), make_record("2"))
    keeper.poll()

    def replace_index() -> None:
        keeper.close()
        layout.index.unlink()
        put(layout.spool, "b", make_record("3"))
        keeper.poll()

    assert follower.follow(Query(), replace_index) == ["1", "2", "3"]
