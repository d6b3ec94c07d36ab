"""Addition, multiplication, division, square root, fused multiply-add, minimum, maximum: exact, then rounded once.

Of two NaN operands the result is the one that x87 chooses, made quiet; of the three of a fused operation the first
NaN. An invalid operation gives the negative quiet NaN. How sure this is: docs/semantics.md.
"""

from __future__ import annotations

from math import isqrt

from e2kemu.cpu.fp.formats import (
    DE,
    DOWN,
    FINITE,
    IE,
    INFINITE,
    INVALID,
    QUIET,
    SIGNALLING,
    ZE,
    ZERO,
    Format,
    Mode,
    Number,
    infinity,
    pack,
    quieted,
    unpack,
    zero,
)

Result = tuple[int, int]
"""Bits and flags."""


def nan_result(f: Format, *operands: Number) -> Result:
    """The result of an operation at least one operand of which is no number."""
    flags = IE if any(n.kind >= SIGNALLING for n in operands) else 0
    if any(n.kind == INVALID for n in operands):
        return f.default_nan, IE
    nans = [n for n in operands if n.kind >= QUIET]
    if len(nans) == len(operands) == 2:
        return quieted(f, _larger(*nans).bits), flags
    return quieted(f, nans[0].bits), flags


def _larger(a: Number, b: Number) -> Number:
    """Which of two NaNs x87 returns: the quiet one, then that with the larger significand, then the positive one."""
    if a.kind != b.kind:
        return a if a.kind == QUIET else b
    if a.significand != b.significand:
        return a if a.significand > b.significand else b
    return b if a.sign and not b.sign else a


def _rounded(f: Format, sign: int, significand: int, exponent: int, mode: Mode, flags: int) -> Result:
    bits, more = pack(f, sign, significand, exponent, mode, min(f.precision, mode.precision))
    return bits, flags | more


def _exact_sum(f: Format, a: Number, b: Number, mode: Mode, flags: int) -> Result:
    """a + b of finite numbers."""
    if a.kind == ZERO and b.kind == ZERO:
        sign = a.sign if a.sign == b.sign else int(mode.rounding == DOWN)
        return zero(f, sign), flags
    if a.kind == ZERO:
        a, b = b, a
    if b.kind == ZERO:
        return _rounded(f, a.sign, a.significand, a.exponent, mode, flags)
    if a.exponent < b.exponent:
        a, b = b, a
    gap = a.exponent - b.exponent
    left = -a.significand if a.sign else a.significand
    if gap > 2 * b.significand.bit_length() + 200:
        # so far below that only its being there matters
        total = (left << 200) + (-1 if b.sign else 1)
        exponent = a.exponent - 200
    else:
        total = (left << gap) + (-b.significand if b.sign else b.significand)
        exponent = b.exponent
    if not total:
        return zero(f, int(mode.rounding == DOWN)), flags
    return _rounded(f, int(total < 0), abs(total), exponent, mode, flags)


def add(f: Format, a: int, b: int, mode: Mode) -> Result:
    """a + b."""
    return add_numbers(f, unpack(f, a), unpack(f, b), mode)


def sub(f: Format, a: int, b: int, mode: Mode) -> Result:
    """a - b."""
    y = unpack(f, b)
    if y.kind < QUIET:
        y = y._replace(sign=y.sign ^ 1)
    return add_numbers(f, unpack(f, a), y, mode)


def add_numbers(f: Format, x: Number, y: Number, mode: Mode) -> Result:
    if x.kind >= QUIET or y.kind >= QUIET:
        return nan_result(f, x, y)
    flags = DE if x.denormal or y.denormal else 0
    if x.kind == INFINITE or y.kind == INFINITE:
        if x.kind == y.kind and x.sign != y.sign:
            return f.default_nan, IE
        return infinity(f, x.sign if x.kind == INFINITE else y.sign), flags
    return _exact_sum(f, x, y, mode, flags)


def mul(f: Format, a: int, b: int, mode: Mode) -> Result:
    """a * b."""
    x, y = unpack(f, a), unpack(f, b)
    if x.kind >= QUIET or y.kind >= QUIET:
        return nan_result(f, x, y)
    flags = DE if x.denormal or y.denormal else 0
    sign = x.sign ^ y.sign
    if x.kind == INFINITE or y.kind == INFINITE:
        if x.kind == ZERO or y.kind == ZERO:
            return f.default_nan, IE
        return infinity(f, sign), flags
    if x.kind == ZERO or y.kind == ZERO:
        return zero(f, sign), flags
    return _rounded(f, sign, x.significand * y.significand, x.exponent + y.exponent, mode, flags)


