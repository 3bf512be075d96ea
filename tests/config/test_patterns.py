"""Regular expressions that would bring a worker to a standstill are refused, and others are not.

What is said to explode does so, in a process of its own that may use 0.3 s of CPU time; what is
let through does not, on the texts on which its likes would.
"""

import re
import resource
import signal
import subprocess
import sys

import pytest

from gateway.config.ambiguity import MAX_DEGREE
from gateway.config.automaton import MAX_POSITIONS
from gateway.config.patterns import MAX_LENGTH, check_pattern, compile_pattern, pattern_text

# The expression, and the part of it that is to blame.
EXPONENTIAL = [
    ("(a+)+$", "(a+)+"),
    ("(a*)*$", "(a*)*"),
    ("(a*)*b", "(a*)*"),
    ("^(a+)*$", "(a+)*"),
    ("(a|a)*$", "(a|a)*"),
    ("(a|aa)+$", "(a|aa)+"),
    ("(a|a?)+$", "(a|a?)+"),
    ("(a|b|ab)*c", "(a|b|ab)*"),
    ("(a|b*)*$", "(a|b*)*"),
    ("(a?b?)*$", "(a?b?)*"),
    ("((a?)?b)*$", "((a?)?b)*"),
    ("((?:a?)*b)+$", "((?:a?)*b)+"),
    ("(.*a){20}", "(.*a){20}"),
    ("(.*,){11}P", "(.*,){11}"),
    ("(x+x+)+y", "(x+x+)+"),
    ("(?:x+x+)+?y", "(?:x+x+)+?"),
    ("([a-zA-Z]+)*$", "([a-zA-Z]+)*"),
    ("(?i)(k|\\u212a|kk)*$", "(k|\\u212a|kk)*"),
    ("(\\w+|\\d)*$", "(\\w+|\\d)*"),
    ("^(\\w+\\s?)*$", "(\\w+\\s?)*"),
    ("^(\\d+,?)+$", "(\\d+,?)+"),
    ("^(([a-z])+.)+[A-Z]([a-z])+$", "(([a-z])+.)+"),
    (
        "^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$",
        "(([\\-.]|[_]+)?([a-zA-Z0-9]+))*",
    ),
    ("^([\\w.-]+)+@example\\.com$", "([\\w.-]+)+"),
    ("^(?:[^\\s@]+\\.?)+@[a-z]+$", "(?:[^\\s@]+\\.?)+"),
    ('"(?:[^"\\\\]+|\\\\.)*"', '(?:[^"\\\\]+|\\\\.)*'),
    ("<a(?:\\s+\\w*|\\s*\\w+=\\w*)*>", "(?:\\s+\\w*|\\s*\\w+=\\w*)*"),
    ("(?=(a+)+$)x", "(a+)+"),
    ("(?!(a+)+$)x", "(a+)+"),
    ("(?:(a+)\\1)+$", "(?:(a+)\\1)+"),
    ("(a{1,30}){1,30}$", "(a{1,30}){1,30}"),
    ("(a|aa){30}$", "(a|aa){30}"),
    ("((a|aa){5}){8}$", "((a|aa){5}){8}"),
    ("(a|a){30}$", "(a|a){30}"),
    ("(a?){30}a{30}", "(a?){30}"),
    ("(?s)(?:.|\\n)*x", "(?:.|\\n)*"),
    ("(?x) ( a + ) + $  # spaces", "( a + ) +"),
]

# Refused, though they only take a power of the time, or none: what cannot be told is taken for bad.
CAUTION = [
    r".*a.*a.*a.*a.*a.*a.*a",
    r"(.*a){8}",
    r"(?>a+)+b",
    r"(\b\w+\b\s*)+$",
    r"(?:a(?!b)|a(?=b))*$",
]

