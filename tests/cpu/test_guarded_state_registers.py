"""State registers written, and TIR read, under a guard: nothing happens when it is false."""

from __future__ import annotations

import pytest

from tests.cpu.guest import Guest

WINDOW = "{ setwd wsz=16, nfx=1 }\n"


@pytest.mark.parametrize("accel", ["reference", "interp", "jit"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_guarded_write_happens_only_when_it_may(accel: str, value: int) -> None:
    guest = Guest(WINDOW + "addd 0, 7, %dr0\n{ rwd %dr0, %rpr.lo ? %pred0 }\naddd 0, 1, %dr1\n", accel=accel)
    guest.state["pred0"] = value
    assert guest.cpu.run(4) == "limit"
    assert guest.state["rpr.lo"] == 7 * value
    assert guest.state["r1"] == 1


@pytest.mark.parametrize("value", [0, 1])
def test_a_guarded_read_of_tir_takes_it_only_when_it_may(value: int) -> None:
    guest = Guest(WINDOW + "addd 0, 7, %dr0\n{ rrd %tir.lo, %dr0 ? %pred0 }\naddd 0, 1, %dr1\n", accel="reference")
    guest.state["pred0"], guest.state["tir.lo"] = value, 0x5000
    assert guest.cpu.run(4) == "limit"
    assert guest.state["r0"] == (0x5000 if value else 7)
    assert guest.state["tir.lo"] == (0 if value else 0x5000)
