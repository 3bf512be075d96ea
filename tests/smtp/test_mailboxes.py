"""Which entry of a list of mailboxes covers a recipient."""

import pytest

from gateway.smtp.address import Path, parse_address
from gateway.smtp.mailboxes import check_mailboxes, match_mailbox

ENTRIES = ["sales@example.com", "@shop.example.com", "@.example.org", '"a b"@example.com']


@pytest.mark.parametrize(
    ("recipient", "entry"),
    [
        ("sales@example.com", "sales@example.com"),
        ("Sales@EXAMPLE.com", "sales@example.com"),
        ("support@example.com", None),
        ("sales@sub.example.com", None),
        ("anybody@shop.example.com", "@shop.example.com"),
        ("anybody@eshop.example.com", None),
        ("anybody@a.example.org", "@.example.org"),
        ("anybody@example.org", None),
        ('"a b"@example.com', '"a b"@example.com'),
        ("sales@[192.0.2.1]", None),
    ],
)
def test_the_entry_that_covers_a_recipient(recipient: str, entry: str | None):
    assert match_mailbox(ENTRIES, parse_address(recipient)) == entry


def test_postmaster_without_a_domain_is_in_no_list():
    assert match_mailbox(["@example.com", "postmaster@example.com"], Path("postmaster", "")) is None


@pytest.mark.parametrize("entry", ["example.com", "@", "a@", "@*", "a b@example.com", "@exa mple.com", "*"])
def test_an_entry_that_could_never_match_is_refused(entry: str):
    with pytest.raises(ValueError, match="is no mailbox; allowed"):
        check_mailboxes([*ENTRIES, entry])
