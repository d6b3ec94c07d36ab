"""Integer arithmetic by Python's integers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.guest.harness import M32, M64, POISON, Area, Row

EDGES = (0, 1, 2, 31, 32, 63, 64, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32,
         (1 << 63) - 1, 1 << 63, M64, 0x0123456789ABCDEF, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA)
SHIFTS = ("shl", "shr", "sar", "scl", "scr")


def signed(a: int, width: int) -> int:
    """Two's complement of the low ``width`` bits."""
    a &= (1 << width) - 1
    return a - (1 << width) if a >> width - 1 else a


def number(rng: random.Random) -> int:
    """64 bits, half the time from the edges."""
    return rng.choice((rng.choice(EDGES), rng.getrandbits(64)))


def rows(seed: str, count: int) -> list[Row]:
    """Rows of four numbers."""
    rng = random.Random(seed)
    return [tuple(number(rng) for _ in range(4)) for _ in range(count)]


def sized(value: int, name: str) -> int:
    """A result of 32 bits (``name`` ends with s) keeps what was above it."""
    return POISON & ~M32 | value & M32 if name.endswith("s") else value & M64


BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "rsub": lambda a, b: b - a, "and": lambda a, b: a & b,
    "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b, "andn": lambda a, b: a & ~b, "orn": lambda a, b: a | ~b,
    "xorn": lambda a, b: a ^ ~b, "mul": lambda a, b: a * b,
}


def operands(check: str, row: Row) -> tuple[str, list[int]]:
    """The name of the operation and its sources, from ``TO shls, %r1, %r3, %r10``: registers are those of the row."""
    name, *words = re.split(r"[\s,]+", check.split(maxsplit=1)[1].strip('"').replace(",5 ", " "))
    found: list[int] = []
    for word in words or ("%dr1", "%dr2"):
        if match := re.fullmatch(r"%(d?)r([1-8])", word):
            value = row[int(match[2]) - 1]
            found.append(value if match[1] else value & M32)
        elif word.isdecimal():
            found.append(int(word))
    return name, found


def plain(check: str, row: Row) -> int:
    """Sums, products, logic."""
    name = check.split()[1]
    a, b = row[:2]
    if name in ("umulhd", "smulhd"):
        return ((a * b if name[0] == "u" else signed(a, 64) * signed(b, 64)) >> 64) & M64
    if name in ("umulx", "smulx"):
        return (a & M32) * (b & M32) if name[0] == "u" else signed(a, 32) * signed(b, 32) & M64
    return sized(BINARY[name[:-1]](a, b), name)


def shifted(kind: str, a: int, count: int, width: int) -> int:
    """One bit after the other."""
    mask, top = (1 << width) - 1, width - 1
    a &= mask
    for _ in range(count):
        if kind in ("shl", "scl"):
            a = a << 1 & mask | (a >> top if kind == "scl" else 0)
        else:
            a = a >> 1 | {"shr": 0, "sar": a >> top, "scr": a & 1}[kind] << top
    return a


def field(a: int, spec: int, width: int) -> int:
    """Bits ``spec[5:0]`` on, ``spec[11:6]`` of them; with spec[12] a signed number whose sign is the field's."""
    offset, length = spec & 63, spec >> 6 & 63
    bits = f"{a & (1 << width) - 1:0{width}b}"[width - offset - length : width - offset]
    value = int(bits, 2) if bits else 0
    return value - (1 << length) if spec >> 12 & 1 and bits[0] == "1" else value


def spec_of(rng: random.Random, width: int) -> int:
    """A field inside of a number."""
    length = rng.randrange(1, min(width, 63) + 1) if width == 64 else rng.randrange(1, width)
    offset = rng.randrange(width - length + 1)
    return offset | length << 6 | rng.randrange(2) << 12 | offset + length - 1 >> 3 << 13


def shifts(check: str, row: Row) -> int:
    name, sources = operands(check, row)
    if name == "sxt":
        kind, value = sources
        width = 8 << (kind & 3)
        return (value & (1 << width) - 1 if kind & 4 else signed(value, width)) & M64
    width = 32 if name.endswith("s") else 64
    if name.startswith("getf"):
        return sized(field(sources[0], sources[1], width), name)
    if name.startswith("insf"):
        a, spec, inserted = sources
        turned, ones = shifted("scr", a, spec & 63, width), (1 << (spec >> 6 & 63)) - 1
        return sized(turned & ~ones | inserted & ones, name)
    return sized(shifted(name[:-1], sources[0], sources[1], width), name)


def shift_rows() -> list[Row]:
    rng = random.Random("shifts")
    return [(number(rng), number(rng), rng.randrange(32), rng.randrange(64), spec_of(rng, 32), spec_of(rng, 64), 0, 0)
            for _ in range(40)]


