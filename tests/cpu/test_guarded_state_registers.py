"""State registers written, and TIR read, under a guard: nothing happens when it is false."""

from __future__ import annotations

import pytest

from e2kemu.cpu import sregs
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.registers import STATE_REGISTERS
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


@pytest.mark.parametrize(("model", "privileged"), [("e8c", 1), ("e8c", 0), ("e16c", 1), ("e16c", 0)])
def test_registers_that_keep_what_is_written_keep_the_same_in_every_tier(model: str, privileged: int) -> None:
    version = MODELS[model].version
    kept = [register for register in STATE_REGISTERS
            if register.since <= version <= register.until and register.number not in sregs.OBSERVED
            and register.kind == "stored" and "w" in (register.access if privileged else register.user_access)]
    assert len(kept) >= (30 if privileged else 10)
    text = WINDOW
    for number, register in enumerate(kept):
        text += f"addd 0, {0x9E37_79B9_7F4A_7C15 * (number + 1) & (1 << 64) - 1:#x}, %dr0\n"
        text += f"{{ {'rws %r0' if number % 5 == 4 else 'rwd %dr0'}, %{register.name} }}\n"
    ends = []
    for accel in ("reference", "interp", "jit"):
        guest = Guest(text, model, accel=accel)
        guest.state["psr"] = privileged
        assert guest.cpu.run(2 * len(kept) + 1) == "limit", guest.cpu.fatal_message
        ends.append([guest.state.S[register.number] for register in kept] + [guest.state["ilcr"], guest.state.pc])
    assert ends[1] == ends[0]
    assert ends[2] == ends[0]
