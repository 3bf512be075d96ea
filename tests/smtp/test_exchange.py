"""AUTH as somebody reads it who only carries it."""

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.authentication import Exchange, check_base64, is_challenge, mechanisms, parse_auth
from gateway.smtp.command import CommandError
from gateway.smtp.reply import Reply

ALPHABET = f"{string.ascii_letters}{string.digits}+/=".encode()
INSTEAD = "Authentication failed"


def encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def exchange(mechanism: str, *said: bytes) -> Exchange:
    """One in which the client said this, first of all as initial response."""
    begun = Exchange(mechanism)
    begun.begin(encoded(said[0]) if said else None)
    for answer in said[1:]:
        begun.take(encoded(answer))
    return begun


@pytest.mark.parametrize(
    ("parameters", "carried"),
    [
        ("PLAIN LOGIN", ("PLAIN", "LOGIN")),
        ("login plain Login", ("LOGIN", "PLAIN")),
        ("CRAM-MD5 SCRAM-SHA-256 XOAUTH2", ("CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2")),
        ("GSSAPI GS2-KRB5 GSS-SPNEGO KERBEROS_V4 DIGEST-MD5 SRP EXTERNAL ANONYMOUS PLAIN", ("PLAIN",)),
        ("SCRAM-SHA-1-PLUS GS2-KRB5-PLUS SCRAM-SHA-1", ("SCRAM-SHA-1",)),
        ("PL\tAIN PLÄIN P;N =LOGIN A-MECHANISM-OF-21-CHARS", ("PL", "AIN")),
        ("", ()),
    ],
)
def test_what_can_be_carried_is_offered(parameters: str, carried: tuple[str, ...]):
    assert mechanisms(parameters) == carried


def test_more_mechanisms_than_fit_into_a_line_are_left_out():
    offered = mechanisms(" ".join(f"A-MECHANISM-NUMBER{n:02}" for n in range(50)))
    assert len(f"AUTH {' '.join(offered)}") <= 480
    assert len(offered) == 20


@pytest.mark.parametrize(
    ("argument", "mechanism", "initial"),
    [
        (b"PLAIN", "PLAIN", None),
        (b"plain AGFubmEAc2VjcmV0", "PLAIN", b"AGFubmEAc2VjcmV0"),
        (b"SCRAM-SHA-256  =", "SCRAM-SHA-256", b"="),
    ],
)
def test_a_command_is_a_mechanism_and_an_initial_response(
    argument: bytes, mechanism: str, initial: bytes | None
):
    assert parse_auth(argument) == (mechanism, initial)


@pytest.mark.parametrize(
    ("argument", "status"),
    [
        (b"", "5.5.4"),
        (b"PLAIN AGFu bmEA", "5.5.4"),
        (b"AGFubmEAc2VjcmV0==", "5.5.4"),
        (b"PL\xdfIN", "5.5.4"),
        (b"PLAIN *", "5.5.2"),
        (b"PLAIN AGFubmEAc2VjcmV", "5.5.2"),
        (b"PLAIN AGFubmEA\xff", "5.5.2"),
    ],
)
def test_a_command_that_is_none_is_not_quoted(argument: bytes, status: str):
    with pytest.raises(CommandError) as error:
        parse_auth(argument)
    assert error.value.reply.code == 501
    assert error.value.reply.status == status
    assert b"AGFu" not in str(error.value).encode()


@pytest.mark.parametrize("octets", [b"", b"YQ==", b"YWI=", b"YWJj", b"+/+/"])
def test_base64_is_taken(octets: bytes):
    check_base64(octets)


@pytest.mark.parametrize(
    "octets", [b"=", b"a", b"YQ=", b"YQ==YQ==", b"YWJj ", b" YWJj", b"YW\nJj", b"YWJ_", b"YWJj\r", b"*"]
)
def test_what_is_not_base64_is_not(octets: bytes):
    with pytest.raises(CommandError, match=r"^Not base64$"):
        check_base64(octets)


def test_an_exchange_may_be_cancelled():
    assert Exchange("PLAIN").take(b"*") == b"*"


@pytest.mark.parametrize(
    ("reply", "is_one"),
    [
        (Reply(334, None, ("",)), True),
        (Reply(334, None, ("VXNlcm5hbWU6",)), True),
        (Reply(334, None, ("A" * 12_000,)), True),
        (Reply(334, None, ("Go on",)), False),
        (Reply(334, None, ("YWJj", "YWJj")), False),
        (Reply(334, None, ("YWJ\xe9",)), False),
    ],
)
def test_a_challenge_is_one_line_of_base64(reply: Reply, is_one: bool):
    assert is_challenge(reply) is is_one


