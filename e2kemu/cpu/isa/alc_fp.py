"""Floating point, 32 and 64 bits: arithmetic, compares, conversions, combined operations.

Most operations issue in channels 0, 1, 3, 4; since v4 additions, subtractions and multiplications also
in 2 and 5, with another encoding for the plain ones. Division and square roots are in channel 5.
Meanings: ``floats``. Facts: the operation tables of the binutils port.
"""

from __future__ import annotations

from e2kemu.cpu.isa import floats
from e2kemu.cpu.isa.notation import ALOPF1, ALOPF2, ALOPF7, ALOPF11, ALOPF12, ALOPF21, Channels, row

ALL_SINCE_4: Channels = {1: "0134", 4: "012345"}
"""Channels of combined operations: all six since v4."""

COMPARES = ("eq", "lt", "le", "uod", "neq", "nlt", "nle", "od")
"""Relations of floating point compares; the index is cmpopce, or ALES[7:0] - 0xc0."""

# --- arithmetic -----------------------------------------------------------------------------------

for _cop, _name in ((0x30, "fadd"), (0x32, "fsub"), (0x34, "fmin"), (0x36, "fmax"), (0x38, "fmul")):
    for _step, _size in enumerate("sd"):
        _letters = _size.upper() * 3
        _meaning = floats.two(_name[1:], _size)
        row(_name + _size, ALOPF1, _cop + _step, _letters, "0134", family="fp", meaning=_meaning)
        if _name in ("fadd", "fsub", "fmul"):
            row(_name + _size, ALOPF11, _cop + _step, _letters, "25", since=4, opc2=0x02, ales_lo=0xC0, family="fp",
                meaning=_meaning)

row("fscales", ALOPF11, 0x24, "SSS", "14", since=4, opc2=0x01, ales_lo=0xC0, family="fp", meaning=floats.scaled("s"))
row("fscaled", ALOPF11, 0x25, "DSD", "14", since=4, opc2=0x01, ales_lo=0xC0, family="fp", meaning=floats.scaled("d"))
row("fdivs", ALOPF11, 0x48, "SSS", "5", opc2=0x01, ales_lo=0xC0, family="fp", meaning=floats.two("div", "s"))
row("fdivd", ALOPF11, 0x49, "DDD", "5", opc2=0x01, ales_lo=0xC0, family="fp", meaning=floats.two("div", "d"))
row("fsqrttd", ALOPF11, 0x51, "DDD", "5", opc2=0x01, ales_lo=0xC0, family="fp", meaning=floats.second_step_of_root("d"))
row("fstoifs", ALOPF11, 0x6C, "SSS", "0134", since=3, opc2=0x01, ales_lo=0xC0, family="fp", meaning=floats.whole("s"))
row("fdtoifd", ALOPF11, 0x6D, "DDD", "0134", since=3, opc2=0x01, ales_lo=0xC0, family="fp", meaning=floats.whole("d"))
row("fsqrts", ALOPF12, 0x4C, "SS", "5", opc2=0x01, ales_lo=0xC0, opce=0xC0, family="fp", meaning=floats.one("sqrt", "s"))
row("fsqrtid", ALOPF12, 0x4D, "DD", "5", opc2=0x01, ales_lo=0xC0, opce=0xC0, family="fp", meaning=floats.first_step())
row("frcps", ALOPF12, 0x50, "SS", "5", opc2=0x01, ales_lo=0xC0, opce=0xC0, family="fp", meaning=floats.one("rcp", "s"))
row("frsqrts", ALOPF12, 0x54, "SS", "5", opc2=0x01, ales_lo=0xC0, opce=0xC0, family="fp", meaning=floats.one("rsqrt", "s"))

# --- compares -------------------------------------------------------------------------------------

for _code, _relation in enumerate(COMPARES):
    for _step, _size in enumerate("sd"):
        _letters = _size.upper() * 2
        row(f"fcmp{_relation}{_size}b", ALOPF7, 0x2E + _step, _letters + "B", "0134", cmpopce=_code, nops=4, family="fp",
            meaning=floats.compared(_relation, _size))
        row(f"fcmp{_relation}{_size}", ALOPF11, 0x2C + _step, _letters + _size.upper(), "0134", opc2=0x01,
            ales_lo=0xC0 + _code, family="fp", meaning=floats.compared_mask(_relation, _size))
for _lo, _relation in ((0xC7, "od"), (0xC3, "ud")):
    row(f"fcmp{_relation}sf", ALOPF11, 0x2E, "SSS", "0134", opc2=0x01, ales_lo=_lo, family="fp", meaning=floats.order("s"))
    row(f"fcmp{_relation}df", ALOPF11, 0x2F, "DDS", "0134", opc2=0x01, ales_lo=_lo, family="fp", meaning=floats.order("d"))

# --- conversions: cop tells the sizes, the src1 byte what is converted ----------------------------

for _name, _cop, _opce, _sizes, _since in (
    ("fstois", 0x3C, 0xC0, "SS", 1), ("fstoistr", 0x3C, 0xC2, "SS", 1), ("istofs", 0x3C, 0xC4, "SS", 1),
    ("fdtoid", 0x3D, 0xC0, "DD", 1), ("fdtoidtr", 0x3D, 0xC2, "DD", 2), ("idtofd", 0x3D, 0xC4, "DD", 1),
    ("idtofx", 0x3D, 0xC5, "DX", 1),
    ("fstoid", 0x3E, 0xC0, "SD", 1), ("fstoidtr", 0x3E, 0xC2, "SD", 2), ("istofd", 0x3E, 0xC4, "SD", 1),
    ("istofx", 0x3E, 0xC5, "SX", 1), ("fstofd", 0x3E, 0xC6, "SD", 1),
    ("fdtois", 0x3F, 0xC0, "DS", 1), ("fdtoistr", 0x3F, 0xC2, "DS", 1), ("idtofs", 0x3F, 0xC4, "DS", 1),
    ("fdtofs", 0x3F, 0xC6, "DS", 1),
):
    row(_name, ALOPF2, _cop, _sizes, "0134", since=_since, opce=_opce, family="fp", meaning=floats.conversion(_name))

# --- combined: cop[6:0] names the first operation and, with opc2, the second ----------------------

for _first, _base in (("add", 0x00), ("sub", 0x02), ("mul", 0x08)):
    _start = 1 if _first == "mul" else 2
    for _second, _offset, _opc2 in (("add", 0x00, 0x0C), ("sub", 0x20, 0x0C), ("rsub", 0x20, 0x0D)):
        for _step, _size in enumerate("sd"):
            row(f"f{_first}_{_second}{_size}", ALOPF21, _base + _offset + _step, _size.upper() * 4, ALL_SINCE_4,
                since=_start, opc2=_opc2, family="fp", meaning=floats.combined(_first, _second, _size))
    if _first != "mul":
        for _step, _size in enumerate("sd"):
            row(f"f{_first}_mul{_size}", ALOPF21, _base + _step, _size.upper() * 4, "0134", until=1, opc2=0x0D,
                family="fp", meaning=floats.combined(_first, "mul", _size))

# --- fused multiply-add of v6: a * b +- c, and its negative -----------------------------------------

for _cop, _name in ((0x00, "fma"), (0x02, "fms"), (0x04, "fnma"), (0x06, "fnms")):
    for _step, _size in enumerate("sd"):
        row(_name + _size, ALOPF21, _cop + _step, _size.upper() * 4, "012345", since=6, opc2=0x03, family="fp",
            meaning=floats.fused(_name, _size))
