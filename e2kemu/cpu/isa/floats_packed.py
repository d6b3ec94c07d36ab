"""Meanings of packed floating-point operations, from their mnemonics and the widths of their operands.

The elements of 64- and 128-bit operands go through the primitives of ``floats`` one by one; flags of all elements
are collected. Roles of operands as the public e2k port of QEMU has them, checked against its golden vectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from e2kemu.cpu.isa import floats, lanes
from e2kemu.cpu.isa.floats import BITS, Meaning, described

V = Any

WIDTHS = {"S": 32, "D": 64, "P": 128}
_WORDS = {"add": "src1 + src2", "sub": "src1 - src2", "mul": "src1 * src2",
          "hadd": "sums of neighbours (low half from src1, high half from src2)",
          "hsub": "even minus odd neighbours (low half from src1, high half from src2)",
          "addsub": "src1 - src2 in even, src1 + src2 in odd elements"}
_SECOND = {"add": "src3 + r", "sub": "src3 - r", "rsub": "r - src3", "mul": "src3 * r",
           "hadd": "sums of neighbours of src3 (low half) and r (high half)",
           "hsub": "even minus odd neighbours of src3 (low half) and r (high half)",
           "addsub": "src3 - r in even, src3 + r in odd elements"}


def _computed(v: V, name: str, letter: str, a: V, b: V, width: int) -> V:
    """One operation of two packed values."""
    size = BITS[letter]
    first, second = lanes.split(v, a, size, width), lanes.split(v, b, size, width)
    if name in ("hadd", "hsub"):
        row = first + second
        pairs = zip(row[::2], row[1::2], strict=True)
        return lanes.join(v, [v.fp(f"{name[1:]}.{letter}", x, y) for x, y in pairs], size, width)
    names = {"addsub": ("sub", "add")}.get(name, (name, name))
    result = [v.fp(f"{names[index & 1]}.{letter}", x, y) for index, (x, y) in enumerate(zip(first, second, strict=True))]
    return lanes.join(v, result, size, width)


def _two(name: str, letter: str, width: int) -> Meaning:
    words = _WORDS.get(name) or floats.WORDS[name]
    return described(f"Per {BITS[letter]}-bit element: {words}.", lambda v, a, b: _computed(v, name, letter, a, b, width))


def _combined(first: str, second: str, letter: str, width: int) -> Meaning:
    def meaning(v: V, a: V, b: V, c: V) -> V:
        inner = _computed(v, first, letter, a, b, width)
        if second == "rsub":
            return _computed(v, "sub", letter, inner, c, width)
        return _computed(v, second, letter, c, inner, width)

    return described(f"Per {BITS[letter]}-bit element: r = {_WORDS[first]}; {_SECOND[second]}, rounded both times.", meaning)


def _compared(relation: str, letter: str, width: int) -> Meaning:
    size, one = BITS[letter], floats.compared_mask(relation, letter)
    return described(f"Per {size}-bit element: {one.__doc__}", lambda v, a, b: lanes.join(v, [
        one(v, x, y) for x, y in zip(lanes.split(v, a, size, width), lanes.split(v, b, size, width), strict=True)], size, width))


def _whole(letter: str, width: int) -> Meaning:
    size, one = BITS[letter], floats.whole(letter)
    return described(f"Per {size}-bit element: {one.__doc__}", lambda v, a, b: lanes.join(v, [
        one(v, a, y) for y in lanes.split(v, b, size, width)], size, width))


def _converted(name: str, source: int, target: int) -> Meaning:
    one = floats.conversion(name)
    narrow, wide = ((32 if letter == "s" else 64) for letter in (name.split("to")[0][-1], name.removesuffix("tr")[-1]))
    count = min(source // narrow, target // wide)
    return described(f"Per element: {one.__doc__}", lambda v, b: lanes.join(v, [
        one(v, x) for x in lanes.split(v, b, narrow, source)[:count]], wide, target))


_ALTERNATING = {"fmas": ("fma", "fms"), "fmsa": ("fms", "fma")}
"""Fused operations of even and of odd elements; the golden vectors have them silent about denormal operands."""


def _fused(name: str, letter: str, width: int) -> Meaning:
    size, names = BITS[letter], _ALTERNATING.get(name, (name, name))
    end = f"{letter}.q" if name in _ALTERNATING else letter

    def meaning(v: V, a: V, b: V, c: V) -> V:
        rows = zip(*(lanes.split(v, x, size, width) for x in (a, b, c)), strict=True)
        return lanes.join(v, [v.fp(f"{names[index & 1]}.{end}", *row) for index, row in enumerate(rows)], size, width)

    even, odd = (floats.FUSED[one] for one in names)
    words = even if even == odd else f"{even} in even, {odd} in odd elements"
    return described(f"Per {size}-bit element: {words}, rounded once.", meaning)


_OPERATION = "hadd|hsub|addsub|add|rsub|sub|mul|div|min|max"
_PATTERNS: tuple[tuple[str, Callable[..., Meaning]], ...] = (
    (rf"f({_OPERATION})_({_OPERATION})([sd])", lambda m, sizes: _combined(m[1], m[2], m[3], WIDTHS[sizes[-1]])),
    (rf"f({_OPERATION})([sd])", lambda m, sizes: _two(m[1], m[2], WIDTHS[sizes[-1]])),
    (r"fcmp(eq|lt|le|uod|neq|nlt|nle|od)([sd])", lambda m, sizes: _compared(m[1], m[2], WIDTHS[sizes[-1]])),
    (r"f([sd])toif\1", lambda m, sizes: _whole(m[1], WIDTHS[sizes[-1]])),
    (r"(fma|fms|fnma|fnms|fmas|fmsa)([sd])", lambda m, sizes: _fused(m[1], m[2], WIDTHS[sizes[-1]])),
    (r"[fi][sd]to[fi]?[sd](?:tr)?", lambda m, sizes: _converted(m[0], WIDTHS[sizes[0]], WIDTHS[sizes[-1]])),
    (r"fsqrts", lambda m, sizes: floats.one("sqrt", "s")),
    (r"fsqrttd", lambda m, sizes: floats.second_step_of_root("d")),
)
"""Patterns of mnemonics without their p or qp, and the meanings they stand for."""


def packed(name: str, sizes: str) -> Meaning:
    """The meaning of a packed operation whose operands have these sizes. Raises KeyError when there is none."""
    for pattern, meaning in _PATTERNS:
        match = re.fullmatch(pattern, name.removeprefix("q").removeprefix("p"))
        if match:
            return meaning(match, sizes)
    raise KeyError(name)
