"""Meanings of floating-point operations, by what they do: used by the rows of all sizes.

A meaning names primitives of floating point (``v.fp("add.d", a, b)``), which know rounding, flags and exceptions. Letters: s 32 bits,
d 64, x 80. Formulas as the public e2k port of QEMU has them, checked against its golden vectors; where these are
in doubt: docs/semantics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

V = Any
Meaning = Callable[..., Any]

BITS = {"s": 32, "d": 64, "x": 80}
"""Letter of a format -> bits."""

WORDS = {"add": "src1 + src2", "sub": "src1 - src2", "mul": "src1 * src2", "div": "src1 / src2",
         "min": "The lesser of src1 and src2; src2 when they are equal or one is a NaN",
         "max": "The greater of src1 and src2; src2 when they are equal or one is a NaN",
         "sqrt": "The square root of src2", "rcp": "1 / src2", "rsqrt": "1 / sqrt(src2), rounded twice"}

RELATIONS = {"eq": "src1 = src2", "lt": "src1 < src2", "le": "src1 <= src2", "uod": "one of the sources is a NaN",
             "neq": "src1 = src2 is false", "nlt": "src1 < src2 is false", "nle": "src1 <= src2 is false", "od": "no source is a NaN"}


def described(doc: str, meaning: Meaning) -> Meaning:
    """``meaning`` with its words."""
    meaning.__doc__ = doc
    return meaning


def two(name: str, letter: str) -> Meaning:
    """A primitive of two sources."""
    return described(f"{WORDS[name]}.", lambda v, a, b: v.fp(f"{name}.{letter}", a, b))


def one(name: str, letter: str) -> Meaning:
    """A primitive of one source."""
    return described(f"{WORDS[name]}.", lambda v, b: v.fp(f"{name}.{letter}", b))


def compared(relation: str, letter: str) -> Meaning:
    """A compare into a predicate."""
    return described(f"{RELATIONS[relation]}.", lambda v, a, b: v.fp(f"cmp.{relation}.{letter}", a, b))


def compared_mask(relation: str, letter: str) -> Meaning:
    """A compare into a register."""
    bits = BITS[letter]
    return described(f"All ones when {RELATIONS[relation]}, else 0.",
                     lambda v, a, b: v.select(v.fp(f"cmp.{relation}.{letter}", a, b), v.const(-1, bits), v.const(0, bits)))


def order(letter: str) -> Meaning:
    """The condition code of x87, which raises nothing for a NaN."""
    return described("0 when src1 > src2, 1 when less, 0x40 when equal, 0x45 when one is a NaN.",
                     lambda v, a, b: v.zext(v.fp(f"order.{letter}", a, b), 32))


def converted(source: str, target: str, truncate: bool = False) -> Meaning:
    """A conversion between the formats s, d, x and the integers i32, i64."""
    words = ", truncated" if truncate else ", rounded to nearest or as the mode says"
    return described(f"src2 ({source}) as {target}{words}.",
                     lambda v, b: v.fp(f"cvt.{source}.{target}{'.t' if truncate else ''}", b))


def conversion(name: str) -> Meaning:
    """The conversion that a mnemonic names, without its prefix for packed ones: fstoid, istofd, fxtoistr, ..."""
    source, target = name.removesuffix("tr").split("to")
    return converted(_number(source), _number(target), truncate=name.endswith("tr"))


def _number(text: str) -> str:
    """The format of "fs", "fx" (s, x), "is", "id" (i32, i64); also without the f behind "to"."""
    return text[-1] if text[0] == "f" else {"s": "i32", "d": "i64"}[text[-1]]


def second_step_of_root(letter: str) -> Meaning:
    """The last step of a square root: it does all the work."""
    return described("The square root of src1; the second source, which the first step has made, is not needed.",
                     lambda v, a, b: v.fp(f"sqrt.{letter}", a))


def first_step() -> Meaning:
    """The first step of a square root."""
    return described("src2: the step that follows computes.", lambda v, b: b)


def whole(letter: str) -> Meaning:
    """To an integer in floating point."""
    return described("src2 rounded to an integer: src1[1:0] 0 nearest, 1 down, 2 up, 3 to zero; src1[2] as the mode says; "
                     "src1[3] keeps inexact quiet.", lambda v, a, b: v.fp(f"whole.{letter}", v.trunc(a, 32), b))


def scaled(letter: str) -> Meaning:
    """Multiplication by a power of two."""
    return described("src1 * 2^src2; src2 is a signed integer of 32 bits.", lambda v, a, b: v.fp(f"scale.{letter}", a, b))


def combined(first: str, second: str, letter: str) -> Meaning:
    """Two operations, the second on src3 and the result of the first; two roundings."""
    def meaning(v: V, a: V, b: V, c: V) -> V:
        inner = v.fp(f"{first}.{letter}", a, b)
        if second == "rsub":
            return v.fp(f"sub.{letter}", inner, c)
        return v.fp(f"{second}.{letter}", c, inner)

    sign = {"add": "src3 + r", "sub": "src3 - r", "rsub": "r - src3", "mul": "src3 * r"}[second]
    return described(f"r = {WORDS[first]}; {sign}, rounded both times.", meaning)


FUSED = {"fma": "src1 * src2 + src3", "fms": "src1 * src2 - src3", "fnma": "-(src1 * src2) + src3", "fnms": "-(src1 * src2) - src3"}


def fused(name: str, letter: str) -> Meaning:
    """A product and a sum, rounded once."""
    return described(f"{FUSED[name]}, rounded once.", lambda v, a, b, c: v.fp(f"{name}.{letter}", a, b, c))


# --- 80 bits ------------------------------------------------------------------------------------------

def _extended(v: V, value: V, letter: str) -> V:
    """A source of another format in 80 bits."""
    return value if letter == "x" else v.fp(f"cvt.{letter}.x", value)


def _narrowed(v: V, value: V, letter: str) -> V:
    return value if letter == "x" else v.fp(f"cvt.x.{letter}", value)


def mixed(name: str, first: str, second: str, result: str) -> Meaning:
    """An operation in 80 bits between operands of any formats; "rsub": src2 - src1."""
    def meaning(v: V, a: V, b: V) -> V:
        x, y = _extended(v, a, first), _extended(v, b, second)
        if name == "rsub":
            x, y = y, x
        return _narrowed(v, v.fp(f"{name.removeprefix('r')}.x", x, y), result)

    words = "src2 - src1" if name == "rsub" else WORDS[name]
    return described(f"{words} in 80 bits ({first}, {second}), the result as {result}.", meaning)


def mixed_root(first: str) -> Meaning:
    """The last step of a square root in 80 bits."""
    return described(f"The square root of src1 ({first}) in 80 bits; the second source, which the steps before have made, is not needed.",
                     lambda v, a, b: v.fp("sqrt.x", _extended(v, a, first)))


def extended(letter: str) -> Meaning:
    """The first step of a square root in 80 bits."""
    return described(f"src2 ({letter}) in 80 bits: the last step computes.", lambda v, b: _extended(v, b, letter))


def middle_step() -> Meaning:
    """The middle step of a square root in 80 bits."""
    return described("src2: the last step computes.", lambda v, a, b: b)


def mixed_compared(relation: str, second: str) -> Meaning:
    """A compare in 80 bits into a predicate."""
    return described(f"{RELATIONS[relation]} (src2 is {second}).",
                     lambda v, a, b: v.fp(f"cmp.{relation}.x", a, _extended(v, b, second)))


def mixed_order(second: str) -> Meaning:
    """The condition code of x87 in 80 bits."""
    return described(f"0 when src1 > src2 ({second}), 1 when less, 0x40 when equal, 0x45 when one is a NaN.",
                     lambda v, a, b: v.zext(v.fp("order.x" if second == "x" else f"order.x{second}", a, b), 32))
