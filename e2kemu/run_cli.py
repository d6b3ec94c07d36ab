"""``e2kemu-run [options] program [argument ...]``: run a Linux/e2k program as if it were one of the host's.

It is ``e2kemu -M linux-user -kernel program -append "arguments"`` with the terminal, the environment and the signals
given to the program; the options are those of ``e2kemu`` (``-qmp``, ``-incoming``, ``-strace`` ...). The status is the
program's, 128 + N when signal N ended it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from e2kemu.startup import without_collector

with without_collector():
    from e2kemu import cli
    from e2kemu.cli_table import OPTIONS
    from e2kemu.loop import report

USAGE = """usage: e2kemu-run [options] program [argument ...]

Runs a Linux/e2k program. The options are those of e2kemu (e2kemu -help), and:
-U name         take a variable out of the program's environment
-incoming uri   needs no program: it comes by migration
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0].lstrip("-") in ("help", "h"):
        sys.stdout.write(USAGE)
        return 0
    options, rest, removed = _split(words)
    incoming = any(word.lstrip("-") == "incoming" for word in options)
    if not rest and not incoming and "version" not in (word.lstrip("-") for word in options):
        report("e2kemu-run: no program given (e2kemu-run -help)")
        return 1
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    environment = [word for name, value in kept.items() for word in ("-E", f"{name}={value}")]
    program = ["-kernel", rest[0], "-append", shlex.join(rest[1:])] if rest else []
    return cli.main(["-machine", "linux-user", "-job-control", *environment, *options, *program])


def _split(words: list[str]) -> tuple[list[str], list[str], set[str]]:
    """Options, the program with its arguments, and the names after -U."""
    options: list[str] = []
    removed: set[str] = set()
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] != "-":
        word = words[index]
        index += 1
        if word == "--":
            break
        if word == "-U":
            removed.add(words[index] if index < len(words) else "")
            index += 1
            continue
        options.append(word)
        option = OPTIONS.get(word.lstrip("-"))
        if option is not None and option.argument and index < len(words):
            options.append(words[index])
            index += 1
    return options, words[index:], removed


if __name__ == "__main__":
    sys.exit(main())
