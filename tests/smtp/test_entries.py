"""Sets of mailboxes, domains and networks, in which nothing is looked for one by one."""

from ipaddress import ip_address

import pytest

from gateway.smtp.address import NULL_PATH, Path, parse_address
from gateway.smtp.entries import Entries, EntryError, FileSet, matches

MAILBOXES = [
    "Sales@example.com",
    "@shop.example.com",
    "@.example.org",
    "@.deep.example.org",
    '"a b"@example.com',
    "jürgen@bücher.example",
    "@straße.example",
    "@xn--caf-dma.example",
]
DOMAINS = ["example.com", ".example.org", ".a.example.org", "bücher.example", "[192.0.2.1]"]
CLIENTS = ["192.0.2.1", "198.51.100.0/24", "198.51.100.128/25", "2001:DB8::/32", "10", "1.2.3", "a:b"]


@pytest.fixture(params=[lambda texts: FileSet.of(*texts), frozenset], ids=["file", "frozenset"])
def made(request: pytest.FixtureRequest):
    return request.param


@pytest.mark.parametrize(
    ("mailbox", "entry"),
    [
        ("sales@example.com", "sales@example.com"),
        ("SALES@EXAMPLE.com", "sales@example.com"),
        ("support@example.com", None),
        ("sales@sub.example.com", None),
        ("anybody@shop.example.com", "@shop.example.com"),
        ("anybody@eshop.example.com", None),
        ("anybody@a.example.org", "@.example.org"),
        ("anybody@a.b.example.org", "@.example.org"),
        ("anybody@x.deep.example.org", "@.deep.example.org"),
        ("anybody@deep.example.org", "@.example.org"),
        ("anybody@example.org", None),
        ('"A b"@example.com', '"a b"@example.com'),
        ("sales@[192.0.2.1]", None),
        ("Jürgen@bücher.example", "jürgen@bücher.example"),
        ("JÜRGEN@xn--bcher-kva.example", "jürgen@bücher.example"),
        ("jurgen@bücher.example", None),
        ("a@straße.example", None),  # has no spelling in ASCII that means the same
        ("a@strasse.example", None),
        ("a@café.example", "@xn--caf-dma.example"),
        ("a@ﬁ.example", None),
    ],
)
def test_the_entry_for_a_mailbox(mailbox: str, entry: str | None, made):
    local_part, _, domain = mailbox.rpartition("@")
    assert matches(Path(local_part, domain), made(MAILBOXES)) == entry


def test_neither_the_null_path_nor_postmaster_without_a_domain_is_in_a_set(made):
    entries = made([*MAILBOXES, "@", "postmaster", "postmaster@", ""])
    assert matches(NULL_PATH, entries) is None
    assert matches(Path("postmaster", ""), entries) is None


@pytest.mark.parametrize(
    ("domain", "entry"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.COM", "example.com"),
        ("a.example.com", None),
        ("example.org", None),
        ("b.example.org", ".example.org"),
        ("x.a.example.org", ".a.example.org"),
        ("a.example.org", ".example.org"),
        ("xn--bcher-kva.example", "bücher.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[192.0.2.2]", None),
        ("", None),
        (".", None),
        ("." * 255, None),
        ("ﬁ.example", None),
    ],
)
def test_the_entry_for_a_domain(domain: str, entry: str | None, made):
    assert matches(domain, made(DOMAINS)) == entry


@pytest.mark.parametrize(
    ("address", "entry"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.2", None),
        ("198.51.100.1", "198.51.100.0/24"),
        ("198.51.100.129", "198.51.100.128/25"),
        ("2001:db8::7", "2001:db8::/32"),
        ("10.0.0.0", None),
    ],
)
def test_the_entry_for_a_client(address: str, entry: str | None, made):
    assert matches(ip_address(address), made(CLIENTS)) == entry


@pytest.mark.parametrize("entry", ["192.0.2.1/24", "192.0.2.0/33", "::1/64", "1.2.3/8", "::ffff:0:0/96"])
def test_what_is_nearly_a_network_is_refused(entry: str):
    with pytest.raises(EntryError) as refused:
        Entries(["a", entry, "b"])
    assert refused.value.entry == entry
    assert f'"{entry}"' in str(refused.value)


def test_a_file_set_is_a_set_of_strings():
    blocked = FileSet.of("B@example.com", "a", "198.51.100.0/24", "a")
    assert len(blocked) == 3
    assert set(blocked) == {"a", "b@example.com", "198.51.100.0/24"}
    assert "A" in blocked
    assert "b@EXAMPLE.com" in blocked
    assert "c" not in blocked
    assert ip_address("198.51.100.7") in blocked
    assert ip_address("198.51.101.7") not in blocked
    assert 3 not in blocked
    assert blocked & {"a", "c"} == frozenset({"a"})
    assert blocked == {"a", "b@example.com", "198.51.100.0/24"}
    assert repr(FileSet.of("b", "A")) == "FileSet.of('a', 'b')"
    assert repr(FileSet.of(*"abcd")) == "FileSet.of('a', 'b', 'c', ...)"


def test_all_of_it_is_replaced_at_once():
    blocked = FileSet.of("a", "192.0.2.1", "@bücher.example")
    before = blocked.entries
    blocked.replace(Entries(["b", "192.0.2.2"]))
    assert ("a" in blocked, "b" in blocked) == (False, True)
    assert (ip_address("192.0.2.1") in blocked, ip_address("192.0.2.2") in blocked) == (False, True)
    assert matches(parse_address("a@xn--bcher-kva.example"), blocked) is None
    assert before.texts == {"a", "192.0.2.1", "@bücher.example"}


def test_many_entries_take_no_more_time_than_few():
    """A hundred thousand questions to 100,000 entries; one after the other, they would take hours."""
    for entries in (FileSet.of(*_many()), frozenset(_many())):
        path, client = Path("anybody", "a.b.n77777.example"), ip_address("203.0.113.1")
        for _ in range(50_000):
            assert matches(path, entries) == "@.n77777.example"
            assert matches(client, entries) is None


def _many() -> list[str]:
    return [f"@.n{number}.example" for number in range(99_000)] + [f"10.0.{n}.0/24" for n in range(256)]