def div(f: Format, a: int, b: int, mode: Mode) -> Result:
    """a / b."""
    x, y = unpack(f, a), unpack(f, b)
    if x.kind >= QUIET or y.kind >= QUIET:
        return nan_result(f, x, y)
    sign = x.sign ^ y.sign
    if x.kind == y.kind and x.kind != FINITE:
        return f.default_nan, IE
    flags = DE if x.denormal or y.denormal else 0
    if x.kind == INFINITE:
        return infinity(f, sign), flags
    if y.kind == ZERO:
        # the denormal operand is not looked at any more
        return infinity(f, sign), ZE
    if x.kind == ZERO or y.kind == INFINITE:
        return zero(f, sign), flags
    shift = max(0, 70 + y.significand.bit_length() - x.significand.bit_length())
    quotient, rest = divmod(x.significand << shift, y.significand)
    return _rounded(f, sign, quotient << 1 | (rest != 0), x.exponent - y.exponent - shift - 1, mode, flags)


def sqrt(f: Format, a: int, mode: Mode) -> Result:
    """The square root of a."""
    x = unpack(f, a)
    if x.kind >= QUIET:
        return nan_result(f, x)
    if x.kind == ZERO:
        return a, 0
    if x.sign:
        return f.default_nan, IE
    if x.kind == INFINITE:
        return a, 0
    shift = 2 * 70
    if (x.exponent - shift) & 1:
        shift += 1
    significand = x.significand << shift
    root = isqrt(significand)
    flags = DE if x.denormal else 0
    lost = root * root != significand
    return _rounded(f, 0, root << 1 | lost, (x.exponent - shift) // 2 - 1, mode, flags)


def fma(f: Format, a: int, b: int, c: int, mode: Mode, negate_product: int, negate_addend: int) -> Result:
    """(+-)(a * b) (+-) c, rounded once."""
    x, y, z = unpack(f, a), unpack(f, b), unpack(f, c)
    impossible = (x.kind, y.kind) in ((ZERO, INFINITE), (INFINITE, ZERO))
    if x.kind >= QUIET or y.kind >= QUIET or z.kind >= QUIET:
        return nan_result(f, x, y, z)
    if impossible:
        return f.default_nan, IE
    sign = x.sign ^ y.sign ^ negate_product
    if negate_addend:
        z = z._replace(sign=z.sign ^ 1)
    flags = DE if x.denormal or y.denormal or z.denormal else 0
    if x.kind == INFINITE or y.kind == INFINITE:
        if z.kind == INFINITE and z.sign != sign:
            return f.default_nan, IE
        return infinity(f, sign), flags
    if z.kind == INFINITE:
        return infinity(f, z.sign), flags
    kind = ZERO if ZERO in (x.kind, y.kind) else FINITE
    product = Number(kind, sign, x.exponent + y.exponent, x.significand * y.significand, False, 0)
    return _exact_sum(f, product, z, mode, flags)


def least(f: Format, a: int, b: int, mode: Mode) -> Result:
    """The lesser of a and b; b when they are equal or one of them is a NaN, which is invalid."""
    return _chosen(f, a, b, want=-1)


def greatest(f: Format, a: int, b: int, mode: Mode) -> Result:
    """The greater of a and b; b when they are equal or one of them is a NaN, which is invalid."""
    return _chosen(f, a, b, want=1)


def _chosen(f: Format, a: int, b: int, want: int) -> Result:
    x, y = unpack(f, a), unpack(f, b)
    order = order_of(f, x, y)
    if order is None:
        return b, IE
    return a if order == want else b, DE if x.denormal or y.denormal else 0


def order_of(f: Format, x: Number, y: Number) -> int | None:
    """-1, 0, 1: x is less, equal, greater; None: unordered."""
    if x.kind >= QUIET or y.kind >= QUIET:
        return None
    if x.kind == ZERO and y.kind == ZERO:
        return 0
    left, right = _rank(f, x), _rank(f, y)
    return (left > right) - (left < right)


def _rank(f: Format, n: Number) -> int:
    """An integer in the order of the numbers (both zeros are 0)."""
    if f.explicit and n.kind == FINITE:
        # a pseudo-denormal is as large as the normal number of the same significand
        length = n.significand.bit_length()
        magnitude = (n.exponent + length - X_LEAST << 64) + (n.significand << 64 - length)
    else:
        magnitude = n.bits & (1 << (f.bits - 1)) - 1
        if f.explicit and n.kind == INFINITE:
            magnitude = 1 << 100
    return -magnitude if n.sign else magnitude


X_LEAST = -17000
"""Below every exponent of the 80-bit format."""


def reciprocal(f: Format, a: int, mode: Mode) -> Result:
    """1 / a."""
    one = f.bias << (f.precision - 1)
    return div(f, one, a, mode)


def reciprocal_root(f: Format, a: int, mode: Mode) -> Result:
    """1 / sqrt(a), both rounded."""
    root, flags = sqrt(f, a, mode)
    result, more = reciprocal(f, root, mode)
    return result, flags | more


def scale(f: Format, a: int, count: int, mode: Mode) -> Result:
    """a * 2**count; ``count`` is signed 32 bits."""
    x = unpack(f, a)
    if x.kind >= QUIET:
        return nan_result(f, x)
    if x.kind != FINITE:
        return a, 0
    count = (count & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    limit = 4 * f.bias + 200
    bits, flags = pack(f, x.sign, x.significand, x.exponent + max(-limit, min(limit, count)), mode)
    return bits, flags | (DE if x.denormal else 0)
