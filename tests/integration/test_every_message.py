"""Every message of a migration is the last one that gets through: afterwards there is one guest, and it is whole.

`make matrix` (pytest --matrix) does every action at every message of every mode; otherwise it is a few, evenly spread,
others each time. What is seen is printed as (action, verdict) with the number of times.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import StartEmulator
from tests.framework.chain import Chain
from tests.framework.matrix import ACTIONS, Postcopy, Precopy, Recovery, Scenario, places, spread

VERIFY = ("workload=verify start=16M end=20M seed=1", "ok\nV", "V")

A_FEW = len(ACTIONS)
"""Messages of each mode when not all are wanted."""

FEW_ALIKE = {"plain": 4, "tls": 12}
"""Of how many alike these are chosen; records of TLS are all alike."""

MODES: dict[str, type[Scenario]] = {"precopy": Precopy, "postcopy": Postcopy, "recovery": Recovery}


def _scenario(mode: str, keys: Path | None, start: StartEmulator) -> Scenario:
    kind = MODES[mode]
    return kind(Chain(start, VERIFY, keys, kind.capabilities))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("action", [None, *ACTIONS])
@pytest.mark.parametrize("security", ["plain", "tls"])
@pytest.mark.parametrize("mode", list(MODES))
def test_whatever_happens_at_a_message_there_is_one_guest_and_it_is_whole(
    mode: str, security: str, action: str | None, start: StartEmulator, pki: Path, request: pytest.FixtureRequest
) -> None:
    everything = bool(request.config.getoption("--matrix"))
    if everything == (action is None):
        pytest.skip("with --matrix one action at all messages, otherwise all actions at a few messages")
    seed = random.randrange(1 << 32)
    print("seed", seed)
    scenario = _scenario(mode, pki if security == "tls" else None, start)
    found = places(scenario.reference(), most=40 if everything else FEW_ALIKE[security])
    assert len(found) >= 12, found
    if action is not None:
        plan = [(place, action) for place in found]
    else:
        chance = random.Random(seed)
        actions = chance.sample(ACTIONS, len(ACTIONS))
        plan = list(zip(spread(found, A_FEW, chance), actions, strict=True))
    for place, what in plan:
        print(place, "-", what, end=": ", flush=True)
        print(scenario.trial(place, what), flush=True)
    if isinstance(scenario, Recovery):
        print("at last:", scenario.end())
    scenario.chain.check()
    print(f"{mode} {security}: {len(plan)} messages")
    for (what, verdict), count in sorted(scenario.verdicts.items()):
        print(f"{count:5}  {what}: {verdict}")
    assert sum(scenario.verdicts.values()) == len(plan)
