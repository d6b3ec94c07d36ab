"""The array access unit: its registers, and the ALC operations that store, load and access through it.

The array operand is ALS[23:8] (``formats.AAU``). ``aaurw`` and ``aaurr`` have the bits of the array
stores and loads; the memory access specifier 0x3f selects them. Facts: register codes of the binutils
port; the index of a register is in the field ``d`` (aad, aadr, aaldi, aalda) or ``ind`` (the others,
seen in the words of ``aaurrd,5 %aasti1`` and ``aaurw,2 %r4, %aaincr1``; of aabf it is inferred from the
number of registers).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from e2kemu.cpu.isa.formats import AAU, MAS_AAU
from e2kemu.cpu.isa.lanes import halves
from e2kemu.cpu.isa.notation import ALOPF10, ALOPF19, ALOPF20, row


@dataclass(frozen=True)
class AauFamily:
    """Registers ``name``0 .. ``name``(count-1) of one code; ``index`` is the field with the number (None: one register)."""

    name: str
    code: int
    count: int
    index: str | None

    def opce1(self, number: int) -> int:
        """ALS[23:8] that names register ``number``."""
        return AAU["code"].put(self.code) | (AAU[self.index].put(number) if self.index else 0)


FAMILIES = (
    AauFamily("%aad", 0x00, 32, "d"),
    AauFamily("%aasti", 0x01, 16, "ind"),
    AauFamily("%aaind", 0x02, 16, "ind"),
    AauFamily("%aaincr", 0x03, 16, "ind"),
    AauFamily("%aaldi", 0x04, 32, "d"),
    AauFamily("%aalda", 0x05, 32, "d"),
    AauFamily("%aafstr", 0x08, 1, None),
    AauFamily("%aaldv", 0x09, 1, None),
    AauFamily("%aaldm", 0x0A, 1, None),
    AauFamily("%aabf", 0x0C, 16, "ind"),
    AauFamily("%aadr", 0x10, 32, "d"),
    AauFamily("%aasti_tag", 0x11, 1, None),
    AauFamily("%aaind_tag", 0x12, 1, None),
    AauFamily("%aaincr_tag", 0x13, 1, None),
    AauFamily("%aasr", 0x1B, 1, None),
)

REGISTERS: dict[str, int] = {
    family.name + (str(number) if family.index else ""): family.opce1(number)
    for family in FAMILIES for number in range(family.count)
}
"""Register name -> ALS[23:8]."""

NAMES: dict[int, str] = {opce1: name for name, opce1 in REGISTERS.items()}
"""ALS[23:8] -> register name."""

class Slot(IntEnum):
    """Where the registers are in the unit's part of the CPU state (64-bit items); families start at their name.

    ``AALDI`` (current byte index), ``INFO``, ``BASE`` and ``STEP`` have an item per area: 0..31 of the left
    side (array channels 0 and 1), 32..63 of the right one. The last three hold the instruction of the running
    prefetch program, resolved when it starts: ``INFO`` is fmt | mrng << 8, 0 where nothing can be read.
    """

    AAD = 0             # two items each: base, size
    AASTI = 64
    AAIND = 80
    AAINCR = 96
    AALDI = 112
    AALDA = 176         # four areas an item
    INFO = 192
    BASE = 256
    STEP = 320
    AASTI_TAG = 384
    AAIND_TAG = 385
    AAINCR_TAG = 386
    AASR = 387
    AAFSTR = 388
    AALDV = 389
    AALDM = 390


ITEMS = 392
"""Items of the unit's part of the CPU state."""

AASR_STB, AASR_IAB = 1 << 5, 1 << 6
"""AASR: store indices are in use, the other registers are in use."""

LDS_NULL, LDS_READY, LDS_ACTIVE, LDS_STOPPED = (lds << 7 for lds in (0, 1, 3, 5))
"""AASR.lds: no program, one prepared, one running, one stopped by a trap."""

LDS = 7 << 7

AAD_INVALID, AAD_DIAGNOSTIC, AAD_NUMERIC = 0, 1, 6
"""AAD.lo[56:54]: never written, a diagnostic value was written, a plain address."""

