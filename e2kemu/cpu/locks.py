"""What several CPUs see of one another's accesses to memory: locks, conditional stores, order.

    {ldd,0 [addr] mas=7, r}                              a lock load: the CPU remembers address, size and value
    {std,2 [addr] mas=2, v; ibranch again ? %MLOCK}      stores if nobody has written there since, else sets %MLOCK

A lock is held *by value*: the conditional store is one compare-exchange of the host on the very bytes that were
loaded. That is what loops of this kind can tell, but for a value that changed and changed back. The lock is lost with
the first conditional store, at every trap and interrupt (what was read between a lock load and its store was read
undisturbed), and it does not count for a store of another address or size.

Which accesses these are (MAS: mod[2:0] be[3] m1[4]; from v6 on m3[5] mt[6] with m1):

    load, channel 0 or 3     mod 7, 5 for two doubles    lock
    load, v6                 mod 3, m1                   acquire
    store                    mod 2 (m1 clear from v6)    conditional
    store, v6                mod 3, m1, m3               conditional
    store, v6                mod 3, m1, m3 clear         release

and which LLVM ordering each has: docs/privileged.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2kemu.cpu.state import CpuState, Slot

if TYPE_CHECKING:
    from e2kemu.cpu.insn import AluInsn, Wide
    from e2kemu.cpu.wide_semantics import Staged, WideExecution

V = Any
M64 = (1 << 64) - 1

ORDERED = 0x10
"""MAS m1: from v6 on, with mod 3, a specifier of the memory's order."""
CONDITIONAL = 0x20
"""MAS m3 of an ordered store."""

FULL, ACQUIRE, RELEASE = "seq_cst", "acquire", "release"
"""Orders, by LLVM's names."""

_PLAIN_WAITS = ("all_c", "ma_c", "fl_c")


# --- what an instruction asks for ----------------------------------------------------------------------------------

def takes(insn: AluInsn) -> bool:
    """A lock load."""
    mod = insn.mas & 7
    return bool(insn.op.load) and not insn.sm and insn.channel in (0, 3) and (
        mod == 7 or (mod == 5 and insn.op.load == 16)) and "mqp" not in insn.op.name


def conditional(insn: AluInsn, version: int) -> bool:
    """A store that happens only while the lock is held."""
    if not insn.op.store or insn.sm or "mqp" in insn.op.name or insn.op.family == "record":
        return False
    if version < 6:
        return insn.mas & 7 == 2
    return insn.mas & (7 | ORDERED) == 2 or insn.mas & (7 | ORDERED | CONDITIONAL) == 3 | ORDERED | CONDITIONAL


def order(insn: AluInsn, version: int) -> str:
    """LLVM's name of the order that a plain access asks for, "" for none beside that of all."""
    if version < 6 or insn.mas & (7 | ORDERED) != 3 | ORDERED or insn.sm:
        return ""
    return ACQUIRE if insn.op.load else RELEASE


def waits(wide: Wide) -> str:
    """The order that a wide instruction's ``wait`` asks for, "" when there is none.

    sas, las, sal and lal make st_c and ld_c less: only stores (s) or loads (l) behind it wait for stores (s) or
    loads (l) before it.
    """
    bits = next((op.fields for op in wide.cs1 if op.name == "wait"), None)
    if bits is None:
        return ""
    if any(bits.get(name) for name in _PLAIN_WAITS):
        return FULL
    stores, loads = bits.get("st_c"), bits.get("ld_c")
    stores_only = bits.get("sas") and not bits.get("las")
    if stores and not stores_only:
        return FULL
    if stores and loads:
        return "acq_rel"
    if stores:
        return RELEASE
    return ACQUIRE if loads else ""


# --- the lock of a CPU --------------------------------------------------------------------------------------------

def take(state: CpuState, address: int, size: int, low: int, high: int) -> None:
    """Remember what a lock load has read."""
    x = state.X
    x[Slot.LOCK_ADDRESS], x[Slot.LOCK_LOW], x[Slot.LOCK_HIGH], x[Slot.LOCK_SIZE] = address & M64, low, high, size


def give(state: CpuState, address: int, size: int) -> int:
    """The value that must still be at ``address`` for a conditional store, -1: no lock is held there. It is lost."""
    x = state.X
    held = x[Slot.LOCK_SIZE] == size and x[Slot.LOCK_ADDRESS] == address & M64
    x[Slot.LOCK_SIZE] = 0
    return x[Slot.LOCK_LOW] | x[Slot.LOCK_HIGH] << 64 if held else -1


def lose(state: CpuState) -> None:
    """A trap, an interrupt, another thread: whatever lock was held is not any more."""
    state.X[Slot.LOCK_SIZE] = 0


# --- phases of a wide instruction -----------------------------------------------------------------------------------

def loaded(ex: WideExecution, one: Staged, address: V, result: V) -> None:
    """Phase 2: a load has read ``result`` (as in memory)."""
    m, op = ex.m, one.insn.op
    if not takes(one.insn):
        return
    high: V = 0
    if isinstance(result, tuple):
        result, high = result
    elif op.sizes[-1] == "P":
        result, high = m.trunc(result, 64), m.lshr(result, 64)
    m.take_lock(address, op.load, result, high)


def store(ex: WideExecution, address: V, size: int, low: V, high: V) -> None:
    """Behind the other stores: a conditional store; MLOCK when it did not happen."""
    m = ex.m
    done = m.store_locked(address, size, m.trunc(low, 8 * min(size, 8)), high)
    m.put(ex.mlock, m.or_(m.get(ex.mlock), m.xor(done, 1)))