@pytest.mark.parametrize(
    ("mechanism", "said", "name"),
    [
        ("PLAIN", [b"\0anna\0secret"], "anna"),
        ("PLAIN", [b"boss\0anna\0secret"], "anna"),
        ("PLAIN", [b"\0\xc3\xa4nna\0secret"], "änna"),
        ("PLAIN", [b"\0an\xffna\0secret"], "plain"),
        ("PLAIN", [b"\0an\nna\0secret"], "plain"),
        ("PLAIN", [b"\0" + b"a" * 256 + b"\0secret"], "plain"),
        ("PLAIN", [b"secret"], "plain"),
        ("PLAIN", [], "plain"),
        ("LOGIN", [b"anna@example.org", b"secret"], "anna@example.org"),
        ("LOGIN", [b"", b"secret"], "login"),
        ("CRAM-MD5", [b"an na b913a602c7eda7a495b4e6e7334d3890"], "an na"),
        ("SCRAM-SHA-256", [b"n,,n=anna,r=fyko+d2lbb"], "anna"),
        ("SCRAM-SHA-1", [b"y,a=boss,n=an=2Cna=3D,r=fyko"], "an,na="),
        ("XOAUTH2", [b"user=anna@example.org\x01auth=Bearer ya29\x01\x01"], "anna@example.org"),
        ("NTLM", [b"NTLMSSP\0"], "ntlm"),
    ],
)
def test_who_logged_in(mechanism: str, said: list[bytes], name: str):
    assert exchange(mechanism, *said).name == name


def test_an_empty_initial_response_names_nobody():
    begun = Exchange("LOGIN")
    assert begun.begin(b"=") == b"AUTH LOGIN ="
    assert begun.name == "login"


@pytest.mark.parametrize(
    ("reply", "spoken"),
    [
        (Reply(235, "2.7.0", ("Welcome",)), "235 2.7.0 Welcome"),
        (Reply(235, None, ("Welcome",)), "235 2.7.0 Welcome"),
        (Reply(535, None, ("No",)), "535 5.7.8 No"),
        (Reply(454, None, ("Later",)), "454 4.7.0 Later"),
        (Reply(432, None, ("Change it",)), "432 4.7.12 Change it"),
        (Reply(500, None, ("What",)), "500 5.0.0 What"),
        (Reply(535, "5.7.8", ("secret is wrong",)), f"535 5.7.8 {INSTEAD}"),
        (Reply(535, "5.7.8", ("cannot decode AGFubmEAc2VjcmV0",)), f"535 5.7.8 {INSTEAD}"),
    ],
)
def test_the_final_reply_has_a_status_and_repeats_nothing(reply: Reply, spoken: str):
    assert str(exchange("PLAIN", b"\0anna\0secret").conclude(reply, INSTEAD)) == spoken


def test_a_token_does_not_come_back_by_itself():
    begun = exchange("XOAUTH2", b"user=anna@example.org\x01auth=Bearer ya29.token\x01\x01")
    assert begun.conclude(Reply.of(535, "5.7.8", "ya29.token has expired"), INSTEAD).text == INSTEAD


@given(st.binary(min_size=1, max_size=300))
def test_no_password_comes_back_in_a_reply(password: bytes):
    """Whatever the password is, a downstream that repeats it is not."""
    secret = encoded(b"\0anna\0" + password).decode()
    reply = Reply.of(535, "5.7.8", f"You said {secret}")
    assert exchange("PLAIN", b"\0anna\0" + password).conclude(reply, INSTEAD).text == INSTEAD


def test_an_exchange_shows_nothing():
    assert "secret" not in repr(exchange("LOGIN", b"anna", b"secret"))
    assert "c2VjcmV0" not in repr(exchange("LOGIN", b"anna", b"secret"))


PIECES = [b"YWJj", b"YQ==", b"=", b"*", b"\r", b"\n", b" ", b"\0", b"QUIT", b"\xff"]


@given(st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join))
def test_only_base64_and_the_cancelling_pass(line: bytes):
    """Whatever a client says in an exchange, no control character and no command with an argument passes."""
    try:
        passed = Exchange("PLAIN").take(line)
    except CommandError:
        return
    assert passed == line
    assert passed == b"*" or set(passed) <= set(ALPHABET)
