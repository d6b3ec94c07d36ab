"""The small operating system changes its emulator while its processes run on two CPUs, and no process notices.

Every process checks in each lap what it left a lap ago, in several pages; a word that is lost or old ends it, and the
kernel says so. The laps that each process reports must go on without gap or repetition over all consoles. Here a few
hops; ``python -m tests.kernel.hops`` makes as many as one likes.
"""

from __future__ import annotations

from pathlib import Path

from e2kemu.demo_kernel import PROCESSES, STEP
from tests.conftest import StartEmulator
from tests.framework.seeds import chosen_seed
from tests.kernel.hops import Hops


def test_no_process_notices_hops_killed_destinations_and_broken_postcopies(start: StartEmulator, pki: Path) -> None:
    hops = Hops(start, pki, seed=chosen_seed(), accel=("jit", "interp"))
    hops.lose_destination("tls")
    for how in ("tcp", "postcopy", "tls"):
        hops.hop(how, breaks=1)
    assert hops.recovered == 1
    assert hops.check() > 4 * STEP * PROCESSES
