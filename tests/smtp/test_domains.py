"""Which entry of a list of domains covers a recipient's domain: the anti-open-relay rule."""

import pytest

from gateway.smtp.domains import check_domains, match_domain

OURS = ["example.com", ".example.org", "[192.0.2.1]"]


@pytest.mark.parametrize(
    ("domain", "entry"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("sub.example.org", ".example.org"),
        ("a.b.EXAMPLE.org", ".example.org"),
        ("[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_a_listed_domain_is_covered(domain: str, entry: str) -> None:
    assert match_domain(OURS, domain) == entry


@pytest.mark.parametrize(
    "domain",
    [
        "example.org",
        ".example.org",
        "sub.example.com",
        "xexample.com",
        "x-example.com",
        "xexample.org",
        "example.com.victim.example",
        "sub.example.org.victim.example",
        "example.com.",
        "example",
        "com",
        ".",
        "*",
        "[127.0.0.1]",
        "[192.0.2.10]",
        "192.0.2.1",
        "[example.com]",
    ],
)
def test_anything_else_is_not_covered(domain: str) -> None:
    assert match_domain(OURS, domain) is None


@pytest.mark.parametrize(
    "entry", ["bücher.example", "BÜCHER.Example", "xn--bcher-kva.example", "XN--BCHER-KVA.example"]
)
@pytest.mark.parametrize(
    "domain", ["bücher.example", "Bücher.EXAMPLE", "xn--bcher-kva.example", "Xn--Bcher-Kva.example"]
)
def test_a_domain_is_the_same_in_utf_8_and_in_ascii(entry: str, domain: str) -> None:
    assert match_domain([entry], domain) == entry
    assert match_domain([f".{entry}"], f"ü.{domain}") == f".{entry}"
    assert match_domain([f".{entry}"], domain) is None


@pytest.mark.parametrize(
    "domain",
    [
        "ｅxample.com",
        "example．com",
        "example。com",
        "e\u200dxample.com",
        "\u212ai.example",
        "ex\u00adample.com",
        "bu\u0308cher.example",
        "bücher。example",
        "buecher.example",
        "bucher.example",
        "xn--bcher-kvb.example",
    ],
)
def test_no_domain_looks_like_another(domain: str) -> None:
    assert match_domain(["example.com", "ki.example", "bücher.example"], domain) is None


def test_what_is_no_domain_is_not_any_domain() -> None:
    assert match_domain(["*"], "bücher.example") == "*"
    assert match_domain(["*"], "straße.example") is None
    assert match_domain(["*"], "ü" * 64) is None


def test_the_entry_may_have_any_case() -> None:
    assert match_domain(["Example.COM"], "example.com") == "Example.COM"


@pytest.mark.parametrize(
    ("domains", "entry"),
    [
        (["*", "example.com"], "*"),
        (["example.com", "*"], "example.com"),
        ([".example.com", "*"], "*"),
        (["sub.example.com", ".example.com"], None),
    ],
)
def test_the_first_entry_counts(domains: list[str], entry: str | None) -> None:
    assert match_domain(domains, "example.com") == entry


def test_any_domain_is_not_any_host() -> None:
    assert match_domain(["*"], "anything.example") == "*"
    assert match_domain(["*"], "[127.0.0.1]") is None
    assert match_domain(["*"], "[IPv6:::1]") is None


@pytest.mark.parametrize(
    ("domains", "entry"),
    [
        (["example.com", "example.net"], "example.com"),
        (["*", "example.com"], "example.com"),
        (["*"], "*"),
        ([], None),
    ],
)
def test_bare_postmaster_belongs_to_the_first_domain_with_a_name(
    domains: list[str], entry: str | None
) -> None:
    assert match_domain(domains, "") == entry


def test_nobody_relays_for_nothing() -> None:
    assert match_domain([], "example.com") is None


@pytest.mark.parametrize(
    "entry",
    [
        *OURS,
        "*",
        "localhost",
        "xn--bcher-kva.example",
        "_x.example",
        "[IPv6:::1]",
        "bücher.example",
        ".BÜCHER.example",
        "日本.example",
    ],
)
def test_what_can_match_is_allowed(entry: str) -> None:
    check_domains([entry])


@pytest.mark.parametrize(
    "entry",
    [
        "",
        ".",
        "*.example.com",
        "@example.com",
        "example.com.",
        "a..b",
        "[]",
        "[a]b",
        "a b",
        "straße.example",
        "a。b",
        "x＠y.example",
        "b\u200du.example",
        f"{'ü' * 64}.example",
        "[ü]",
        "ü*.example",
    ],
)
def test_what_could_never_match_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a domain; allowed"):
        check_domains(["example.com", entry])
