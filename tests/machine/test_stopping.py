"""CPUs that stop the machine in the same moment."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.machine.smp_guest import smp

WAIT = 30.0


@pytest.mark.parametrize("accel", ["interp", "jit"])
def test_cpus_that_cannot_go_on_do_not_wait_for_each_other(
    accel: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(2)
    with smp(tmp_path, "        addd,0 %dr40, 0, %dr1\n", 2, accel=accel) as guest:
        stopped = guest.machine._cpu_stopped

        def together(cpu: object, reason: str) -> None:
            barrier.wait(WAIT)
            stopped(cpu, reason)        # type: ignore[arg-type]

        monkeypatch.setattr(guest.machine, "_cpu_stopped", together)
        assert guest.machine.run(timeout=WAIT) == "internal-error"
    assert capfd.readouterr().err.count("no trap table is set") == 2
