"""Fuzz one target with atheris: ``python tests/fuzz/fuzzing.py TARGET [-runs=N] [any option of libFuzzer]``.

A target is a module ``fuzz_TARGET`` with `check`, which raises when something is wrong with one input, `seeds`, the
inputs to begin with, `WORDS`, what inputs may be made of, and `LONGEST`, how many bytes they have at most: longer ones
find the same, slower. The corpus is made from the seeds in a folder that is removed in the end; an input that makes a
target fail stays in the current folder, as ``crash-…``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import atheris

# Seconds for one input: a hang.
TIMEOUT = 5


def main(target: str, *options: str) -> None:
    """Fuzz until the runs are over or the target fails; exits with the fuzzer's status."""
    with atheris.instrument_imports(include=["qxt_async"]):
        module = import_module(f"fuzz_{target}")
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{target}-") as folder:
        # The fuzzer ends its process on the spot, so it has one of its own.
        if child := os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        for place, seed in enumerate(module.seeds()):
            (corpus / f"{place:05d}").write_bytes(seed)
        escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in module.WORDS]
        words.write_text("".join(f'"{word}"\n' for word in escaped), encoding="ascii")
        fixed = [f"-dict={words}", f"-max_len={module.LONGEST}", f"-timeout={TIMEOUT}", "-rss_limit_mb=1024", *options]
        atheris.Setup([sys.argv[0], *fixed, str(corpus)], module.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
