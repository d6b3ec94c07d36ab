"""The loop of a fuzzer: cases from a seed until the time or the count is up, and the command line of it."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType

Case = Callable[[random.Random, Counter[str]], None]
"""Does one case and counts what it saw; raises when something is wrong."""


def run(case: Case, seed: int, seconds: float = 0, count: int = 0, seen: Counter[str] | None = None) -> Counter[str]:
    """Cases 0, 1, 2 ... of ``seed`` until ``seconds`` (0: no limit) or ``count`` (0: no limit) are reached.

    Each case has its own generator, so that ``--first`` repeats it alone. What a case raises is raised, with a
    note that tells how to repeat it. ``seen`` is what is counted in, a new one without it.
    """
    seen = Counter() if seen is None else seen
    start, number = time.monotonic(), 0
    while not (count and number >= count) and not (seconds and time.monotonic() - start >= seconds):
        _one(case, seed, number, seen)
        number += 1
    return seen


def _one(case: Case, seed: int, number: int, seen: Counter[str]) -> None:
    try:
        case(random.Random(f"{seed}/{number}"), seen)
    except Exception as error:
        error.add_note(f"repeat with --seed {seed} --only {number}")
        raise
    seen["cases"] += 1


class _Over(BaseException):
    """The time is up in the middle of a case."""


def _over(signum: int, frame: FrameType | None) -> None:
    raise _Over


def main(case: Case, what: str, *, at_end: Callable[[], None] | None = None) -> int:
    """``--seconds``, ``--count``, ``--seed``, ``--only``: run and print the counts.

    With ``at_end`` the process ends when the time is up, in the middle of a case if need be, and after ``at_end``.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time (default: never)")
    parser.add_argument("--count", type=int, default=0, help="stop after so many cases (default: never)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--only", type=int, help="run just this case of the seed")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    if options.only is not None:
        _one(case, options.seed, options.only, Counter())
        return 0
    seen: Counter[str] = Counter()
    try:
        if at_end is not None and options.seconds:
            signal.signal(signal.SIGALRM, _over)
            signal.setitimer(signal.ITIMER_REAL, options.seconds)
        run(case, options.seed, options.seconds, options.count, seen)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return 130
    except _Over:
        pass
    print(", ".join(f"{number} {name}" for name, number in seen.most_common()), flush=True)
    if at_end is not None:
        at_end()
        os._exit(0)     # what was interrupted may hold any lock: nothing of it is waited for
    return 0


if __name__ == "__main__":
    sys.exit("run tests.fuzz.code or tests.fuzz.asm")
