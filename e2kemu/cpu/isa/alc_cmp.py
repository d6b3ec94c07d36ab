"""Integer compares into a predicate register, and the flag-to-predicate conversions.

The code of the condition is ALS[7:5]. The assembler puts ``nop 2`` behind a compare outside braces.
Facts: the operation tables of the binutils port.
"""

from __future__ import annotations

from typing import Any

from e2kemu.cpu.isa.notation import ALOPF7, alu

V = Any
_ALC = "0134"


def _sign(v: V, a: V) -> V:
    return v.trunc(v.lshr(a, v.const(v.bits - 1)), 1)


def _parity(v: V, a: V) -> V:
    """1 when the low byte has an even number of ones."""
    ones = v.popcount(v.and_(a, v.const(0xFF)))
    return v.eq(v.and_(ones, v.const(1)), v.const(0))


@alu("cmposb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=0, nops=2)
@alu("cmpodb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=0, nops=2)
def cmpo(v: V, a: V, b: V) -> V:
    """Signed overflow of src1 - src2."""
    return _sign(v, v.and_(v.xor(a, b), v.xor(a, v.sub(a, b))))


@alu("cmpbsb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=1, nops=2)
@alu("cmpbdb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=1, nops=2)
def cmpb(v: V, a: V, b: V) -> V:
    """src1 below src2, unsigned."""
    return v.ult(a, b)


@alu("cmpesb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=2, nops=2)
@alu("cmpedb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=2, nops=2)
def cmpe(v: V, a: V, b: V) -> V:
    """Equal."""
    return v.eq(a, b)


@alu("cmpbesb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=3, nops=2)
@alu("cmpbedb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=3, nops=2)
def cmpbe(v: V, a: V, b: V) -> V:
    """src1 below or equal to src2, unsigned."""
    return v.xor(v.ult(b, a), v.const(1, 1))


@alu("cmpssb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=4, nops=2)
@alu("cmpsdb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=4, nops=2)
def cmps(v: V, a: V, b: V) -> V:
    """Sign of src1 - src2."""
    return _sign(v, v.sub(a, b))


@alu("cmppsb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=5, nops=2)
@alu("cmppdb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=5, nops=2)
def cmpp(v: V, a: V, b: V) -> V:
    """Even parity of the low byte of src1 - src2."""
    return _parity(v, v.sub(a, b))


@alu("cmplsb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=6, nops=2)
@alu("cmpldb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=6, nops=2)
def cmpl(v: V, a: V, b: V) -> V:
    """src1 less than src2, signed."""
    return v.slt(a, b)


@alu("cmplesb", ALOPF7, 0x20, "SSB", _ALC, cmpopce=7, nops=2)
@alu("cmpledb", ALOPF7, 0x21, "DDB", _ALC, cmpopce=7, nops=2)
def cmple(v: V, a: V, b: V) -> V:
    """src1 less than or equal to src2, signed."""
    return v.xor(v.slt(b, a), v.const(1, 1))


@alu("cmpandesb", ALOPF7, 0x22, "SSB", _ALC, cmpopce=2, nops=2)
@alu("cmpandedb", ALOPF7, 0x23, "DDB", _ALC, cmpopce=2, nops=2)
def cmpande(v: V, a: V, b: V) -> V:
    """src1 & src2 is zero."""
    return v.eq(v.and_(a, b), v.const(0))


@alu("cmpandssb", ALOPF7, 0x22, "SSB", _ALC, cmpopce=4, nops=2)
@alu("cmpandsdb", ALOPF7, 0x23, "DDB", _ALC, cmpopce=4, nops=2)
def cmpands(v: V, a: V, b: V) -> V:
    """src1 & src2 is negative."""
    return _sign(v, v.and_(a, b))


@alu("cmpandpsb", ALOPF7, 0x22, "SSB", _ALC, cmpopce=5, nops=2)
@alu("cmpandpdb", ALOPF7, 0x23, "DDB", _ALC, cmpopce=5, nops=2)
def cmpandp(v: V, a: V, b: V) -> V:
    """The low byte of src1 & src2 has even parity."""
    return _parity(v, v.and_(a, b))


@alu("cmpandlesb", ALOPF7, 0x22, "SSB", _ALC, cmpopce=7, nops=2)
@alu("cmpandledb", ALOPF7, 0x23, "DDB", _ALC, cmpopce=7, nops=2)
def cmpandle(v: V, a: V, b: V) -> V:
    """src1 & src2 is zero or negative."""
    both = v.and_(a, b)
    return v.or_(v.eq(both, v.const(0)), _sign(v, both))
