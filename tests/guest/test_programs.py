"""Programs that check themselves, one per area, in every executor; and some of them as Linux processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2kemu.machine.config import ACCELERATORS
from tests.guest.areas import AREAS
from tests.guest.harness import Area, chain, run

RUNS = [pytest.param(area, model, id=f"{area.name}-{model}") for area in AREAS for model in area.models]


@pytest.mark.parametrize("accel", ACCELERATORS)
@pytest.mark.parametrize(("area", "model"), RUNS)
def test_a_program_finds_what_was_computed_elsewhere(area: Area, model: str, accel: str) -> None:
    assert run(area, model, accel) == "ok"


PROCESSES = [("e8c", accel) for accel in ACCELERATORS] + [("e8c2", ACCELERATORS[0]), ("e16c", ACCELERATORS[0])]


@pytest.mark.parametrize(("model", "accel"), PROCESSES)
def test_a_linux_process_runs_all_programs_of_a_cpu_model(model: str, accel: str, tmp_path: Path) -> None:
    parts = [part for area in AREAS if model in area.models and area.linux for part in area.parts()]
    program = tmp_path / "programs"
    program.write_bytes(chain(parts, model))
    program.chmod(0o755)
    done = subprocess.run([sys.executable, "-m", "e2kemu.run_cli", "-accel", accel, str(program)], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "ok\n" * len(parts))
    assert len(parts) >= 3
