"""Whether a recipient, as the client wrote it, is one we relay for."""

import pytest

from filters.evidence import Route
from filters.route import Routes
from filters.testing.transactions import at_rcpt

ROUTES = Routes(["our.example", ".our.example"])


@pytest.mark.parametrize(
    ("recipient", "domain"),
    [
        ("u1@our.example", "our.example"),
        ("u1@OUR.Example", "our.example"),
        ("u1@sub.our.example", ".our.example"),
        ('"u1"@our.example', "our.example"),
        ("postmaster", "our.example"),
        ("Postmaster", "our.example"),
        ("@victim.example:u1@our.example", "our.example"),
    ],
)
async def test_our_recipients_have_a_route(recipient: str, domain: str) -> None:
    assert await ROUTES.find(at_rcpt(recipient)) == Route(domain)


@pytest.mark.parametrize(
    "recipient",
    [
        "nobody@victim.example",
        "x@our.example.victim.example",
        "x@victim-our.example",
        "x@xour.example",
        "nobody@[127.0.0.1]",
        "nobody%our.example@[127.0.0.1]",
        "@our.example:nobody@victim.example",
        '"nobody@our.example"@victim.example',
        '"x@our.example\\>"@victim.example',
    ],
)
async def test_others_have_none(recipient: str) -> None:
    assert await ROUTES.find(at_rcpt(recipient)) == Route(None)


@pytest.mark.parametrize(
    "recipient", ["nobody%victim.example@our.example", "victim.example!nobody@our.example"]
)
async def test_a_local_part_is_the_downstreams_business(recipient: str) -> None:
    assert await ROUTES.find(at_rcpt(recipient)) == Route("our.example")


async def test_without_a_table_nobody_has_a_route() -> None:
    for recipient in ("u1@our.example", "postmaster"):
        assert await Routes([]).find(at_rcpt(recipient)) == Route(None)
