"""Nobody has mail relayed to somebody else, and no address is two to two readers.

`tests/dialogs/relay-*.smtp` has the classical probes; these are the ones between the lines.
"""

import pytest

from tests.security.battery import MESSAGE, Battery

HELLO = b"EHLO c.example\r\nMAIL FROM:<s@our.example>\r\n"
REFUSED = [
    # Two in one
    *(
        b"<u1@our.example> <x@victim.example>",
        b"<u1@our.example><x@victim.example>",
        b"<u1@our.example>\t<x@v.example>",
    ),
    *(
        b"<u1@our.example,x@victim.example>",
        b"<u1@our.example;x@victim.example>",
        b"u1@our.example,x@victim.example",
    ),
    *(b"<u1@our.example> TO:<x@victim.example>", b"<x@victim.example>,<u1@our.example>"),
    # NUL and other ends of strings
    *(
        b"<x@victim.example\0@our.example>",
        b"<u1@our.example\0>",
        b"<u1\0@our.example>",
        b"<x@victim.example>\0",
    ),
    *(b"<u1@our.example\\>", b"<u1@our.example\\@victim.example>", b"<u1\\@our.example@victim.example>"),
    # The domain is another one than it seems
    *(
        b"<u1@our.example@victim.example>",
        b'<"u1@our.example"@victim.example>',
        b"<u1@victim.example%our.example>",
    ),
    *(b"<u1@our.example.victim.example>", b"<u1@our.example_>", b"<u1@our_example>", b"<u1@-our.example>"),
    *(b"<u1@our.example..>", b"<u1@..our.example>", b"<u1@our..example>", b"<u1@our.example.>", b"<u1@>"),
    *(
        b"<u1@[our.example]>",
        b"<u1@[127.0.0.1]>",
        b"<u1@[IPv6:::1]>",
        b"<u1@#123>",
        b"<u1@127.0.0.1>",
        b"<u1@*>",
    ),
    *(
        b"<u1@our.example/>",
        b"<u1@our.example:25>",
        b"<u1@our.example#>",
        b"<u1@xn--our.example>",
        b"<u1@localhost>",
    ),
    *(
        b"<@our.example:x@victim.example>",
        b"<@our.example,@our.example:x@victim.example>",
        b"<@our.example:>",
    ),
    # Comments, blanks and names, which an envelope has not
    *(
        b"<u1@our.example (c)>",
        b"<u1(c)@our.example>",
        b"<u1 @our.example>",
        b"< u1@our.example>",
        b"<u1@our.example >",
    ),
    *(
        b"User <u1@our.example>",
        b'"u1" <u1@our.example>',
        b"(c)<u1@our.example>",
        b"<<u1@our.example>>",
        b"<u1@our.example",
    ),
    # Quotes that do not close where they seem to
    *(
        b'<"u1@our.example>',
        b'<u1"@our.example>',
        b'<"u1"x@our.example>',
        b'<"u"1"@our.example>',
        b'<"u1\\"@our.example>',
    ),
    *(b'<""@our.example', b'<"a\\\r"@our.example>', b'<"a\nb"@our.example>'),
    # Not even ours
    *(
        b"<>",
        b"<@our.example>",
        b"<u1>",
        b"<!>",
        b"<%>",
        b"<.u1@our.example>",
        b"<u1.@our.example>",
        b"<u..1@our.example>",
    ),
    *(b"<henry\xe2\x85\xa3@our.example>", b"<u1@our\xe3\x80\x82example>", b"<u1\xef\xbc\xa0victim.example>"),
]


@pytest.mark.parametrize("address", REFUSED, ids=repr)
async def test_it_is_refused_and_asked_of_nobody(battery: Battery, address: bytes):
    answers = await battery.talk(HELLO + b"RCPT TO:" + address + b"\r\nDATA\r\nQUIT\r\n")
    refusals = answers[2:-1]
    assert all(answer.code in {500, 501, 503, 550, 554, 555} for answer in refusals)
    assert not battery.mta.connections


OURS = {
    # A source route is dropped, and what is judged is what is passed on.
    b"<@victim.example:u1@our.example>": "<u1@our.example>",
    b"<@a.example,@b.example:u1@our.example>": "<u1@our.example>",
    # The local part is the downstream's business, and reaches it as it came.
    b"<x%victim.example@our.example>": "<x%victim.example@our.example>",
    b"<victim.example!x@our.example>": "<victim.example!x@our.example>",
    b'<"x@victim.example"@our.example>': '<"x@victim.example"@our.example>',
    b'<"x@victim.example> "@our.example>': '<"x@victim.example> "@our.example>',
    b'<"u1"@our.example>': '<"u1"@our.example>',
    b'<"\\u1"@OUR.EXAMPLE>': '<"\\u1"@OUR.EXAMPLE>',
    b"<|cat@our.example>": "<|cat@our.example>",
    b"<-froot@our.example>": "<-froot@our.example>",
    b"<=?utf-7?q?x+AEA-victim.example?=@our.example>": "<=?utf-7?q?x+AEA-victim.example?=@our.example>",
}


@pytest.mark.parametrize(("address", "passed_on"), OURS.items(), ids=repr)
async def test_what_is_ours_is_passed_on_as_it_came(battery: Battery, address: bytes, passed_on: str):
    codes = await battery.codes(HELLO + b"RCPT TO:" + address + b"\r\nDATA\r\n", MESSAGE + b".\r\nQUIT\r\n")
    assert codes == [250, 250, 250, 354, 250, 221]
    assert battery.mta.heard("RCPT") == [f"RCPT TO:{passed_on}"]


@pytest.mark.parametrize(
    "sender", [b"<=?utf-8?q?a=0d=0aDATA=0d=0a?=@a.example>", b'<"a\\"b<>;,"@a.example>', b"<>"]
)
async def test_a_sender_is_passed_on_as_it_came(battery: Battery, sender: bytes):
    session = b"EHLO c.example\r\nMAIL FROM:%s\r\nRCPT TO:<u1@our.example>\r\nDATA\r\n" % sender
    assert await battery.codes(session, MESSAGE + b".\r\nQUIT\r\n") == [250, 250, 250, 354, 250, 221]
    assert battery.mta.attempts[0].mail == f"MAIL FROM:{sender.decode()}"
