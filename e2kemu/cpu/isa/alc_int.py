"""Integer operations of the arithmetic-logic channels: logic, arithmetic, shifts, fields, moves, tags.

``v.bits`` is the width of the operation, 32 for the S and 64 for the D form, so one meaning serves
both. Facts: the operation tables of the binutils port; formulas as the public e2k port of QEMU has
them, checked against its golden vectors. A count of a shift is taken modulo 64; a 32-bit shift by 32..63
shifts everything out (not confirmed on hardware).

``family`` says how an operation treats the tags of its operands:

    ""        a diagnostic source traps, or makes the result diagnostic in speculative mode
    "merge"   only the chosen source counts
    "merge_first"  a combined operation with a merge: every source counts
    "field"   src2 bits 13 and 15 narrow the check of src1 and src3 to their low halves (insf)
    "movt"    the tag is copied with the value (movt, getpl)
    "gettag"  the meaning gets the tag instead of the value
    "puttag"  the meaning gives the value; the low bits of src2 become its tag
    "movif" "movfi" "movx"  work on the extension half of a register
    "getsp"   moves the user stack pointer
"""

from __future__ import annotations

from typing import Any

from e2kemu.cpu.isa.notation import (
    ALOPF1,
    ALOPF2,
    ALOPF11,
    ALOPF12,
    ALOPF21,
    ALOPF22,
    alu,
    row,
)
from e2kemu.cpu.isa.traps import EXC_DIV

V = Any
"""A value of the builder."""

_ALL = "012345"


# --- logic ------------------------------------------------------------------------------------------

@alu("ands", ALOPF1, 0x00, "SSS", _ALL)
@alu("andd", ALOPF1, 0x01, "DDD", _ALL)
def and_(v: V, a: V, b: V) -> V:
    """Bitwise and."""
    return v.and_(a, b)


@alu("andns", ALOPF1, 0x02, "SSS", _ALL)
@alu("andnd", ALOPF1, 0x03, "DDD", _ALL)
def andn(v: V, a: V, b: V) -> V:
    """Bitwise and with the complement of the second source."""
    return v.and_(a, v.not_(b))


@alu("ors", ALOPF1, 0x04, "SSS", _ALL)
@alu("ord", ALOPF1, 0x05, "DDD", _ALL)
def or_(v: V, a: V, b: V) -> V:
    """Bitwise or."""
    return v.or_(a, b)


@alu("orns", ALOPF1, 0x06, "SSS", _ALL)
@alu("ornd", ALOPF1, 0x07, "DDD", _ALL)
def orn(v: V, a: V, b: V) -> V:
    """Bitwise or with the complement of the second source."""
    return v.or_(a, v.not_(b))


@alu("xors", ALOPF1, 0x08, "SSS", _ALL)
@alu("xord", ALOPF1, 0x09, "DDD", _ALL)
def xor(v: V, a: V, b: V) -> V:
    """Bitwise exclusive or."""
    return v.xor(a, b)


@alu("xorns", ALOPF1, 0x0A, "SSS", _ALL)
@alu("xornd", ALOPF1, 0x0B, "DDD", _ALL)
def xorn(v: V, a: V, b: V) -> V:
    """Bitwise exclusive or with the complement of the second source."""
    return v.xor(a, v.not_(b))


# --- add and subtract -------------------------------------------------------------------------------

@alu("adds", ALOPF1, 0x10, "SSS", _ALL)
@alu("addd", ALOPF1, 0x11, "DDD", _ALL)
def add(v: V, a: V, b: V) -> V:
    """Add, wrapping."""
    return v.add(a, b)


@alu("subs", ALOPF1, 0x12, "SSS", _ALL)
@alu("subd", ALOPF1, 0x13, "DDD", _ALL)
def sub(v: V, a: V, b: V) -> V:
    """Subtract, wrapping."""
    return v.sub(a, b)


@alu("addcd", ALOPF21, 0x60, "DDSD", "14", since=5, opc2=0x01)
def addc(v: V, a: V, b: V, c: V) -> V:
    """Add with the carry in bit 0 of the third source."""
    return v.add(v.add(a, b), v.zext(v.and_(c, v.const(1, 32)), 64))


