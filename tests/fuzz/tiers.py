"""Random wide instructions in every tier against the oracle, without end: python -m tests.fuzz.tiers --seconds 3600"""

from __future__ import annotations

import random
import sys
from collections import Counter
from functools import cache

from e2kemu.cpu.decode import decode
from e2kemu.cpu.encode import encode
from e2kemu.cpu.isa.notation import Op
from e2kemu.errors import ImageError
from e2kemu.machine.config import ACCELERATORS
from tests.cpu.guest import CODE
from tests.cpu.native.interp_cases import MODEL_OF, random_wide, usable
from tests.cpu.native.jit_cases import Pairs
from tests.fuzz.loop import main


@cache
def pairs_of(version: int, accel: str) -> Pairs:
    """The guests of an instruction set and a tier."""
    return Pairs(MODEL_OF[version], accel)


@cache
def rows_of(version: int) -> dict[int, list[Op]]:
    """The operations of an instruction set, by channel."""
    return usable(version)


def case(choose: random.Random, seen: Counter[str]) -> None:
    """One wide instruction from four states, in each tier."""
    version = choose.choice(sorted(MODEL_OF))
    try:
        data = encode(random_wide(choose, version, rows_of(version)))
    except ImageError:
        return
    wide = decode(data, version, CODE)
    states = [(choose.getrandbits(40), choose.choice((None, None, 0.0, 0.05))) for _ in range(4)]
    for accel in ACCELERATORS:
        pairs = pairs_of(version, accel)
        pairs.load(data)
        for state, dirty in states:
            pairs.compare(wide, state, dirty)
        seen[accel] += len(states)


if __name__ == "__main__":
    sys.exit(main(case, __doc__ or ""))
