"""What is seen in a policy's code before it is asked: certain mistakes, and nothing else."""

import importlib
from pathlib import Path

import pytest

from gateway.plugins.discovery import POLICIES, PluginError, discover
from gateway.plugins.modules import Modules
from gateway.plugins.review import can_discard, review
from gateway.plugins.sources import Source
from policies import Policy

HEAD = """\
import policies
from policies import *
from helper import WEIGHT, drop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from helper import maybe
declared: int


def set_later():
    global later
    later = 1


def guarded():
    try:
        unheard_of()
    except Exception:
        pass


@policy(at=Stage.{stage}, needs=[{needs}], wants=[{wants}])
def mine(tx, evidence, *, limit: int = 1):
"""
HELPER = """\
from policies import discard

WEIGHT = 1


def bind():
    import mine

    mine.bound_by_helper = 1


def drop(reason):
    return inner(reason)


def inner(reason):
    return [discard(reason) for _ in range(1)][0]
"""
LINE = HEAD.count("\n") + 1


def sources(
    body: str, stage: str = "END_OF_DATA", needs: str = "SpamReport", wants: str = ""
) -> list[Source]:
    text = HEAD.format(stage=stage, needs=needs, wants=wants)
    text += "".join(f"    {line}\n" for line in body.splitlines())
    return [Source("/nowhere/helper.py", HELPER.encode()), Source("/nowhere/mine.py", text.encode())]


def loaded(body: str, **settings: str) -> Policy:
    return discover(sources(body, **settings)).policies["mine"].load()