@alu("addcd_c", ALOPF21, 0x61, "DDSD", "14", since=5, opc2=0x01)
def addc_carry(v: V, a: V, b: V, c: V) -> V:
    """The carry out of an add with carry: 0 or 1."""
    total = v.add(a, b)
    with_carry = v.add(total, v.zext(v.and_(c, v.const(1, 32)), 64))
    return v.zext(v.or_(v.ult(total, a), v.ult(with_carry, total)), 64)


@alu("subcd", ALOPF21, 0x62, "DDSD", "14", since=5, opc2=0x01)
def subc(v: V, a: V, b: V, c: V) -> V:
    """Subtract with the borrow in bit 0 of the third source."""
    return v.sub(v.sub(a, b), v.zext(v.and_(c, v.const(1, 32)), 64))


@alu("subcd_c", ALOPF21, 0x63, "DDSD", "14", since=5, opc2=0x01)
def subc_borrow(v: V, a: V, b: V, c: V) -> V:
    """The borrow out of a subtract with borrow: 0 or 1."""
    borrow = v.zext(v.and_(c, v.const(1, 32)), 64)
    return v.zext(v.or_(v.ult(a, b), v.ult(v.sub(a, b), borrow)), 64)


# --- shifts, rotates, fields ------------------------------------------------------------------------

@alu("scls", ALOPF1, 0x14, "SSS", _ALL)
@alu("scld", ALOPF1, 0x15, "DDD", _ALL)
def scl(v: V, a: V, b: V) -> V:
    """Rotate left; the count is taken modulo the width."""
    left = v.and_(b, v.const(v.bits - 1))
    right = v.and_(v.sub(v.const(0), left), v.const(v.bits - 1))
    return v.or_(v.shl(a, left), v.lshr(a, right))


@alu("scrs", ALOPF1, 0x16, "SSS", _ALL)
@alu("scrd", ALOPF1, 0x17, "DDD", _ALL)
def scr(v: V, a: V, b: V) -> V:
    """Rotate right; the count is taken modulo the width."""
    right = v.and_(b, v.const(v.bits - 1))
    left = v.and_(v.sub(v.const(0), right), v.const(v.bits - 1))
    return v.or_(v.lshr(a, right), v.shl(a, left))


@alu("shls", ALOPF1, 0x18, "SSS", _ALL)
@alu("shld", ALOPF1, 0x19, "DDD", _ALL)
def shl(v: V, a: V, b: V) -> V:
    """Shift left by the count modulo 64."""
    if v.bits == 64:
        return v.shl(a, v.and_(b, v.const(63)))
    return v.trunc(v.shl(v.zext(a, 64), v.zext(v.and_(b, v.const(63)), 64), 64), 32)


@alu("shrs", ALOPF1, 0x1A, "SSS", _ALL)
@alu("shrd", ALOPF1, 0x1B, "DDD", _ALL)
def shr(v: V, a: V, b: V) -> V:
    """Logical shift right by the count modulo 64."""
    if v.bits == 64:
        return v.lshr(a, v.and_(b, v.const(63)))
    return v.trunc(v.lshr(v.zext(a, 64), v.zext(v.and_(b, v.const(63)), 64), 64), 32)


@alu("sars", ALOPF1, 0x1C, "SSS", _ALL)
@alu("sard", ALOPF1, 0x1D, "DDD", _ALL)
def sar(v: V, a: V, b: V) -> V:
    """Arithmetic shift right by the count modulo 64."""
    if v.bits == 64:
        return v.ashr(a, v.and_(b, v.const(63)))
    return v.trunc(v.ashr(v.sext(a, 32, 64), v.zext(v.and_(b, v.const(63)), 64), 64), 32)


@alu("getfs", ALOPF1, 0x1E, "SSS", _ALL)
@alu("getfd", ALOPF1, 0x1F, "DDD", _ALL)
def getf(v: V, a: V, b: V) -> V:
    """Get a field: rotate right by b[5:0], keep b[11:6] bits (both modulo the width); b[12] fills the rest with the sign bit.

    The sign is bit (b[5:0] + b[11:6] - 1) modulo 8 of the byte b[15:13], the byte modulo the width as well.
    """
    offset = v.zext(v.and_(b, v.const(63)), 64)
    length = v.zext(v.and_(v.lshr(b, v.const(6)), v.const(v.bits - 1)), 64)
    mask = v.sub(v.shl(v.const(1, 64), length, 64), v.const(1, 64), 64)
    field = v.and_(v.zext(scr(v, a, b), 64), mask)
    byte = v.zext(v.and_(v.lshr(b, v.const(13)), v.const(7)), 64)
    bit = v.and_(v.sub(v.add(offset, length, 64), v.const(1, 64), 64), v.const(7, 64))
    position = v.and_(v.add(v.shl(byte, v.const(3, 64), 64), bit, 64), v.const(v.bits - 1, 64))
    sign = v.and_(v.lshr(v.zext(a, 64), position, 64), v.zext(v.and_(v.lshr(b, v.const(12)), v.const(1)), 64))
    return v.trunc(v.or_(field, v.and_(v.sub(v.const(0, 64), sign, 64), v.not_(mask, 64))), v.bits)


