"""Runs one of these under atheris, which looks for inputs that reach new code: `make fuzz` does for all.

`python -m tests.fuzz.coverage NAME SECONDS`; a finding is written to a file and ends it with an error.
"""

import importlib
import pathlib
import sys
import tempfile

import atheris

NAME, SECONDS = sys.argv[1:]


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    with atheris.instrument_imports(include=["gateway"]):
        target = importlib.import_module(f"tests.fuzz.coverage.{NAME}")
    corpus = pathlib.Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    for number, seed in enumerate(target.SEEDS):
        (corpus / str(number)).write_bytes(seed)
    dictionary = corpus.with_suffix(".dict")
    words = ("".join(f"\\x{octet:02x}" for octet in word) for word in target.WORDS)
    dictionary.write_text("".join(f'"{word}"\n' for word in words))
    options = [f"-max_total_time={SECONDS}", "-max_len=4096", "-timeout=5", f"-dict={dictionary}"]
    atheris.Setup([NAME, *options, str(corpus)], target.fuzz)
    atheris.Fuzz()


main()