@pytest.mark.parametrize(
    ("body", "settings", "problem"),
    [
        ("evidence[VirusReport]", {}, "asks for VirusReport, which is not among its needs"),
        ("evidence[policies.VirusReport]", {}, "asks for VirusReport, which is not among its needs"),
        ("evidence.get(VirusReport)", {}, "asks for VirusReport, which is not among its wants"),
        ("[evidence[Listings] for _ in ()]", {}, "asks for Listings, which is not among its needs"),
        (
            "tx.message.size",
            {"stage": "RCPT"},
            "reads tx.message, which is there at end-of-data and not at rcpt",
        ),
        (
            "if limit:\n    return tx.message.header('X')",
            {"stage": "CONNECT"},
            "reads tx.message, which is there at end-of-data and not at connect",
        ),
        (
            "tx.envelope.reverse_path",
            {"stage": "HELO"},
            "reads tx.envelope, which is there at mail or rcpt or end-of-data and not at helo",
        ),
        (
            "tx.envelope.recipient.domain",
            {},
            "reads tx.envelope.recipient, which is there at rcpt and not at end-of-data",
        ),
        ("tx.massage", {}, "no transaction has 'massage'; did you mean 'message'?"),
        ("tx.envelope.sender", {}, "no envelope has 'sender'; there are is_internationalized, "),
        ("tx.session.helo", {}, "no session has 'helo'; did you mean 'helo_name'?"),
        ("def inner():\n    return tx.massage", {}, "no transaction has 'massage'; did you mean 'message'?"),
        ("tx.message.url", {}, "no message has 'url'; did you mean 'urls'?"),
        ("tx.envelope.reverse_path.domian", {}, "no path has 'domian'; did you mean 'domain'?"),
        ("tx.session.tls.cypher", {}, "no tls has 'cypher'; did you mean 'cipher'?"),
        ("try:\n    limit = 2\nexcept KeyError:\n    tx.message.url", {}, "no message has 'url'"),
        ("return 1 > limmit", {}, "nothing is called 'limmit'; did you mean 'limit'?"),
        (
            "if tx.message.size:\n    return rejekt('x')",
            {},
            "nothing is called 'rejekt'; did you mean 'reject'?",
        ),
        ("[matchs(word, ()) for word in ()]", {}, "nothing is called 'matchs'; did you mean 'matches'?"),
        ("def inner():\n    return limmit", {}, "nothing is called 'limmit'; did you mean 'limit'?"),
        ("return zyxwv", {}, "nothing is called 'zyxwv'"),
        ("if limit > WEIGHT:\n    limmit", {}, "nothing is called 'limmit'; did you mean 'limit'?"),
        ("while True:\n    limmit", {}, "nothing is called 'limmit'; did you mean 'limit'?"),
        (
            "try:\n    pass\nexcept Exception:\n    limmit",
            {},
            "nothing is called 'limmit'; did you mean 'limit'?",
        ),
        (
            "reject('x', detial='y')",
            {},
            "reject(...): got an unexpected keyword argument 'detial'; did you mean",
        ),
        ("policies.reject()", {}, "reject(...): missing a required argument: 'reason'"),
        ("accept('x', 'y')", {}, "accept(...): too many positional arguments"),
        ("reject('Too Many Links')", {}, "reject(...): reason 'Too Many Links' is not a kebab-case slug"),
        (
            "reject(f'x{limit}', code=450)",
            {},
            "reject(...): enhanced status 5.7.1 does not agree with",
        ),
        ("reject('x', code=450, status='4.7.1')", {}, "reject(...): reject takes a 5xx code, not 450"),
        (
            "tempfail('x', code=limit, status='5.7.1')",
            {},
            "tempfail(...): tempfail takes a 4xx code",
        ),
        ("reject('x', code=451, status=str(limit))", {}, "reject(...): reject takes a 5xx code, not 451"),
        ("mark('X Y', str(limit))", {}, "mark(...): 'X Y' is not a header field name"),
        ("accept('x', exempt_from='spam')", {}, "accept(...): exempt_from takes names of policies"),
        ("redirect('nobody')", {}, "redirect(...): "),
    ],
)
def test_a_certain_mistake_is_refused_with_its_line(body: str, settings: dict[str, str], problem: str):
    with pytest.raises(PluginError) as refusal:
        loaded(body, **settings)
    line = LINE + body.count("\n")
    assert str(refusal.value).startswith(f"/nowhere/mine.py:{line}: policy 'mine': {problem}")


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        ("evidence[SpamReport]", {}),
        ("evidence.get(VirusReport)", {"wants": "VirusReport"}),
        ("evidence[VirusReport]", {"wants": "VirusReport"}),
        ("evidence.get(kind) if (kind := VirusReport) else 0", {}),
        ("VirusReport in evidence", {}),
        ("for VirusReport in ():\n    evidence[VirusReport]", {}),
        ("evidence = {}\nevidence[VirusReport]", {}),
        ("other = {}\nother[VirusReport]", {}),
        ("tx.message.size if tx.message else 0", {"stage": "RCPT"}),
        ("assert tx.envelope is not None\ntx.envelope.reverse_path", {"stage": "HELO"}),
        ("tx = limit\ntx.massage", {}),
        ("(lambda tx: tx.massage)", {}),
        ("[tx.massage for tx in ()]", {}),
        ("tx.envelope.recipient", {}),
        ("tx.envelope.recipient.domain", {"stage": "RCPT", "needs": "Route"}),
        ("tx.message.header('X').lower()", {}),
        ("tx.session.tls.version", {"stage": "CONNECT", "needs": "Listings"}),
        ("try:\n    tx.message.url\nexcept AttributeError:\n    pass", {}),
        ("if hasattr(tx.message, 'url'):\n    tx.message.url", {}),
        ("try:\n    limmit\nexcept NameError:\n    pass", {}),
        ("try:\n    limmit\nexcept (KeyError, Exception):\n    pass", {}),
        ("try:\n    limmit\nexcept:\n    pass", {}),
        ("try:\n    limmit\nexcept policies.Whatever:\n    pass", {}),
        ("try:\n    limmit\nfinally:\n    return None", {}),
        ("import contextlib\nwith contextlib.suppress(NameError):\n    limmit", {}),
        ("def inner():\n    return limmit\ntry:\n    inner()\nexcept NameError:\n    pass", {}),
        ("if False:\n    limmit", {}),
        ("if TYPE_CHECKING:\n    reveal_type(tx)", {}),
        ("if not TYPE_CHECKING:\n    pass\nelse:\n    reveal_type(tx)", {}),
        ("return TYPE_CHECKING and limmit", {}),
        ("if TYPE_CHECKING:\n    any(limmit for _ in ())", {}),
        ("if TYPE_CHECKING:\n    def inner():\n        return limmit", {}),
        ("return limmit if TYPE_CHECKING else 0", {}),
        ("import sys\nif sys.version_info < (3,):\n    unicode", {}),
        ("import sys as s\nif s.platform == 'win32':\n    limmit", {}),
        ("from sys import platform\nif platform == 'win32':\n    limmit", {}),
        ("from typing import TYPE_CHECKING as here\nif here:\n    limmit", {}),
        ("if WEIGHT == 'heavy':\n    limmit", {}),
        ("return 0\nlimmit", {}),
        ("limmit = 1\nreturn limmit", {}),
        ("global limmit\nlimmit = 1\nreturn limmit", {}),
        ("del_me = 1\ndel del_me\nreturn None", {}),
        ("return later", {}),
        ("return maybe", {}),
        ("return declared", {}),
        ("return bound_by_helper", {}),
        ("limmit: Nothing = 1\nreturn limmit", {}),
        ("class Inner:\n    x = 1\n    y = x\nreturn None", {}),
        ("[each for each in [limit] if (last := each)]\nreturn last", {}),
        ("return [__name__, __file__, __debug__, print]", {}),
        ("guarded()", {}),
        ("reject = lambda *a, **k: None\nreject('X Y')", {}),
        ("reject(*[], **{})", {}),
        ("reject('x', **{'detail': 'y'})", {}),
        ("try:\n    reject('X Y')\nexcept ValueError:\n    pass", {}),
        ("if TYPE_CHECKING:\n    reject('X Y')", {}),
        ("reject('x', code=limit)", {}),
        ("reject('x', code=554)", {}),
        ("reject('x', code=limit, status='5.1.1')", {}),
        ("reject(str(limit), text=str(limit), detail=str(limit), code=limit, status=str(limit))", {}),
        ("mark(str(limit), str(limit)) & subject(str(limit)) & redirect(tx.envelope.reverse_path)", {}),
        ("quarantine('x', deliver=limit > 2)", {}),
        ("policies.Policy('x')", {}),
    ],
)
def test_of_what_is_not_certain_nothing_is_said(body: str, settings: dict[str, str]):
    assert isinstance(loaded(body, **settings), Policy)