@alu("insfs", ALOPF21, 0x6C, "SSSS", "0134", opc2=0x0B, family="field")
@alu("insfd", ALOPF21, 0x6D, "DDDD", "0134", opc2=0x0B, family="field")
def insf(v: V, a: V, b: V, c: V) -> V:
    """Insert a field: rotate src1 right by b[5:0], then replace its low b[11:6] bits by those of src3."""
    length = v.zext(v.and_(v.lshr(b, v.const(6)), v.const(v.bits - 1)), 64)
    mask = v.trunc(v.sub(v.shl(v.const(1, 64), length, 64), v.const(1, 64), 64), v.bits)
    return v.or_(v.and_(scr(v, a, v.and_(b, v.const(63))), v.not_(mask)), v.and_(c, mask))


@alu("getfzs", ALOPF11, 0x74, "SSS", _ALL, since=5, opc2=0x01, ales_lo=0xC0)
@alu("getfzd", ALOPF11, 0x75, "DDD", _ALL, since=5, opc2=0x01, ales_lo=0xC0)
def getfz(v: V, a: V, b: V) -> V:
    """Get a field: rotate right by b[5:0], keep b[11:6] bits (both modulo the width), b[12] fills the rest with the top bit of the field; then the low b[15:13] bits become 0."""
    length = v.and_(v.lshr(b, v.const(6)), v.const(v.bits - 1))
    mask = v.sub(v.shl(v.const(1), length), v.const(1))
    turned = scr(v, a, b)
    top = v.and_(v.sub(length, v.const(1)), v.const(v.bits - 1))
    sign = v.and_(v.lshr(turned, top), v.and_(v.lshr(b, v.const(12)), v.const(1)))
    field = v.or_(v.and_(turned, mask), v.and_(v.sub(v.const(0), sign), v.not_(mask)))
    zeros = v.sub(v.shl(v.const(1), v.and_(v.lshr(b, v.const(13)), v.const(7))), v.const(1))
    return v.and_(field, v.not_(zeros))


@alu("sxt", ALOPF1, 0x0C, "SSD", _ALL)
def sxt(v: V, a: V, b: V) -> V:
    """Extend the low 8, 16 or 32 bits of src2 (src1[1:0] = 0, 1, 2 or 3); src1[2] = 1: with zeros."""
    log = v.and_(a, v.const(3))
    is_byte, is_half = v.eq(log, v.const(0)), v.eq(log, v.const(1))
    low8, low16 = v.and_(b, v.const(0xFF)), v.and_(b, v.const(0xFFFF))
    zeros = v.zext(v.select(is_byte, low8, v.select(is_half, low16, b)), 64)
    signs = v.select(is_byte, v.sext(b, 8, 64), v.select(is_half, v.sext(b, 16, 64), v.sext(b, 32, 64)))
    return v.select(v.eq(v.and_(a, v.const(4)), v.const(0)), signs, zeros)


# --- bits -------------------------------------------------------------------------------------------

@alu("bitrevs", ALOPF2, 0x26, "SS", "0134", since=2, opce=0xC0)
@alu("bitrevd", ALOPF2, 0x27, "DD", "0134", since=2, opce=0xC0)
def bitrev(v: V, b: V) -> V:
    """Reverse the order of the bits."""
    return v.bitreverse(b)


@alu("lzcnts", ALOPF2, 0x64, "SS", "14", since=2, opce=0xC0)
@alu("lzcntd", ALOPF2, 0x65, "DD", "14", since=2, opce=0xC0)
def lzcnt(v: V, b: V) -> V:
    """Count leading zeros; the width for 0."""
    return v.clz(b)