APB_ENTRIES = 32
"""Instructions of a prefetch program at most, 16 bytes each."""


_PAIRS = {1: "25", 7: "2"}

V = Any


def _array_store(size: int) -> Any:
    def store(v: V, base: V, index: V, value: V) -> None:
        v.store(v.add(base, index, 64), size, value)

    store.__doc__ = f"Store the low {size} bytes at descriptor + index."
    return store


def _array_load(size: int) -> Any:
    def load(v: V, base: V, index: V) -> V:
        return v.load(v.add(base, index, 64), size)

    load.__doc__ = f"Load {size} bytes from descriptor + index, extended with zeros."
    return load


def staa16(v: V, base: V, index: V, low: V, high: V) -> None:
    """Store 16 bytes at descriptor + index."""
    address = v.add(base, index, 64)
    v.store(address, 8, low)
    v.store(v.add(address, v.const(8, 64), 64), 8, high)


def ldaa16(v: V, base: V, index: V) -> tuple[V, V]:
    """Load 16 bytes from descriptor + index."""
    address = v.add(base, index, 64)
    return v.load(address, 8), v.load(v.add(address, v.const(8, 64), 64), 8)


def staa128(v: V, base: V, index: V, value: V) -> None:
    """Store a 128-bit register at descriptor + index."""
    staa16(v, base, index, *halves(v, value))


def aaurw(v: V, value: V) -> V:
    """Write a register of the array access unit."""
    return value


def aaurr(v: V, value: V) -> V:
    """Read a register of the array access unit."""
    return value


for _code, _letter, _size in ((0x1C, "b", "S"), (0x1D, "h", "S"), (0x1E, "w", "S"), (0x1F, "d", "D")):
    row(f"staa{_letter}", ALOPF10, _code, _size, "25", opc2=0x01, ales_lo=0xC0, mas=True,
        store=1 << _code - 0x1C, family="aau", meaning=_array_store(1 << _code - 0x1C))
    row(f"ldaa{_letter}", ALOPF19, _code + 0x40, _size, "25", opc2=0x01, ales_lo=0xC0, mas=True,
        load=1 << _code - 0x1C, family="aau", meaning=_array_load(1 << _code - 0x1C))
row("staaqp", ALOPF10, 0x20, "P", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, store=16, family="aau", meaning=staa128)
row("ldaaqp", ALOPF19, 0x60, "P", "25", since=5, opc2=0x02, ales_lo=0xC0, mas=True, load=16, family="aau", meaning=ldaa16)
row("staaq", ALOPF10, 0x3F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas=True, store=16, pair="25", family="aau",
    meaning=staa16)
row("ldaaq", ALOPF19, 0x7F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas=True, load=16, pair="25", family="aau",
    meaning=ldaa16)

row("aaurws", ALOPF10, 0x1E, "S", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau", meaning=aaurw)
row("aaurw", ALOPF10, 0x1E, "S", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau", meaning=aaurw, alias_of="aaurws")
row("aaurwd", ALOPF10, 0x1F, "D", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau", meaning=aaurw)
row("aaurwq", ALOPF10, 0x3F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, pair="25", family="aau", meaning=aaurw)
row("aaurr", ALOPF20, 0x5E, "S", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau", meaning=aaurr)
row("aaurrd", ALOPF20, 0x5F, "D", "25", opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, family="aau", meaning=aaurr)
row("aaurrq", ALOPF20, 0x7F, "Q", _PAIRS, opc2=0x01, ales_lo=0xC0, mas_code=MAS_AAU, pair="25", family="aau", meaning=aaurr)

MOVA = {1: "movab", 2: "movah", 3: "movaw", 4: "movad", 5: "movaq", 7: "movaqp"}
"""AAS opc -> name of the array read. 0 and 6 are reserved."""

MOVA_BYTES = {1: 1, 2: 2, 3: 4, 4: 8, 5: 8, 7: 16}
"""AAS opc -> bytes read by the channel (movaq takes two channels)."""
