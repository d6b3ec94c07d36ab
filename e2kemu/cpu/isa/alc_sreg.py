"""Reading and writing state registers (channel 0). The registers are those of ``isa.registers``."""

from __future__ import annotations

from typing import Any

from e2kemu.cpu.isa.notation import ALOPF15, ALOPF16, alu

V = Any


@alu("rws", ALOPF15, 0x3C, "S", "0", opc2=0x01, ales_lo=0xC0, opce=0xC0, nops=5)
def rws(v: V, value: V, number: int) -> None:
    """Write 32 bits, extended with zeros, to a state register."""
    v.write_sreg(number, v.zext(value, 64))


@alu("rwd", ALOPF15, 0x3D, "D", "0", opc2=0x01, ales_lo=0xC0, opce=0xC0, nops=5)
def rwd(v: V, value: V, number: int) -> None:
    """Write 64 bits to a state register."""
    v.write_sreg(number, value)


@alu("rrs", ALOPF16, 0x3E, "S", "0", opc2=0x01, ales_lo=0xC0, opce=0xC0)
def rrs(v: V, number: int) -> V:
    """Read the low 32 bits of a state register."""
    return v.trunc(v.read_sreg(number), 32)


@alu("rrd", ALOPF16, 0x3F, "D", "0", opc2=0x01, ales_lo=0xC0, opce=0xC0)
def rrd(v: V, number: int) -> V:
    """Read a state register."""
    return v.read_sreg(number)