# --- multiply and divide ----------------------------------------------------------------------------

@alu("muls", ALOPF11, 0x20, "SSS", "0134", opc2=0x01, ales_lo=0xC0)
@alu("muld", ALOPF11, 0x21, "DDD", "0134", opc2=0x01, ales_lo=0xC0)
def mul(v: V, a: V, b: V) -> V:
    """Multiply, low half."""
    return v.mul(a, b)


@alu("umulx", ALOPF11, 0x22, "SSD", "0134", opc2=0x01, ales_lo=0xC0)
def umulx(v: V, a: V, b: V) -> V:
    """Multiply 32 x 32 unsigned bits to 64."""
    return v.mul(v.zext(a, 64), v.zext(b, 64), 64)


@alu("smulx", ALOPF11, 0x23, "SSD", "0134", opc2=0x01, ales_lo=0xC0)
def smulx(v: V, a: V, b: V) -> V:
    """Multiply 32 x 32 signed bits to 64."""
    return v.mul(v.sext(a, 32, 64), v.sext(b, 32, 64), 64)


@alu("umulhd", ALOPF11, 0x70, "DDD", "0134", since=3, opc2=0x01, ales_lo=0xC0)
def umulh(v: V, a: V, b: V) -> V:
    """High half of the unsigned 64 x 64 product."""
    return v.trunc(v.lshr(v.mul(v.zext(a, 128), v.zext(b, 128), 128), v.const(64, 128), 128), 64)


@alu("smulhd", ALOPF11, 0x71, "DDD", "0134", since=3, opc2=0x01, ales_lo=0xC0)
def smulh(v: V, a: V, b: V) -> V:
    """High half of the signed 64 x 64 product."""
    return v.trunc(v.lshr(v.mul(v.sext(a, 64, 128), v.sext(b, 64, 128), 128), v.const(64, 128), 128), 64)


def _clmul(v: V, a: V, b: V) -> V:
    """Carry-less 64 x 64 product, 128 bits."""
    wide, result = v.zext(a, 128), v.const(0, 128)
    for bit in range(64):
        chosen = v.eq(v.and_(v.lshr(b, v.const(bit)), v.const(1)), v.const(1))
        result = v.xor(result, v.select(chosen, v.shl(wide, v.const(bit, 128), 128), v.const(0, 128)))
    return result


@alu("clmull", ALOPF11, 0x14, "DDD", "0134", since=6, opc2=0x03, ales_lo=0xC0)
def clmull(v: V, a: V, b: V) -> V:
    """Low half of the carry-less product."""
    return v.trunc(_clmul(v, a, b), 64)


@alu("clmulh", ALOPF11, 0x15, "DDD", "0134", since=6, opc2=0x03, ales_lo=0xC0)
def clmulh(v: V, a: V, b: V) -> V:
    """High half of the carry-less product."""
    return v.trunc(v.lshr(_clmul(v, a, b), v.const(64, 128), 128), 64)


def _lowest(v: V) -> V:
    return v.const(1 << (v.bits - 1))


@alu("udivs", ALOPF1, 0x40, "SSS", "5")
@alu("udivd", ALOPF1, 0x41, "DDD", "5")
def udiv(v: V, a: V, b: V) -> V:
    """Unsigned quotient; exc_div when the divisor is 0."""
    v.trap_if(v.eq(b, v.const(0)), EXC_DIV)
    return v.udiv(a, b)


@alu("sdivs", ALOPF1, 0x42, "SSS", "5")
@alu("sdivd", ALOPF1, 0x43, "DDD", "5")
def sdiv(v: V, a: V, b: V) -> V:
    """Signed quotient; exc_div when the divisor is 0 or the quotient does not fit."""
    overflow = v.and_(v.eq(a, _lowest(v)), v.eq(b, v.const(-1)))
    v.trap_if(v.or_(v.eq(b, v.const(0)), overflow), EXC_DIV)
    return v.sdiv(a, b)


def _udivx(v: V, a: V, b: V) -> tuple[V, V]:
    """A 64-bit dividend by a 32-bit divisor: the quotient must fit 32 bits."""
    divisor = v.zext(b, 64)
    quotient = v.udiv(a, divisor, 64)
    zero = v.eq(divisor, v.const(0, 64))
    v.trap_if(v.or_(zero, v.ult(v.const(0xFFFF_FFFF, 64), quotient)), EXC_DIV)
    return quotient, v.urem(a, divisor, 64)


