"""What a floating-point primitive does to a CPU: results, sticky flags, exceptions, the same for every machine.

PFPFR has control and flags in one: flags 5:0, masks 12:7, rounding 14:13, flush to zero 15, flags of speculative
operations 31:26. For 80 bits FPCR has masks 5:0, precision 9:8, rounding 11:10, and FPSR has flags 5:0 and,
once an exception was raised, 7 (es) and 15 (bf). Layout: the kernel headers of the e2k port of Linux.

All primitives of a wide instruction see the control register from before it; their flags are added to the
register at its end. An exception that is not masked raises exc_fp: the wide instruction does nothing but show its
flags. In a speculative operation it makes the result diagnostic instead, and its flags go to PFPFR bits 31:26.
Where an operand is diagnostic there is nothing to compute: no flags, no exception.

A machine has, besides what the value builder asks for::

    diagnostic: bit                an operand of the operation at hand is diagnostic
    fp_flags: dict[int, slot]      state register -> flags of this wide instruction; emptied before each
    fp_enabled()                   raise exc_fp_disabled unless UPSR.fe is set
    fp_primitive(operation, operands, control) -> (value, flags)
                                   a primitive of the table; flags are a 64-bit value
    fp_raised(flags, control, shift) -> bit
                                   one of the flags has its mask, from bit ``shift`` on, clear
    fp_trap(number, flags)         add flags to a state register and raise exc_fp
"""

from __future__ import annotations

from typing import Any

from e2kemu.cpu.fp.operations import OPERATIONS
from e2kemu.cpu.isa.registers import BY_NAME

V = Any

PFPFR, FPCR, FPSR = (BY_NAME[name].number for name in ("pfpfr", "fpcr", "fpsr"))
PFPFR_MASKS, FPCR_MASKS = 7, 0
"""First bit of the masks."""
SPECULATIVE = 26
"""First bit of PFPFR's flags of speculative operations."""
RAISED = 1 << 7 | 1 << 15
"""FPSR.es and bf."""
BEFORE = 7
"""Invalid, denormal, division by zero: found in the operands; when one of them traps no result has flags."""


def perform(m: Any, name: str, operands: tuple[V, ...]) -> V:
    """The value of a primitive on machine ``m``; its flags and exceptions are taken care of."""
    m.fp_enabled()
    operation = OPERATIONS[name]
    packed = operation.register == "pfpfr"
    control = m.sreg(PFPFR if packed else FPCR)
    status = PFPFR if packed else FPSR
    result, flags = m.fp_primitive(operation, operands, control)
    if not (isinstance(m.diagnostic, int) and not m.diagnostic):
        flags = m.select(m.diagnostic, m.const(0, 64), flags)
    raised = m.fp_raised(flags, control, PFPFR_MASKS if packed else FPCR_MASKS)
    if status not in m.fp_flags:
        m.fp_flags[status] = m.staged(0)
    slot = m.fp_flags[status]
    if m.speculative:
        m.fault = m.or_(m.fault, raised)
        apart = m.shl(flags, m.const(SPECULATIVE, 64), 64) if packed else m.const(0, 64)
        flags = m.select(raised, apart, flags)
    else:
        m.if_(raised, lambda: m.fp_trap(status, m.or_(m.get(slot), flags)))
    m.put(slot, m.or_(m.get(slot), flags))
    return result


def control_of(number: int) -> int:
    """The control register that goes with a register of flags."""
    return FPCR if number == FPSR else PFPFR


def trapped(number: int, flags: int, control: int) -> int:
    """What an exception that is not masked adds to state register ``number``, of the flags of a wide instruction."""
    masks = control >> (PFPFR_MASKS if number == PFPFR else FPCR_MASKS)
    if flags & ~masks & BEFORE:
        flags &= ~63 | BEFORE
    return flags | RAISED if number == FPSR else flags
