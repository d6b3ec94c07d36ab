"""A guest that drives the IOHUB: prints by the Am85C30, resets the machine, finds out why it starts, switches off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu.cpu.asm import assemble
from e2kemu.process import Emulator


def say(label: str, text: str) -> str:
    """Print by channel A: wait for RR0.TxEmpty before every byte."""
    return "".join(
        f"""
{label}{number}:
    {{
        nop 4
        ldb,0 [ %r0 + 0 ], %r2
    }}
    {{
        nop 2
        cmpandesb,0 %r2, 4, %pred0
    }}
        ibranch {label}{number} ? %pred0
        addd,0 0, {byte:#x}, %r2
        stb,2 %r2, [ %r0 + 1 ]
"""
        for number, byte in enumerate(text.encode())
    )


GUEST = f"""
    .text
start:
    {{
        setwd wsz=16, nfx=1
        addd,0 0, 0x81200040, %r0           // Am85C30
    }}
        addd,0 0, 0x200110064, %r1          // software reset, last reset
        addd,0 0, 0x20011104c, %r3          // PM1_CNT
    {{
        nop 4
        ldw,0 [ %r1 + 0 ], %r4
    }}
    {{
        nop 2
        cmpandesb,0 %r4, 0xfc, %pred0
    }}
        ibranch cold ? %pred0
{say("warm", "warm")}
        addd,0 0, 0x3400, %r2               // sleep state 5
        stw,2 %r2, [ %r3 + 0 ]
halt:
        ibranch halt
cold:
{say("cold", "cold")}
        addd,0 0, 1, %r2
        stw,2 %r2, [ %r1 + 0 ]
        ibranch halt
"""


@pytest.mark.parametrize("accel", ["jit", "reference"])
def test_a_guest_resets_itself_once_and_goes_off(
    start: Callable[..., Emulator], tmp_path: Path, accel: str
) -> None:
    rom, out = tmp_path / "rom", tmp_path / "out"
    rom.write_bytes(assemble(GUEST, version=4, base=0x1_0000_0000).data)
    emulator = start("guest", "-M", "elbrus-1.1", "-m", "32M", "-bios", str(rom), "-accel", accel, "-serial", "null",
                     "-serial", f"file:{out}")  # fmt: skip
    assert emulator.wait_exit(60) == 0
    assert out.read_text() == "coldwarm"
