"""Generated code against the oracle: random wide instructions, one after the other, from random states."""

from __future__ import annotations

import random

import pytest

from e2kemu.cpu.native.layout import Status
from tests.cpu.native.programs import Tiers
from tests.framework.seeds import chosen_seed

PROGRAMS, LENGTH, STATES = 14, 12, 60
"""Times four test cases: more than ten thousand wide instructions."""


@pytest.mark.parametrize("part", range(4))
def test_regions_do_what_the_oracle_does(part: int) -> None:
    seed = chosen_seed()
    rng = random.Random(f"{seed}/{part}")
    executed = native = 0
    for _ in range(PROGRAMS):
        tiers = Tiers(rng.getrandbits(40), LENGTH)
        translator = tiers.tier.cpu.translator
        assert translator is not None
        translator.eager, translator.level = True, 0
        for _ in range(STATES):
            executed += tiers.compare(rng.getrandbits(40), rng.choice((0.0, 0.0, 0.0, 0.04)))
        native += translator.statistics.executed
        assert translator.statistics.failed == 0
    print(f"{executed} wide instructions, {native} of them in generated code")
    assert executed > PROGRAMS * STATES
    assert native > executed // 10


def test_a_region_leaves_a_trap_to_the_oracle_at_the_wide_instruction_that_raises_it() -> None:
    tiers = Tiers(1, 3)
    translator = tiers.tier.cpu.translator
    assert translator is not None
    translator.eager = True
    for state in range(40):
        tiers.compare(state, 0.3)
    assert translator.statistics.exits.get(Status.STEP, 0) + translator.statistics.exits.get(Status.GUARD, 0) > 0