CALLER = """\
import functools
from helper import far
from policies import *


def near(tx):
    return limmit


@functools.cache
def kept(tx):
    return reject("No Slug")


def decorated(function):
    @functools.wraps(function)
    def call(*arguments):
        return None

    return call


@decorated
def never_called(tx):
    return limmit


def never_named(tx):
    return limmit


def recursive(tx):
    return recursive(tx) or mutual(tx)


def mutual(tx):
    return recursive(tx)


@policy(at=Stage.MAIL)
def mine(tx, evidence, *, limit: int = 1):
"""


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return near(tx)", "/nowhere/mine.py:7: policy 'mine': nothing is called 'limmit'"),
        ("return map(near, ())", "/nowhere/mine.py:7: policy 'mine': nothing is called 'limmit'"),
        ("return kept(tx)", "/nowhere/mine.py:12: policy 'mine': reject(...): reason 'No Slug' is not"),
        ("return far(tx)", "/nowhere/helper.py:2: policy 'mine': nothing is called 'limmit'"),
        ("return never_called(tx)", None),
        ("try:\n        near(tx)\n    except Exception:\n        return None", None),
        ("return recursive(tx)", None),
        ("return None", None),
    ],
)
def test_the_functions_it_can_call_are_looked_at(body: str, problem: str | None):
    found = [
        Source("/nowhere/helper.py", b"def far(tx):\n    return limmit\n"),
        Source("/nowhere/mine.py", f"{CALLER}    {body}\n".encode()),
    ]
    if problem is None:
        discover(found)
        return
    with pytest.raises(PluginError) as refusal:
        discover(found)
    assert str(refusal.value).startswith(problem)