GOOD = [
    "",
    "a",
    r"foo|bar|baz",
    r"(?i)\b(?:viagra|cialis)\b",
    r".*foo.*",
    r".*foo.*bar.*",
    r"^\s+|\s+$",
    r"^\s*(\S+\s+)*\S+\s*$",
    r"^(\w+\s)*$",
    r"(a+b)+$",
    r"(a|b)*$",
    r"(a|b|c|d)+$",
    r"(?:ab|cd)+$",
    r"(?:ab|cd){30}$",
    r"^[\w.+-]+@[\w-]+\.[\w.-]+$",
    r"^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$",
    r"(?i)^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$",
    r"https?://(?:[a-z0-9-]+\.)+[a-z]{2,}(?:/[^\s\"<>]*)?",
    r"^(?:\d{1,3}\.){3}\d{1,3}$",
    r"^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$",
    r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    r"^(?:[0-9a-f]{2}:){15}[0-9a-f]{2}$",
    r"^[A-Z]{2}\d{2}[A-Z0-9]{1,30}$",
    r"^(\(?\d{3}\)?[- ]?)?\d{3}[- ]?\d{4}$",
    r'^"(?:[^"\\]|\\.)*"$',
    r"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>",
    r"(?:(?!ab).)*ab",
    r"(?:[^<]|<[^/])*</",
    r"(['\"]).*?\1",
    r"^(?:(.)\1)+$",
    r"(?=(a+))\1b",
    r"(a)?(?(1)b|c)",
    r"(?:x(?:y(?:z)*)*)*$",
    r"(|a)+$",
    r"([\u00e0-\u00ff]|[a-z])+$",
    r"(?i)([a-j]|[l-z])+$",
    r"(\d|[a-z])+$",
    r"(?a:\w|[\u00e0-\u00ff])+$",
    r"(?m)^(?:\s*#.*\n)*x",
    r"[^\s\S]+(a+)+$",
    r"(?<=x)y{2,}+z",
    r"\A\d{4}-\d\d-\d\d\Z",
    r"(?P<word>\w+) (?P=word)",
    r".{1000}",
    r"a{0}b{,3}c{2,}",
]

NONE = [
    ("(a", "missing ), unterminated subpattern at position 0"),
    ("a)b", "unbalanced parenthesis at position 1"),
    ("ab[", "unterminated character set at position 2"),
    ("a{5,2}", "min repeat greater than max repeat at position 2"),
    ("*", "nothing to repeat at position 0"),
    (r"\8", "invalid group reference 8 at position 1"),
    ("(?<=a+)b", "look-behind requires fixed-width pattern"),
    ("a(?i)b", "global flags not at the start of the expression at position 1"),
]

RUN = """
import re, signal, sys
signal.setitimer(signal.ITIMER_VIRTUAL, 0.3)
pattern, text = re.compile(sys.argv[1]), eval(sys.argv[2])
pattern.fullmatch(text)
pattern.search(text)
"""


def example_in(said: str) -> str:
    """The text on which an expression is said to explode, as it is written in Python."""
    return re.search("a text such as (.*); write it so", said)[1]


def example_for(pattern: str) -> str:
    with pytest.raises(ValueError, match="catastrophically") as refused:
        compile_pattern(pattern)
    return eval(example_in(str(refused.value)))


def explodes(pattern: str, text: str) -> bool:
    """Whether matching takes more CPU time than it is given."""
    result = subprocess.run([sys.executable, "-S", "-c", RUN, pattern, text], check=False)
    return result.returncode == -signal.SIGVTALRM


@pytest.mark.parametrize(("pattern", "part"), EXPONENTIAL, ids=lambda case: case[:40])
def test_what_explodes_is_refused_and_does(pattern: str, part: str):
    with pytest.raises(ValueError, match=r"^backtracks catastrophically: ") as refused:
        compile_pattern(pattern)
    said = str(refused.value)
    assert f'"{part}" can match the same text in more than one way' in said
    assert explodes(pattern, example_in(said))


@pytest.mark.parametrize("pattern", CAUTION)
def test_what_cannot_be_told_is_refused(pattern: str):
    with pytest.raises(ValueError, match=r"^backtracks catastrophically: "):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", GOOD, ids=lambda pattern: pattern[:40])