def _sdivx(v: V, a: V, b: V) -> tuple[V, V]:
    divisor = v.sext(b, 32, 64)
    quotient = v.sdiv(a, divisor, 64)
    fits = v.eq(v.sext(quotient, 32, 64), quotient)
    zero = v.eq(divisor, v.const(0, 64))
    v.trap_if(v.or_(zero, v.eq(fits, v.const(0, 1))), EXC_DIV)
    return quotient, v.srem(a, divisor, 64)


@alu("udivx", ALOPF1, 0x44, "DSS", "5")
def udivx(v: V, a: V, b: V) -> V:
    """Unsigned 64 by 32 bits: the quotient; exc_div on 0 or when it does not fit 32 bits."""
    return v.trunc(_udivx(v, a, b)[0], 32)


@alu("umodx", ALOPF1, 0x45, "DSS", "5")
def umodx(v: V, a: V, b: V) -> V:
    """Unsigned 64 by 32 bits: the remainder; exc_div as udivx."""
    return v.trunc(_udivx(v, a, b)[1], 32)


@alu("sdivx", ALOPF1, 0x46, "DSS", "5")
def sdivx(v: V, a: V, b: V) -> V:
    """Signed 64 by 32 bits: the quotient; exc_div on 0 or when it does not fit 32 bits."""
    return v.trunc(_sdivx(v, a, b)[0], 32)


@alu("smodx", ALOPF1, 0x47, "DSS", "5")
def smodx(v: V, a: V, b: V) -> V:
    """Signed 64 by 32 bits: the remainder (sign of the dividend); exc_div as sdivx."""
    return v.trunc(_sdivx(v, a, b)[1], 32)


# --- moves ------------------------------------------------------------------------------------------

@alu("merges", ALOPF1, 0x0E, "SSS", _ALL, family="merge")
@alu("merged", ALOPF1, 0x0F, "DDD", _ALL, family="merge")
def merge(v: V, a: V, b: V) -> V:
    """src2 when the condition of the merge holds, else src1."""
    return v.select(v.merge_condition(), b, a)


@alu("movts", ALOPF2, 0x60, "SS", "0134", opce=0xC0, family="movt")
@alu("movtcs", ALOPF2, 0x60, "SS", "0134", opce=0xC1, family="movt")
@alu("movtd", ALOPF2, 0x61, "DD", "0134", opce=0xC0, family="movt")
@alu("movtcd", ALOPF2, 0x61, "DD", "0134", opce=0xC1, family="movt")
def movt(v: V, b: V) -> V:
    """Move a value with its tag; to a CTPR: a numeric transfer address."""
    return b


@alu("movtrs", ALOPF2, 0x60, "SS", "0134", opce=0xC2, family="movt")
@alu("movtrcs", ALOPF2, 0x60, "SS", "0134", opce=0xC3, family="movt")
@alu("movtrd", ALOPF2, 0x61, "DD", "0134", opce=0xC2, family="movt")
@alu("movtrcd", ALOPF2, 0x61, "DD", "0134", opce=0xC3, family="movt")
def movtr(v: V, b: V) -> V:
    """As movt; labels and descriptors, which it would turn into references, raise exc_illegal_operand."""
    return b


def _movtq(v: V, low: V, high: V) -> tuple[V, V]:
    """Move a pair of registers with their tags."""
    return low, high


for _opce, _name in ((0xC0, "movtq"), (0xC1, "movtcq"), (0xC2, "movtrq"), (0xC3, "movtrcq")):
    row(_name, ALOPF22, 0x57, "QQ", {1: "0134", 7: "03"}, opc2=0x01, ales_lo=0xC0, opce=_opce, pair="01/34", family="movt",
        meaning=_movtq)


@alu("gettags", ALOPF12, 0x08, "SS", "25", opc2=0x01, ales_lo=0xC0, opce=0xC0, family="gettag")
@alu("gettagd", ALOPF12, 0x09, "DS", "25", opc2=0x01, ales_lo=0xC0, opce=0xC0, family="gettag")
def gettag(v: V, tag: V) -> V:
    """The tag of the source: 2 bits of a word, 4 bits of a double word."""
    return tag