@pytest.mark.parametrize(
    "setter",
    [
        "globals()[chr(120)] = 1",
        "vars()[chr(120)] = 1",
        "exec('x = 1')",
        "import sys; setattr(sys.modules[__name__], 'x', 1)",
        "import sys; sys.modules[__name__].__dict__.update(x=1)",
        "pass\ntry:\n    pass\nexcept ImportError:\n    from mine import *",
        "pass\nx = 1\ndel x",
    ],
)
def test_where_names_can_come_from_anywhere_nothing_is_said(setter: str):
    text = (
        f"from policies import Stage, policy\n\ndef later():\n    {setter}\n"
        "@policy(at=Stage.MAIL)\ndef mine(tx, evidence):\n    return x\n"
    )
    discover([Source("/nowhere/mine.py", text.encode())])


def test_an_error_that_something_else_catches_is_no_less_certain():
    body = "try:\n        limmit\n    except (ValueError, KeyError):\n        return None"
    with pytest.raises(PluginError, match=f":{LINE + 1}: policy 'mine': nothing is called 'limmit'"):
        loaded(body.replace("\n    ", "\n"))


def test_all_mistakes_are_found_in_the_order_of_lines():
    module = Modules(sources("tx.massage\nevidence[VirusReport]\ntx.session.x"))
    module.install()
    mine = module.load(sources("tx.massage\nevidence[VirusReport]\ntx.session.x")[1]).mine
    lines = [problem.partition(": ")[0] for problem in review(mine)]
    assert lines == [f"/nowhere/mine.py:{LINE + number}" for number in range(3)]


def test_what_is_installed_is_reviewed_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "far_away.py").write_text(
        "from policies import Stage, policy\n@policy(at=Stage.MAIL)\n"
        "def far(tx, evidence):\n    return tx.message.size\n"
    )
    info = tmp_path / "far_away-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{POLICIES}]\nfar = far_away:far\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(PluginError, match=r"far_away\.py:4: policy 'far': reads tx\.message"):
        discover().policies["far"].load()


def test_a_function_without_source_is_not_reviewed():
    namespace: dict[str, Policy] = {}
    text = "from policies import *\n@policy(at=Stage.MAIL)\ndef mine(tx, evidence): return tx.massage\n"
    exec(text, namespace)
    assert list(review(namespace["mine"])) == []


# Who can discard


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return None", False),
        ("return reject('x')", False),
        ("return discard('x')", True),
        ("return policies.discard('x')", True),
        ("return drop('x')", True),
        ("return (lambda: discard('x'))()", True),
        ("discarded = None\nreturn discarded", False),
        ("'discard'", False),
    ],
)
def test_who_can_discard(body: str, expected: bool):
    assert can_discard(loaded(body)) is expected


def test_no_policy_that_is_built_in_can_discard_or_is_wrong():
    for found in discover().policies.values():
        assert not can_discard(found.load())
        assert list(review(found.load())) == []


# What replaces what


TWICE = """\
import policies
from policies import Stage, policy as rule

{first}
def mine(tx, evidence):
    return None

{between}
{second}
def mine(tx, evidence):
    return None
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [("@rule(at=Stage.MAIL)", "@policies.policy(at=Stage.RCPT)"), ("@rule(at=Stage.MAIL)",) * 2],
)
def test_the_second_of_one_name_does_not_silently_replace_the_first(first: str, second: str):
    text = TWICE.format(first=first, second=second, between="")
    with pytest.raises(PluginError) as refusal:
        discover([Source("/nowhere/mine.py", text.encode())])
    assert str(refusal.value) == "/nowhere/mine.py:10: the name 'mine' is taken by /nowhere/mine.py:5"


@pytest.mark.parametrize(
    ("first", "between", "second"),
    [
        ("# a plain function", "", "@rule(at=Stage.MAIL)"),
        ("@rule(at=Stage.MAIL)", "del mine", "@rule(at=Stage.MAIL)"),
        ("@rule(at=Stage.MAIL)", "if Stage is None:", " @rule(at=Stage.MAIL)\n def other(): pass\n"),
    ],
)
def test_what_replaces_no_policy_may(first: str, between: str, second: str):
    text = TWICE.format(first=first, between=between, second=second)
    discover([Source("/nowhere/mine.py", text.encode())])


def test_a_policy_under_two_names_is_one():
    text = TWICE.format(first="", between="", second="@rule(at=Stage.MAIL)") + "\nyours = mine\n"
    assert discover([Source("/nowhere/mine.py", text.encode())]).policies["mine"].load().name == "mine"
