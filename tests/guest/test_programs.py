"""Programs that check themselves, one per area, in every executor; and some of them as Linux processes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from e2kemu.cpu.isa.cu import CS0_OPS, CS1_OPS
from e2kemu.machine.config import ACCELERATORS
from tests.framework import forked
from tests.guest.areas import AREAS
from tests.guest.harness import PROGRAMS, Area, chain, run

RUNS = [pytest.param(area, model, id=f"{area.name}-{model}") for area in AREAS for model in area.models]


@pytest.mark.parametrize("accel", ACCELERATORS)
@pytest.mark.parametrize(("area", "model"), RUNS)
def test_a_program_finds_what_was_computed_elsewhere(area: Area, model: str, accel: str) -> None:
    assert run(area, model, accel) == "ok"


NOT_OF_PROGRAMS = {"hcall", "hret", "glaunch", "puttsd", "gettsd", "vfbg"}
"""Operations of virtual machines, of type descriptors, of protected mode: nobody says what they do; they trap."""


def test_every_operation_of_the_control_unit_is_in_a_program() -> None:
    text = "\n".join(path.read_text() for path in PROGRAMS.iterdir())
    names = {op.name for op in (*CS0_OPS, *CS1_OPS)} - NOT_OF_PROGRAMS
    names |= {"ct", "rbranch", "abn", "abp", "abg", "abgc", "rbgc", "alc", "bap", "eap", "incr", "loop_mode", "srp",
              "slrp", "crp", "andp", "landp", "movep", "pass", "movab", "movah", "movaw", "movad", "fapb", "mas"}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []
    assert len(names) >= 40


def test_the_programs_make_many_checks() -> None:
    checks = sum(len(part.expected()) for area in AREAS for part in area.parts())
    assert checks > 20_000


PROCESSES = [("e8c", accel) for accel in ACCELERATORS] + [("e8c2", ACCELERATORS[0]), ("e16c", ACCELERATORS[0])]


@pytest.mark.parametrize(("model", "accel"), PROCESSES)
def test_a_linux_process_runs_all_programs_of_a_cpu_model(model: str, accel: str, tmp_path: Path) -> None:
    parts = [part for area in AREAS if model in area.models and area.linux for part in area.parts()]
    program = tmp_path / "programs"
    program.write_bytes(chain(parts, model))
    program.chmod(0o755)
    done = forked.run([sys.executable, "-m", "e2kemu.run_cli", "-accel", accel, str(program)], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "ok\n" * len(parts))
    assert len(parts) >= 3