@alu("puttags", ALOPF11, 0x0A, "SSS", "25", opc2=0x01, ales_lo=0xC0, mas=True, family="puttag")
@alu("puttagd", ALOPF11, 0x0B, "DSD", "25", opc2=0x01, ales_lo=0xC0, mas=True, family="puttag")
@alu("puttagqp", ALOPF11, 0x6C, "PSP", "0134", since=5, opc2=0x02, ales_lo=0xC0, family="puttag")
def puttag(v: V, a: V, b: V) -> V:
    """src1 with the tag given by src2."""
    return a


@alu("movif", ALOPF1, 0x5E, "DSD", {1: "14", 2: "0134"}, family="movif")
def movif(v: V, a: V, b: V) -> V:
    """Make an extended number: the mantissa src1, the sign and exponent src2[15:0] in the extension."""
    return a


@alu("movfi", ALOPF2, 0x5C, "DS", {1: "14", 2: "0134"}, opce=0xC0, family="movfi")
def movfi(v: V, extension: V) -> V:
    """The sign and exponent of an extended number."""
    return v.and_(v.trunc(extension, 32), v.const(0xFFFF, 32))


@alu("movx", ALOPF2, 0x5F, "DD", "0134", since=2, opce=0xC0, family="movx")
def movx(v: V, b: V) -> V:
    """Move an extended number: value and extension."""
    return b


@alu("movxa", ALOPF2, 0x5F, "DD", "0134", since=2, opce=0xC1, family="movx")
def movxa(v: V, b: V) -> V:
    """Move the absolute value of an extended number: the sign (bit 15 of the extension) becomes 0."""
    return b


@alu("movxc", ALOPF2, 0x5F, "DD", "0134", since=2, opce=0xC2, family="movx")
def movxc(v: V, b: V) -> V:
    """Move an extended number with its sign (bit 15 of the extension) changed."""
    return b


@alu("getsp", ALOPF12, 0x58, "SD", {1: "03", 7: "0"}, opc2=0x01, ales_lo=0xC0, opce=0xEC, family="getsp")
def getsp(v: V, b: V) -> V:
    """Move the user stack pointer by src2 & ~15 (negative: allocate); the result is the new pointer."""
    return v.and_(v.sext(b, 32, 64), v.const(~15, 64))


@alu("getspd", ALOPF12, 0x59, "DD", "0", since=7, opc2=0x01, ales_lo=0xC0, opce=0xEC, family="getsp")
def getspd(v: V, b: V) -> V:
    """As getsp, with a 64-bit displacement."""
    return v.and_(b, v.const(~15, 64))


@alu("getpl", ALOPF2, 0x63, "SD", {1: "03", 7: "0134"}, opce=0xF0, family="movt")
def getpl(v: V, b: V) -> V:
    """Make a transfer address of a 32-bit one, usually in a CTPR; descriptors raise exc_illegal_operand."""
    return v.zext(b, 64)


# --- protected mode, x87 compatibility, global rotation checks: not described -----------------------

row("vfsi", ALOPF1, 0x63, "SDD", "14", until=6)
row("vfsid", ALOPF1, 0x6B, "SDD", "14", since=7)
row("vfbgv", ALOPF1, 0x68, "SSS", "14", since=6)
row("mkfsw", ALOPF1, 0x6A, "SSD", "14", since=6)
row("modbgv", ALOPF2, 0x69, "SS", "14", since=6, opce=0xC0)
row("cudtoap", ALOPF2, 0x62, "SQ", "0134", until=6, opce=0xF0, pair="01/34")
row("gdtoap", ALOPF2, 0x62, "SQ", "0134", until=6, opce=0xF2, pair="01/34")
row("cudincr", ALOPF2, 0x62, "DQ", "03", since=7, opce=0xF0, pair="01/34")
row("gdincr", ALOPF2, 0x62, "DQ", "03", since=7, opce=0xF2, pair="01/34")
row("getsap", ALOPF2, 0x62, "SQ", {1: "01", 7: "0"}, opce=0xEC, pair="01/34")
row("puttc", ALOPF11, 0x25, "DDD", "0", opc2=0x01, ales_lo=0xC0)
row("gettc", ALOPF12, 0x24, "SD", "0", opc2=0x01, ales_lo=0xC0, opce=0xC0)
row("gettst", ALOPF12, 0x24, "DD", "3", since=3, opc2=0x01, ales_lo=0xC0, opce=0xC0)
row("puttst", ALOPF12, 0x25, "DD", "3", since=3, opc2=0x01, ales_lo=0xC0, opce=0xC0)
row("invtc", ALOPF12, 0x26, "SD", "0", opc2=0x01, ales_lo=0xC0, opce=0xC0)