def test_what_does_not_is_taken_and_does_not(pattern: str):
    assert compile_pattern(pattern).pattern == pattern


def test_what_is_taken_does_not_explode():
    """All of them in one process, on the texts on which the others explode, and some more."""
    texts = [example_for(pattern) for pattern, _ in EXPONENTIAL]
    texts += [
        word * 30 + "!" for word in ("a", "ab", "a.", "a ", "a@", "1", "1.", "<", '"a', "\\a", "é", "aa:")
    ]
    run = "import re; [re.compile(p).WAY(t) for p in PATTERNS for t in TEXTS]"
    run = run.replace("PATTERNS", repr(GOOD)).replace("TEXTS", repr(texts))
    for way in ("fullmatch", "search"):
        result = subprocess.run(
            [sys.executable, "-S", "-c", run.replace("WAY", way)],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (20, 20)),
            check=False,
        )
        assert result.returncode == 0


def test_the_power_is_told_and_bounded():
    taken = ".*a" * (MAX_DEGREE + 1)
    compile_pattern(taken)
    with pytest.raises(ValueError, match=rf"in some n\^{MAX_DEGREE + 1} ways or more, as in 'a' \* 30"):
        compile_pattern(taken + ".*a")


def test_loops_that_share_no_text_make_no_power():
    compile_pattern("a*b*c*d*e*f*g*h*" * 3)
    compile_pattern(r"\d+-\w+/\d+:\w+,\d+;\w+_\d+!\w+")


@pytest.mark.parametrize(("pattern", "problem"), NONE)
def test_what_is_no_expression(pattern: str, problem: str):
    with pytest.raises(ValueError, match=f"^is no regular expression: {re.escape(problem)}$"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (f".{{{MAX_POSITIONS + 1}}}", "more than 2000 characters"),
        ("(?:a{1000}){1000}", "more than 2000 characters"),
        ("(?:(?:(?:){1999}){1999}){1999}", "its repeats, written out, are too many"),
        (f"(?:{'|'.join(f'{n % 10}x{n}' for n in range(400))})*", "ways from one character to the next"),
        (
            f"(?:{'|'.join(f'a{{{n % 15 + 1}}}{chr(256 + n)}' for n in range(110))})*",
            "too many ways through it",
        ),
    ],
    ids=["long", "nested", "empty", "wide", "alike"],
)
def test_what_is_too_large_to_tell(pattern: str, problem: str):
    with pytest.raises(
        ValueError, match=r"^cannot be checked for catastrophic backtracking: .*; simplify it$"
    ) as e:
        compile_pattern(pattern)
    assert problem in str(e.value)


@pytest.mark.parametrize(
    "pattern",
    ["(" * 5_000 + ")" * 5_000, "(?:" * 1_000 + "a" + ")*" * 1_000, "a" * (MAX_LENGTH + 1), "a{99999999999}"],
    ids=["deep", "deep-loops", "long", "overflow"],
)
def test_absurd_ones_are_refused_as_well(pattern: str):
    with pytest.raises(ValueError, match=r"^(is no regular|cannot be checked|has 10001 char|backtracks)"):
        compile_pattern(pattern)


@pytest.mark.parametrize("flags", [0, re.I, re.I | re.S, re.X | re.M, re.A])
def test_flags_are_written_into_the_text(flags: int):
    pattern = re.compile("(?i)a", flags)
    again = compile_pattern(pattern_text(pattern))
    assert again.flags == pattern.flags
    assert pattern_text(again) == pattern_text(pattern)


def test_flags_count():
    check_pattern(re.compile("(k|K)*$"))
    with pytest.raises(ValueError, match="catastrophically"):
        check_pattern(re.compile("(k|K|kk)*$", re.IGNORECASE))
    check_pattern(re.compile("(.|\n)*$"))
    with pytest.raises(ValueError, match="catastrophically"):
        check_pattern(re.compile("(.|\n\\b)*$", re.DOTALL))
