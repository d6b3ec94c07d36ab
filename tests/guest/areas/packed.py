"""Packed integers by numpy: lanes of 64- and 128-bit registers."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.guest.areas.integer import EDGES
from tests.guest.harness import M64, Area, Row

Lanes = npt.NDArray[Any]
"""Python integers: sums and products do not wrap."""
BITS = {"b": 8, "h": 16, "w": 32, "d": 64}
LANES = (0x0000_0000_8000_0000, 0x7FFF_8000_7FFF_8000, 0x8080_8080_7F7F_7F7F, 0x00FF_FF00_0001_FFFF,
         0x0102_0408_1020_4080)


def lanes(value: int, bits: int, width: int, *, unsigned: bool = False) -> Lanes:
    """The lanes of a register, lowest first."""
    kind = f"<{'u' if unsigned else 'i'}{bits // 8}"
    return np.frombuffer(value.to_bytes(width // 8, "little"), kind).astype(object)


def joined(values: Iterable[Any], bits: int) -> int:
    """Lanes -> a register."""
    mask = (1 << bits) - 1
    return sum((int(v) & mask) << bits * i for i, v in enumerate(values))


def clipped(values: Lanes, bits: int, *, unsigned: bool) -> Lanes:
    """Saturation."""
    least, most = (0, (1 << bits) - 1) if unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)
    return np.array([min(max(int(v), least), most) for v in values], dtype=object)


def halves(value: int, width: int) -> list[int]:
    """The 64-bit parts of a register."""
    return [value >> 64 * i & M64 for i in range(width // 64)]


def by_doubles(make: Callable[..., int], width: int, *sources: int) -> int:
    """An operation that treats each 64 bits alone."""
    return joined([make(*parts) for parts in zip(*(halves(s, width) for s in sources), strict=True)], 64)


def arithmetic(name: str, a: int, b: int, width: int) -> int | None:
    """padd, psub, pmin, pmax, pavg, pcmp, psign with their lanes and saturation in the name."""
    match = re.fullmatch(r"p(add|sub|min|max|avg|cmpeq|cmpgt|sign)(us|u|s)?([bhwd])", name)
    if not match:
        return None
    kind, sign, bits = match[1], match[2] or "", BITS[match[3]]
    x, y = (lanes(s, bits, width, unsigned="u" in sign) for s in (a, b))
    if kind in ("add", "sub"):
        found = x + y if kind == "add" else x - y
        return joined(clipped(found, bits, unsigned="u" in sign) if sign else found, bits)
    table: dict[str, Callable[[int, int], int]] = {
        "min": min, "max": max, "avg": lambda p, q: p + q + 1 >> 1, "cmpeq": lambda p, q: -(p == q),
        "cmpgt": lambda p, q: -(p > q), "sign": lambda p, q: p * ((q > 0) - (q < 0)),
    }
    return joined([table[kind](p, q) for p, q in zip(x.tolist(), y.tolist(), strict=True)], bits)


def shift(name: str, a: int, count: int, width: int) -> int | None:
    """psll psrl psra psrc of lanes by one count."""
    match = re.fullmatch(r"ps(ll|rl|ra|rc)([hwd])", name)
    if not match:
        return None
    kind, bits = match[1], BITS[match[2]]
    if kind == "ra":
        return joined([v >> min(count, bits - 1) for v in lanes(a, bits, width)], bits)
    values = [int(v) for v in lanes(a, bits, width, unsigned=True)]
    if kind == "rc":
        return joined([v >> count % bits | v << bits - count % bits for v in values], bits)
    return joined([0 if count >= bits else v << count if kind == "ll" else v >> count for v in values], bits)


def product(name: str, a: int, b: int, width: int) -> int | None:
    """pmul*, pmadd*, psadbw."""
    x, y = lanes(a, 16, width), lanes(b, 16, width)
    if name in ("pmulhh", "pmullh", "pmulhrsh"):
        return joined({"pmulhh": x * y >> 16, "pmullh": x * y, "pmulhrsh": (x * y >> 14) + 1 >> 1}[name], 16)
    if name == "pmulhuh":
        return joined(lanes(a, 16, width, unsigned=True) * lanes(b, 16, width, unsigned=True) >> 16, 16)
    if name == "pmullw":
        return joined(lanes(a, 32, width) * lanes(b, 32, width), 32)
    if name == "pmaddh":
        return joined((x * y)[::2] + (x * y)[1::2], 32)
    if name == "pmaddubsh":
        sums = lanes(a, 8, width) * lanes(b, 8, width, unsigned=True)
        return joined(clipped(sums[::2] + sums[1::2], 16, unsigned=False), 16)
    if name == "psadbw":
        return by_doubles(lambda p, q: int(sum(abs(lanes(p, 8, 64, unsigned=True) - lanes(q, 8, 64, unsigned=True)))),
                          width, a, b)
    return None


def horizontal(name: str, a: int, b: int, width: int) -> int | None:
    """phadd, phsub: neighbours of a in the low half, of b in the high one."""
    match = re.fullmatch(r"ph(add|sub)(s?)([hw])", name)
    if not match:
        return None
    bits = BITS[match[3]]
    both = np.concatenate([lanes(a, bits, width), lanes(b, bits, width)])
    found = both[::2] + both[1::2] if match[1] == "add" else both[::2] - both[1::2]
    return joined(clipped(found, bits, unsigned=False) if match[2] else found, bits)


def moved(name: str, a: int, b: int, width: int) -> int | None:
    """pack, punpck, masks of signs."""
    if match := re.fullmatch(r"pack([su])s(hb|wh)", name):
        bits = BITS[match[2][0]]
        both = np.concatenate([lanes(b, bits, width), lanes(a, bits, width)])
        return joined(clipped(both, bits // 2, unsigned=match[1] == "u"), bits // 2)
    if match := re.fullmatch(r"punpck([lh])(bh|hw|wd)", name):
        bits = BITS[match[2][0]]
        x, y = lanes(a, bits, width), lanes(b, bits, width)
        part = slice(0, len(x) // 2) if match[1] == "l" else slice(len(x) // 2, None)
        return joined(np.stack([y[part], x[part]], axis=1).ravel(), bits)
    if match := re.fullmatch(r"pmovmsk(b|ps|pd)", name):
        bits = {"b": 8, "ps": 32, "pd": 64}[match[1]]
        signs = [int(v < 0) for v in np.concatenate([lanes(b, bits, width), lanes(a, bits, width)])]
        return joined(signs, 1)
    return None


LOGIC: dict[str, Callable[[int, int], int]] = {
    "pand": lambda a, b: a & b, "pandn": lambda a, b: a & ~b, "por": lambda a, b: a | b, "pxor": lambda a, b: a ^ b,
}


def logic(name: str, a: int, b: int, width: int) -> int | None:
    found = LOGIC.get(name)
    return None if found is None else found(a, b) & (1 << width) - 1


def three(name: str, a: int, b: int, c: int, width: int) -> int:
    """plog tables bit by bit, pmerge by the signs of the bytes of c."""
    if name == "pmerge":
        chosen = zip(lanes(a, 8, width), lanes(b, 8, width), lanes(c, 8, width), strict=True)
        return joined([y if z < 0 else x for x, y, z in chosen], 8)
    table = int(name.removeprefix("plog_"), 16)
    found = 0
    for bit in range(width):
        index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | c >> bit & 1
        found |= (table >> index & 1) << bit
    return found


def computed(name: str, sources: list[int], width: int) -> int:
    """The result of one operation; ``name`` without the q of the 128-bit ones."""
    a, b, *rest = sources
    if rest:
        return three(name, a, b, rest[0], width)
    for family in (arithmetic, shift, product, horizontal, moved, logic):
        found = family(name, a, b, width)
        if found is not None:
            return found
    raise AssertionError(name)


BYTE_SHIFTS: dict[str, Callable[[int, int, int], int]] = {
    "psllql": lambda a, b, n: b << 8 * n & M64, "psllqh": lambda a, b, n: (a << 64 | b) << 8 * n >> 64 & M64,
    "psrlql": lambda a, b, n: (a << 64 | b) >> 8 * n & M64, "psrlqh": lambda a, b, n: a >> 8 * n,
}


def packed64(check: str, row: Row) -> int:
    words = re.split(r"[\s,]+", check.split(maxsplit=1)[1].strip('"'))
    a, b, c, count = row
    if words[0] in BYTE_SHIFTS:
        return BYTE_SHIFTS[words[0]](a, b, int(words[3]))
    if words[0] == "pshufh":
        return joined([b >> 16 * (int(words[2], 16) >> 2 * i & 3) for i in range(4)], 16)
    if words[0] == "pshufw":
        select = int(words[3], 16)
        return joined([((b, a)[s >> 1]) >> 32 * (s & 1) for s in (select & 3, select >> 2 & 3)], 32)
    if words[0] in ("pandd", "pandnd", "pord", "pxord"):
        return computed(words[0][:-1], [a, b], 64)
    sources = [a, b, c] if check.startswith("T3") else [a, count] if "%dr4" in words else [a, b]
    return computed(words[0], sources, 64)


def packed128(check: str, row: Row) -> list[int]:
    name, *words = re.split(r"[\s,]+", check.split(maxsplit=1)[1].strip('"'))
    wide = [row[0] | row[1] << 64, row[2] | row[3] << 64, row[4] | row[5] << 64, row[6]]
    sources = [wide[int(word[-1]) - 1] & (M64 if word.startswith(("%dr", "%r")) else -1) for word in words[:-1]]
    if name == "qpswitchd":
        found = wide[0] >> 64 | wide[0] << 64
    elif name == "qpswitchw":
        found = by_doubles(lambda v: v >> 32 | v << 32, 128, wide[0])
    elif name == "qppackdl":
        found = sources[0] << 64 | sources[1]
    elif name == "qpmulubhh":
        found = joined((lanes(sources[0], 8, 64, unsigned=True) * lanes(sources[1], 16, 128) + 0x80) >> 8, 16)
    elif name == "qpmsk2sgnb":
        found = joined([v & 0x7F | (sources[1] >> i & 1) << 7 for i, v in enumerate(sources[0].to_bytes(16, "little"))],
                       8)
    else:
        found = computed(name[1:], sources, 128)
    return [found & M64, found >> 64 & M64]


def rows(width: int) -> list[Row]:
    rng = random.Random(f"packed {width}")
    count = 4 if width == 64 else 8
    found = []
    for _ in range(16):
        row = [rng.choice((rng.choice(LANES), rng.choice(EDGES), rng.getrandbits(64), rng.getrandbits(64)))
               for _ in range(count)]
        if rng.random() < 0.3:
            row[width // 64] = row[0]       # equal lanes
        row[3 if width == 64 else 6] = rng.choice((0, 1, 7, 15, 16, 31, 32, 63, rng.randrange(64)))
        found.append(tuple(row))
    return found


AREAS = (
    Area("packed64", packed64, rows(64), models=("e8c2",), per_part=20),
    Area("packed128", packed128, rows(128), models=("e8c2",), per_part=9),
)