def truncated(a: int, b: int) -> tuple[int, int]:
    """Quotient towards zero and the remainder, with the sign of ``a``."""
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return quotient, a - quotient * b


def divide(check: str, row: Row) -> int:
    name, (a, b) = operands(check, row)
    if name[0] == "s":
        wide = name.endswith(("x", "d"))
        a, b = signed(a, 64 if wide else 32), signed(b, 64 if name.endswith("d") else 32)
    quotient, remainder = truncated(a, b)
    return sized(remainder if "mod" in name else quotient, "s" if name.endswith("x") else name)


def divide_rows() -> list[Row]:
    """No divisor is 0, and every quotient fits."""
    rng = random.Random("divide")
    found: list[Row] = []
    while len(found) < 60:
        ub = rng.choice((1, 2, 3, 10, 0x80000000, 0xFFFFFFFF, rng.randrange(1, 1 << 32)))
        ua = rng.randrange(ub << 32)
        sb = rng.choice((1, -1, 3, -7, -(1 << 31), (1 << 31) - 1, rng.randrange(-(1 << 31), -1)))
        sa = rng.randrange(-(abs(sb) << 31) + 1, abs(sb) << 31)
        a, b, c, d = (number(rng) for _ in range(4))
        if b & M32 and d and not (signed(a, 32) == -(1 << 31) and signed(b, 32) == -1) and not (
                c == 1 << 63 and d == M64):
            found.append((ua, ub, sa & M64, sb & M64, a, b, c, d))
    return found


def compare(check: str, row: Row) -> int:
    name, (a, b) = operands(check, row)
    width = 32 if name.endswith("sb") else 64
    if name.startswith("cmpand"):
        condition, result, exact, unsigned = name[6:-2], a & b, signed(a & b, width), 0
    else:
        condition, result = name[3:-2], (a - b) & (1 << width) - 1
        exact, unsigned = signed(a, width) - signed(b, width), a - b
    holds = {
        "o": exact != signed(exact, width), "b": unsigned < 0, "e": result == 0, "be": unsigned <= 0,
        "s": signed(result, width) < 0, "p": bin(result & 0xFF).count("1") % 2 == 0, "l": exact < 0, "le": exact <= 0,
    }[condition]
    return 3 if holds else 0


def compare_rows() -> list[Row]:
    rng = random.Random("compare")
    found: list[Row] = []
    for _ in range(60):
        a = number(rng)
        b = rng.choice((a, number(rng), (a + rng.randrange(-2, 3)) & M64, a ^ 1 << 63, a ^ 1 << 31))
        found.append((a, b, 0, 0))
    return found


def bits(check: str, row: Row) -> int:
    name = check.split()[1]
    width = 32 if name.endswith("s") else 64
    text = f"{row[0] & (1 << width) - 1:0{width}b}"
    value = {"bitrev": int(text[::-1], 2), "lzcnt": len(text) - len(text.lstrip("0")), "popcnt": text.count("1")}
    return sized(value[name[:-1]], name)


def carry(check: str, row: Row) -> int:
    name, (a, b, *rest) = operands(check, row)
    if name.startswith("clmul"):
        product = 0
        for place in range(64):
            product ^= a << place if b >> place & 1 else 0
        return product >> 64 if name.endswith("h") else product & M64
    exact = a + b + (rest[0] & 1) if name.startswith("add") else a - b - (rest[0] & 1)
    return int(exact != exact & M64) if name.endswith("_c") else exact & M64


def combined(check: str, row: Row) -> int:
    name, (a, b, c) = operands(check, row)
    first, second = name[:-1].split("_")
    width = 32 if name.endswith("s") else 64
    if first == "merge":
        inner = a if row[0] & 1 else b      # %pred2 is "the low bit of %dr1 is 0"
    elif first == "getf":
        inner = field(a, b, width)
    elif first in SHIFTS:
        inner = shifted(first, a, b, width)
    else:
        inner = BINARY[first](a, b)
    return sized(BINARY[second](c, inner), name)


def combined_rows() -> list[Row]:
    rng = random.Random("combined")
    return [(number(rng), number(rng), number(rng), spec_of(rng, 32), rng.randrange(32), 0, 0, 0) for _ in range(12)]


OLD_AND_NEW = ("e8c", "e16c")

AREAS = (
    Area("integer", plain, rows("integer", 40), models=OLD_AND_NEW),
    Area("shifts", shifts, shift_rows()),
    Area("divide", divide, divide_rows()),
    Area("compare", compare, compare_rows(), per_part=12),
    Area("bits", bits, rows("bits", 40)),
    Area("carry", carry, rows("carry", 40), models=("e16c",)),
    Area("combined", combined, combined_rows()),
)
