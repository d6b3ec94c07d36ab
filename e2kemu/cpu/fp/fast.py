"""Short cuts: what the host's double arithmetic gives exactly as wanted, without taking numbers apart.

Each takes the bits of the operands and PFPFR and returns (bits, flags), or None where it cannot tell: rounding not
to nearest, operands that are denormal, infinite or no numbers, mostly also zeros. The sum, product, quotient or
root of single numbers is computed in double and rounded again; 53 bits are enough for that to be harmless.

Whether a result is exact is found out by integers, or by what the addition has lost (which is a double itself).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import sqrt
from struct import Struct

from e2kemu.cpu.fp.formats import PE

ROUNDING = 0x6000
"""PFPFR.rc; 0 is to nearest."""
STICKY = 0x20
"""PFPFR.pe: inexact results have been seen already, then telling it again changes nothing..."""
MASKED = 0x1000
"""...unless the exception is not masked."""

_Q, _QQ = Struct("<Q").pack, Struct("<QQ").pack
_D, _DD = Struct("<d").unpack, Struct("<dd").unpack
_PACK_D, _UNPACK_Q = Struct("<d").pack, Struct("<Q").unpack
_II, _FF, _PACK_F, _UNPACK_I = Struct("<II").pack, Struct("<ff").unpack, Struct("<f").pack, Struct("<I").unpack
_I, _F = Struct("<I").pack, Struct("<f").unpack

_E, _M, _H = 0x7FF0 << 48, (1 << 52) - 1, 1 << 52
_REST = (1 << 63) - 1
_LEAST = 2 << 52
"""Results below may have been denormal before they were rounded."""
_E32, _LEAST32 = 0x7F80_0000, 0x0100_0000
_REST32 = (1 << 31) - 1
_MAX32 = float.fromhex("0x1.fffffep127")

Short = Callable[[int, int, int], "tuple[int, int] | None"]
"""A short cut of two operands."""


def add_d(a: int, b: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING or not ((a & _E or not a & _REST) and (b & _E or not b & _REST)):
        return None
    x, y = _DD(_QQ(a, b))
    total = x + y
    (bits,) = _UNPACK_Q(_PACK_D(total))
    if not _LEAST <= bits & _E < _E:
        return None if bits & _REST else (bits, 0)
    part = total - x
    return bits, PE if (x - (total - part)) + (y - part) else 0


def sub_d(a: int, b: int, env: int) -> tuple[int, int] | None:
    return add_d(a, b ^ 1 << 63, env)


def mul_d(a: int, b: int, env: int) -> tuple[int, int] | None:
    if not (a & _E and b & _E):
        return _product_of_zero(a, b)
    if env & ROUNDING:
        return None
    x, y = _DD(_QQ(a, b))
    (bits,) = _UNPACK_Q(_PACK_D(x * y))
    if not _LEAST <= bits & _E < _E:
        return None
    if env & (STICKY | MASKED) == STICKY | MASKED:
        return bits, PE
    product = (a & _M | _H) * (b & _M | _H)
    return bits, PE if product & (_M if product < 1 << 105 else _M << 1 | 1) else 0


def _product_of_zero(a: int, b: int) -> tuple[int, int] | None:
    if not a & _REST and (0 < b & _E < _E or not b & _REST):
        return (a ^ b) & 1 << 63, 0
    if not b & _REST and 0 < a & _E < _E:
        return (a ^ b) & 1 << 63, 0
    return None


def div_d(a: int, b: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING or not (a & _E and b & _E) or b & _E == _E:
        return None
    x, y = _DD(_QQ(a, b))
    (bits,) = _UNPACK_Q(_PACK_D(x / y))
    if not _LEAST <= bits & _E < _E:
        return None
    if env & (STICKY | MASKED) == STICKY | MASKED:
        return bits, PE
    back, want = (bits & _M | _H) * (b & _M | _H), (a & _M | _H) << 52
    return bits, PE if back not in (want, want << 1) else 0


def sqrt_d(a: int, env: int) -> tuple[int, int] | None:
    if env & (ROUNDING | STICKY | MASKED) != STICKY | MASKED or not 0 < a & _E < _E or a >> 63:
        return None
    (x,) = _D(_Q(a))
    return _UNPACK_Q(_PACK_D(sqrt(x)))[0], PE


def _single(exact: float, lost: bool) -> tuple[int, int] | None:
    """A double as a single."""
    if not -_MAX32 <= exact <= _MAX32:
        return None
    packed = _PACK_F(exact)
    (bits,) = _UNPACK_I(packed)
    if bits & _E32 < _LEAST32:
        return None
    return bits, PE if lost or _F(packed)[0] != exact else 0


def add_s(a: int, b: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING or not (0 < a & _E32 < _E32 and 0 < b & _E32 < _E32):
        return None
    x, y = _FF(_II(a, b))
    total = x + y
    part = total - x
    return _single(total, (x - (total - part)) + (y - part) != 0)


def sub_s(a: int, b: int, env: int) -> tuple[int, int] | None:
    return add_s(a, b ^ 1 << 31, env)


def mul_s(a: int, b: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING or not (0 < a & _E32 < _E32 and 0 < b & _E32 < _E32):
        return None
    x, y = _FF(_II(a, b))
    return _single(x * y, False)


def div_s(a: int, b: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING or not (0 < a & _E32 < _E32 and 0 < b & _E32 < _E32):
        return None
    x, y = _FF(_II(a, b))
    quotient = x / y
    # a quotient of singles that is a single multiplies back exactly in double
    return _single(quotient, quotient * y != x)


def sqrt_s(a: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING or not 0 < a < _E32 or not a & _E32:
        return None
    (x,) = _F(_I(a))
    root = sqrt(x)
    return _single(root, root * root != x)


# --- compares ---------------------------------------------------------------------------------------

def relation_d(holds: Callable[[float, float], bool]) -> Short:
    """A compare of doubles that are zero, normal or infinite."""
    def compared(a: int, b: int, env: int) -> tuple[int, int] | None:
        if not ((a & _E or not a & _REST) and (b & _E or not b & _REST)):
            return None
        x, y = _DD(_QQ(a, b))
        return None if x != x or y != y else (int(holds(x, y)), 0)

    return compared


def relation_s(holds: Callable[[float, float], bool]) -> Short:
    """A compare of singles that are zero, normal or infinite."""
    def compared(a: int, b: int, env: int) -> tuple[int, int] | None:
        if not ((a & _E32 or not a & _REST32) and (b & _E32 or not b & _REST32)):
            return None
        x, y = _FF(_II(a, b))
        return None if x != x or y != y else (int(holds(x, y)), 0)

    return compared


RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "eq": operator.eq, "lt": operator.lt, "le": operator.le, "neq": operator.ne, "nlt": operator.ge, "nle": operator.gt,
    "od": lambda x, y: True, "uod": lambda x, y: False,
}
"""Relation -> whether it holds of two that are numbers."""


# --- conversions --------------------------------------------------------------------------------------

def cvt_i32_d(a: int, env: int) -> tuple[int, int] | None:
    return _UNPACK_Q(_PACK_D((a ^ 0x8000_0000) - 0x8000_0000))[0], 0


def cvt_i64_d(a: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING:
        return None
    number = (a ^ 1 << 63) - (1 << 63)
    near = float(number)
    return _UNPACK_Q(_PACK_D(near))[0], PE if near != number else 0


def cvt_i32_s(a: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING:
        return None
    number = (a ^ 0x8000_0000) - 0x8000_0000
    packed = _PACK_F(number)
    return _UNPACK_I(packed)[0], PE if _F(packed)[0] != number else 0


def cvt_s_d(a: int, env: int) -> tuple[int, int] | None:
    if not (0 < a & _E32 < _E32 or not a & _REST32):
        return None
    return _UNPACK_Q(_PACK_D(_F(_I(a))[0]))[0], 0


def cvt_d_s(a: int, env: int) -> tuple[int, int] | None:
    if env & ROUNDING or not 0 < a & _E < _E:
        return None
    return _single(_D(_Q(a))[0], False)


def _truncated(x: float, size: int) -> tuple[int, int] | None:
    whole = int(x)
    if not -(1 << size - 1) <= whole < 1 << size - 1:
        return None
    return whole & (1 << size) - 1, PE if whole != x else 0


def cvt_d_i32_t(a: int, env: int) -> tuple[int, int] | None:
    return _truncated(_D(_Q(a))[0], 32) if a & _E < _E else None


def cvt_d_i64_t(a: int, env: int) -> tuple[int, int] | None:
    return _truncated(_D(_Q(a))[0], 64) if a & _E < _E else None


def cvt_s_i32_t(a: int, env: int) -> tuple[int, int] | None:
    return _truncated(_F(_I(a))[0], 32) if a & _E32 < _E32 else None