@alu("ibranchd", ALOPF12, 0x53, "DD", "0", since=6, opc2=0x01, ales_lo=0xC0, opce=0xC0, family="transfer")
def ibranchd(v: V, b: V) -> V:
    """Go to src2 when the condition of SS is true; the destination is %empty."""
    return b


@alu("icalld", ALOPF12, 0x54, "DD", "0", since=6, opc2=0x01, ales_lo=0xC0, family="transfer", note="src1 byte: wbs")
def icalld(v: V, b: V) -> V:
    """Call src2 when the condition of SS is true; the destination is %empty."""
    return b


row("gettd", ALOPF12, 0x56, "DD", "03", until=2, opc2=0x01, ales_lo=0xC0, opce=0xC0)
row("getsod", ALOPF12, 0x5A, "QQ", "0134", until=2, opc2=0x01, ales_lo=0xC0, opce=0xEC, pair="01/34")
row("aptoap", ALOPF11, 0x50, "QSQ", "0134", until=6, opc2=0x01, ales_lo=0xC0, pair="01/34")
row("aptoapb", ALOPF11, 0x51, "QSQ", "0134", until=6, opc2=0x01, ales_lo=0xC0, pair="01/34")
row("subarr", ALOPF11, 0x50, "QDQ", "03", since=7, opc2=0x01, ales_lo=0xC0, pair="01/34")
row("apincr", ALOPF11, 0x51, "QDQ", "03", since=7, opc2=0x01, ales_lo=0xC0, pair="01/34")
row("getva", ALOPF11, 0x52, "QSD", "03", opc2=0x01, ales_lo=0xC0)
row("tdtomp", ALOPF11, 0x53, "DDD", "0134", until=2, opc2=0x01, ales_lo=0xC0)
row("odtoap", ALOPF11, 0x54, "QDQ", "0134", until=2, opc2=0x01, ales_lo=0xC0, pair="01/34")
row("cast", ALOPF11, 0x55, "QQQ", "0134", until=2, opc2=0x01, ales_lo=0xC0, pair="01/34")


# --- combined operations: op2(src3, op1(src1, src2)) ------------------------------------------------

def _rsub(v: V, a: V, b: V) -> V:
    return v.sub(b, a)


COMBINED = {
    0: ("and", and_), 1: ("andn", andn), 2: ("or", or_), 3: ("orn", orn), 4: ("xor", xor), 5: ("xorn", xorn),
    6: ("rsub", _rsub), 7: ("merge", merge), 8: ("add", add), 9: ("sub", sub), 10: ("scl", scl), 11: ("scr", scr),
    12: ("shl", shl), 13: ("shr", shr), 14: ("sar", sar), 15: ("getf", getf),
}
"""Codes of both halves of a combined operation."""

_ONLY_V1_SECOND = {"merge", "scl", "scr", "shl", "shr", "sar", "getf"}
_ICMB0 = 0x08


def _combined(first: Any, second: Any) -> Any:
    def combined(v: V, a: V, b: V, c: V) -> V:
        return second(v, c, first(v, a, b))

    return combined


for _code1, (_name1, _op1) in COMBINED.items():
    if _name1 == "rsub":
        continue
    for _code2, (_name2, _op2) in COMBINED.items():
        _meaning = _combined(_op1, _op2)
        _meaning.__doc__ = f"{_name1} of src1 and src2, then {_name2} of src3 and that."
        _v1_only = _name2 in _ONLY_V1_SECOND
        for _d_form, _letter in ((0, "S"), (1, "D")):
            # cop = op2[1:0], op1, width; opc2 = ICMB0 + op2[3:2]
            row(f"{_name1}_{_name2}{'d' if _d_form else 's'}", ALOPF21, (_code2 & 3) << 5 | _code1 << 1 | _d_form,
                _letter * 4, "14", until=1 if _v1_only else 7, opc2=_ICMB0 + (_code2 >> 2),
                family="merge_first" if "merge" in (_name1, _name2) else "",
                meaning=_meaning)
