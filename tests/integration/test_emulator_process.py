"""The process face of an emulator that scripts use."""

from __future__ import annotations

import pytest

from e2kemu.process import EmulatorEnded
from tests.conftest import StartEmulator
from tests.framework.chain import SMALL


def test_a_guest_that_ends_its_machine_while_qmp_is_asked_is_one_error_with_the_status(start: StartEmulator) -> None:
    emulator = start("quitter", *SMALL, "-append", "workload=nonsense", "-S")
    assert emulator.status() == "prelaunch"
    emulator.qmp("cont")
    with pytest.raises(EmulatorEnded, match="quitter exited with 2: ") as ended:
        emulator.wait_for(emulator.status, lambda state: False, 60, "its end")
    assert ended.value.status == 2
    with pytest.raises(EmulatorEnded, match="quitter exited with 2: "):
        emulator.status()
    with pytest.raises(EmulatorEnded):
        emulator.wait_status("paused")
