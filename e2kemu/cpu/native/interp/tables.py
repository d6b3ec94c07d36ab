"""The decoder's tables, made from ``cpu/isa`` for one instruction set: which operation a code means, what it has.

    index        6 x 257 x 128 x u16    by channel, 1 + opc2 of long operations, cop: the first candidate, 0: none
    candidates   16 bytes each          the rows with this code, the most specific first (``layout.CANDIDATE``)
    operations   48 bytes each          handlers, flags, bits that must have a value (``layout.OPERATION``)
    access       256 x u8               state registers that rrd reads here: bit 0 by users, bit 1 by the system;
                                        bits 2 and 3: that rwd writes here
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2kemu.cpu import sregs
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.registers import STATE_REGISTERS
from e2kemu.cpu.native.interp import layout as at
from e2kemu.cpu.state import TIR_LO

_UNUSED = {"ALOPF8": (0xFF0000, 0xC00000), "ALOPF17": (0xE0, 0)}
"""Format -> bits of ALS without a field, and their value."""
_SLOT_BITS = {"src1": 1, "src2": 2, "src4": 4, "dst": 4}


@dataclass(frozen=True)
class Tables:
    """All of them; they must live as long as code is decoded by them."""

    index: NDArray[np.uint16]
    candidates: NDArray[np.uint8]
    operations: NDArray[np.uint64]
    access: NDArray[np.uint8]
    covered: int
    """Rows of the description that have a handler."""
    rows: int
    """Rows there are in this instruction set."""


def _flags(op: Op) -> int:
    flags = 0
    for bit, slot in ((at.HAS_SRC1, "src1"), (at.HAS_SRC2, "src2"), (at.HAS_SRC3, "src3"), (at.HAS_SRC4, "src4"),
                      (at.HAS_DST, "dst"), (at.HAS_PRED, "pred"), (at.LOADS, ""), (at.STORES, "")):
        if slot in op.fmt.slots:
            flags |= bit
    letters = dict(zip((s for s in op.fmt.slots if s not in ("pred", "sreg")), op.sizes, strict=False))
    flags |= at.LOADS if op.load else 0
    flags |= at.STORES if op.store else 0
    flags |= at.MERGES if op.merges else 0
    for bit, slot in ((at.PAIR_DST, "dst"), (at.PAIR_SRC4, "src4"), (at.PAIR_SRC2, "src2")):
        flags |= bit if letters.get(slot) == "Q" else 0
    if op.fmt.name == "ALOPF16":
        flags |= at.STATE_READ
    if op.fmt.name == "ALOPF15":
        flags |= at.STATE_WRITE
    if op.family == "movt" and "Q" not in op.sizes:
        flags |= at.TO_CTPR
    if op.pair:
        flags |= int(op.pair[1]) - int(op.pair[0]) << at.PARTNER
        flags |= sum(_SLOT_BITS[slot] for slot in op.paired_slots) << at.PAIRED_SLOTS
    if op.load or op.store:
        flags |= at.SPECULATIVE_APART
    return flags


Find = Callable[[Op, str], int]
"""(operation, variant of ``handlers.VARIANTS``) -> address of its handler, 0 when there is none."""


def make(version: int, find: Find) -> Tables:
    """The tables of instruction set ``version``."""
    index = np.zeros(6 * 257 * 128, dtype=np.uint16)
    candidates: list[tuple[int, int, int, int, int, int]] = [(0, 0, 0, 0, 0, 1)]
    operations: list[tuple[int, ...]] = [(0, 0, 0, 0, 0, 0)]
    numbers: dict[Op, int] = {}
    covered = 0
    for key, codes in table.codes(version).items():
        channel, is_long, opc2, cop = key >> 16, key >> 15 & 1, key >> 7 & 0xFF, key & 0x7F
        index[(channel * 257 + (1 + opc2 if is_long else 0)) * 128 + cop] = len(candidates)
        for mask, value, ales_lo, mas, op in codes:
            if op not in numbers:
                numbers[op] = len(operations)
                flags = _flags(op)
                first = find(op, "")
                second = find(op, "ctpr" if flags & at.TO_CTPR else "speculative")
                bits, expected = _UNUSED.get(op.fmt.name, (0, 0))
                covered += bool(first or flags & (at.STATE_READ | at.STATE_WRITE))
                operations.append((first, second, flags, bits | expected << 32, find(op, "probe"),
                                   find(op, "speculative probe")))
            candidates.append((mask, value, ales_lo & 0xFFFF, mas & 0xFFFF, numbers[op], op is codes[-1][-1]))
    packed = np.array(candidates, dtype=[("mask", "<u4"), ("value", "<u4"), ("low", "<u2"), ("mas", "<u2"),
                                         ("op", "<u2"), ("last", "<u2")])
    return Tables(index, packed.view(np.uint8), np.array(operations, dtype=np.uint64), _access(version), covered,
                  len(numbers))


def _access(version: int) -> NDArray[np.uint8]:
    found = np.zeros(256, dtype=np.uint8)
    for register in STATE_REGISTERS:
        plain = register.kind == "stored" and register.number not in (sregs.IP, sregs.NIP)
        if plain and register.since <= version <= register.until and "r" in register.access:
            found[register.number] = 2 | ("r" in register.user_access)
            if "w" in register.access and register.number not in sregs.OBSERVED:
                found[register.number] |= 8 | ("w" in register.user_access) << 2
    # reading it has a consequence
    found[TIR_LO] = 0
    return found
