"""Invariant: what was judged as one command with one address is that to every reader further down."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.smtp.address import Path
from gateway.smtp.command import CommandError, parse_command, parse_mail, parse_rcpt

# Where somebody's parser might see the end of a line, of a string, or of an argument.
LINE_ENDS = re.compile("[\r\n\x00\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")

words = st.sampled_from(
    [
        *(b"<", b">", b"@", b'"', b"\\", b",", b":", b";", b" ", b"%", b"!", b"[", b"]", b"(", b")", b"="),
        *(b"u1", b"our.example", b"victim.example", b"postmaster", b"<u1@our.example>", b'"a b"@our.example'),
        *(b"=?utf-8?q?a=0d=0aRCPT_TO=3a=3cx=40victim.example=3e?=", b"SIZE=1", b"ORCPT=rfc822;a@b", b"\r\n"),
        *(
            b"\r",
            b"\n",
            b"\0",
            b"\t",
            b"\x0b",
            b"\xc2\x85",
            b"\xc3\xbc",
            b"\xc5\x85",
            b"\xe2\x80\xa8",
            b"\xef\xbc\xa0",
            b"IPv6:",
            b"::1",
        ),
    ]
)
arguments = st.lists(st.one_of(words, words, st.binary(max_size=2)), max_size=12).map(b"".join)


@given(
    st.sampled_from([b"MAIL FROM:", b"mail from: ", b"RCPT TO:", b"RCPT TO:<u1@", b"MAIL FROM:<"]), arguments
)
@example(b"RCPT TO:", b'<"\\""@our.example>')
@example(b"RCPT TO:", b"<@our.example:nobody@victim.example>")
def test_one_command_with_one_address(start: bytes, argument: bytes):
    try:
        command = parse_command(start + argument)
        parse = parse_mail if command.verb == "MAIL" else parse_rcpt
        path, parameters = parse(command.argument)
    except CommandError:
        return
    assert_is_one_address(path)
    for keyword, value in parameters.items():
        assert re.fullmatch(r"[A-Z0-9][A-Z0-9-]*", keyword)
        assert value is None or re.fullmatch(r"(?:[!-<>-~]|[^\x00-\x9f])+", value)
        assert value is None or not LINE_ENDS.search(value)


def assert_is_one_address(path: Path) -> None:
    if path.is_null:
        return
    sent = b"RCPT TO:<%s>" % path.octets
    assert not LINE_ENDS.search(sent.decode("utf-8"))
    # The domain we judged is what stands behind the last "@", and no quote hides another one.
    if path.domain:
        assert path.octets.rpartition(b"@")[2] == path.domain.encode()
        local_part = path.local_part
        assert "@" not in local_part or local_part.startswith('"')
    # Quotes are closed, so nothing behind the path can be drawn into it.
    unescaped = re.sub(rb"\\.", b"", path.octets)
    assert unescaped.count(b'"') in {0, 2}
    assert sent.endswith(b">")
