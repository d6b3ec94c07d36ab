"""Programs that check themselves, one per area, in every executor; and some of them as Linux processes."""

from __future__ import annotations

import pytest

from e2kemu.machine.config import ACCELERATORS
from tests.guest.areas import AREAS
from tests.guest.harness import Area, run

RUNS = [pytest.param(area, model, id=f"{area.name}-{model}") for area in AREAS for model in area.models]


@pytest.mark.parametrize("accel", ACCELERATORS)
@pytest.mark.parametrize(("area", "model"), RUNS)
def test_a_program_finds_what_was_computed_elsewhere(area: Area, model: str, accel: str) -> None:
    assert run(area, model, accel) == "ok"
