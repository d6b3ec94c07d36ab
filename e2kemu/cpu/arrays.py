"""The array prefetch program at run time: started by ``bap``, ended by ``eap``, stopped and resumed by traps.

The unit of real hardware runs the program ahead of the loop and keeps what it has read in a buffer. Ours reads
an element when ``mova`` asks for it. So starting means to resolve every instruction of the program
(``fapb``, 16 bytes for the left and the right half) into an area of the CPU state: where its array begins, the
index it starts at, how far it steps. What the program cannot read becomes an area without a
format, and ``mova`` from there gives a diagnostic value. When a page of the program itself is missing, or may not be
executed, nothing runs: a trap comes behind the wide instruction, and ``resume`` tries again when it is done.

    element = descriptor base + current index (+ ind of mova);  index starts at %aaind + disp
    after each advance: index += %aaincr << (fmt - 1)

Index arithmetic is 32 bits wide up to v4 (an index that leaves them reads nothing) and 64 bits from v5.

**Traps.** A handler may save and bring back %aaldi, or find the index of each area from the counters of the loop, as
Linux does: start + step * (iterations that are over + %aaldm of the area); %aaldm says that the area has stepped in
this iteration already. An area whose %aaldv it clears starts at its beginning.
"""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.cpu.isa.aau import (
    AAD_NUMERIC,
    AASR_IAB,
    APB_ENTRIES,
    ITEMS,
    LDS,
    LDS_ACTIVE,
    LDS_STOPPED,
    Slot,
)
from e2kemu.cpu.isa.formats import APS
from e2kemu.cpu.state import ILCR, LSR, CpuState
from e2kemu.cpu.windows import Trap

M32, M48, M64 = (1 << 32) - 1, (1 << 48) - 1, (1 << 64) - 1
_AREAS = 2 * APB_ENTRIES


def start(state: CpuState, load: Callable[[int, int], int], ctpr: int) -> None:
    """bap: run the program at the address in ``ctpr``. ``load`` gives 8 bytes, or -1 where there is nothing. Raises
    what ``load`` raises, with the program stopped before its beginning."""
    stop(state)
    state.A[Slot.AALDV] = 0
    _run(state, load, ctpr)


def _run(state: CpuState, load: Callable[[int, int], int], ctpr: int) -> None:
    """Run the program: from its beginning where %aaldv is 0, else with the indices that are in the registers."""
    a = state.A
    a[Slot.AASR] = a[Slot.AASR] & ~LDS | LDS_ACTIVE | AASR_IAB
    going = a[Slot.AALDV]
    for area, word in _program(load, ctpr & M48):
        if not going >> area & 1:
            a[Slot.AALDI + area] = _first(state, word)
        _resolve(state, area, word)


def _first(state: CpuState, word: int) -> int:
    """The index that an instruction of the program starts at."""
    disp = word >> 32
    index = state.A[Slot.AAIND + APS["ind"].of(word & M32)]
    if state.model.version >= 5:
        return index + ((disp ^ 1 << 31) - (1 << 31)) & M64
    return index + disp & M32


def stop(state: CpuState) -> None:
    """eap: the program has ended; nothing can be read until the next one starts."""
    a = state.A
    a[Slot.INFO : Slot.INFO + _AREAS] = _NOTHING
    a[Slot.AASR] &= ~(LDS | AASR_IAB) & M64


def suspend(state: CpuState, load: Callable[[int, int], int], ctpr: int) -> None:
    """A trap has come: the handler finds a running program stopped, and in %aaldm what its areas have done of this
    iteration. ``load`` as for ``start``."""
    a = state.A
    if a[Slot.AASR] & LDS != LDS_ACTIVE:
        return
    try:
        program = _program(load, ctpr & M48) if a[Slot.AALDV] else []
    except Trap:
        program = []        # a page of it has gone: the handler finds that, too
    over = _iterations(state)
    stepped = 0
    for area, word in program:
        step, way = a[Slot.STEP + area], a[Slot.AALDI + area] - _first(state, word)
        if step and a[Slot.AALDV] >> area & 1 and way & M64 == step * (over + 1) & M64:
            stepped |= 1 << area
    a[Slot.AALDM] = stepped
    a[Slot.INFO : Slot.INFO + _AREAS] = _NOTHING
    a[Slot.AASR] = a[Slot.AASR] & ~LDS | LDS_STOPPED


def _iterations(state: CpuState) -> int:
    """Iterations of the loop at hand that are over, by its counters."""
    lsr, first = state.S[LSR], state.S[ILCR]
    over = (first & M32) - (lsr & M32)
    if lsr >> 39 & 1 and not lsr & M32:
        over += (first >> 32 & 31) - (lsr >> 32 & 31) - 1
    return over


def resume(state: CpuState, load: Callable[[int, int], int], ctpr: int) -> None:
    """The handler is done: a stopped program runs on, with the indices that are in the registers. Raises as ``start``.
    """
    if state.A[Slot.AASR] & LDS == LDS_STOPPED:
        _run(state, load, ctpr)


RESET = memoryview(bytearray(8 * ITEMS)).cast("Q")
"""The unit after power-on: %aaincr0 is 1."""
RESET[Slot.AAINCR] = 1
RESET = RESET.toreadonly()

_NOTHING = memoryview(bytes(8 * _AREAS)).cast("Q")


def _program(load: Callable[[int, int], int], address: int) -> list[tuple[int, int]]:
    """(area, instruction) of the program at ``address``, up to the one with ct."""
    found = []
    for number in range(APB_ENTRIES):
        left, right = (load(address + 16 * number + half, 8) for half in (0, 8))
        if left < 0 or right < 0:
            break
        # dpl: the right half has what the left one reads
        found += [(number, left), (APB_ENTRIES + number, left if APS["ct"].of(right & M32) else right)]
        if APS["ct"].of(left & M32):
            break
    return found


def _resolve(state: CpuState, area: int, word: int) -> None:
    a, low = state.A, word & M32
    fmt, descriptor = APS["fmt"].of(low), 2 * APS["d"].of(low)
    if not 1 <= fmt <= 5 or APS["si"].of(low):
        return
    tags = a[Slot.AAIND_TAG] >> APS["ind"].of(low) | a[Slot.AAINCR_TAG] >> APS["incr"].of(low)
    if a[Slot.AAD + descriptor] >> 54 & 7 != AAD_NUMERIC or tags & 1:
        return
    step = a[Slot.AAINCR + APS["incr"].of(low)]
    if state.model.version < 5:
        step = ((step & M32) ^ 1 << 31) - (1 << 31)
    a[Slot.INFO + area] = fmt | (APS["mrng"].of(low) or 32) << 8
    a[Slot.BASE + area] = a[Slot.AAD + descriptor] & M48
    a[Slot.STEP + area] = (step << fmt - 1) & M64
    a[Slot.AALDV] |= 1 << area
