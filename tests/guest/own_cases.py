"""Cases of operations that have no golden vectors, with results computed from their definitions in words.

Flags are those of x86, computed with exact integers; scaled numbers with fractions; memory is 1, 2, 3 ... at MEMORY.
What is a choice of ours and not a fact has its section in docs/semantics.md or docs/semantics-control.md.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from e2kemu.cpu.insn import Aau
from e2kemu.cpu.isa.aau import REGISTERS, Slot
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import rows
from tests.cpu.fp.exact import rounded
from tests.cpu.guest import STACKS
from tests.cpu.test_user_ops import flags_of
from tests.guest.cases import M32, M64, MEMORY, POISON, PREDICATE, Case, result, sources

MODEL_OF = {2: "e2c+", 3: "e2s", 4: "e8c", 5: "e8c2", 6: "e16c", 7: "e48c"}
SIZES = {"b": 1, "h": 2, "w": 4, "d": 8, "q": 16, "qp": 16, "mqp": 16}
CONTENT = bytes(range(1, 65))
VALUE = 0xF1E2D3C4B5A69788
HIGH = 0x0A1B2C3D4E5F6071
"""What is stored: %r6, and %r7 or the extension of %r6."""


def where(op: Op) -> tuple[str, int]:
    """A CPU model that has the operation, e8c if it can be, and its first channel there."""
    version = next(v for v in (4, 5, 6, 7, 3, 2) if op.channels[v])
    return MODEL_OF[version], int(op.channels[version][0])


def case(op: Op, before: dict[str, int], after: dict[str, int], **more: object) -> Case:
    model, channel = where(op)
    return Case(op, model, channel, before, after, more=more)


# --- flags of x86 ---------------------------------------------------------------------------------------

def _flags(op: Op) -> Iterator[Case]:
    stem, width = op.name.split("_f")[0], {"b": 8, "h": 16, "w": 32, "d": 64}[op.name[-1]]
    if not stem.endswith("x"):
        stem = stem[:-1]
    rng = random.Random(op.name)
    for _ in range(6):
        a, b, old = rng.getrandbits(64), rng.choice((1, 7, rng.getrandbits(64))), rng.getrandbits(12)
        numbers = [a, b] if len(op.sizes) == 3 else [a, b, old]
        yield case(op, sources(op, numbers), result(op, flags_of(stem, width, a, b, old)))


CONDITIONS: dict[str, Callable[[int, int, int, int, int], int]] = {
    "o": lambda c, p, z, s, o: o, "b": lambda c, p, z, s, o: c, "e": lambda c, p, z, s, o: z,
    "be": lambda c, p, z, s, o: c | z, "s": lambda c, p, z, s, o: s, "p": lambda c, p, z, s, o: p,
    "l": lambda c, p, z, s, o: s ^ o, "le": lambda c, p, z, s, o: z | s ^ o,
}


def _conditions(op: Op) -> Iterator[Case]:
    for flags in range(32):
        c, p, z, s, o = (flags >> i & 1 for i in range(5))
        word = c | p << 2 | z << 6 | s << 7 | o << 11
        yield case(op, sources(op, [word]), {PREDICATE: CONDITIONS[op.name.removeprefix("cctop")](c, p, z, s, o)})


# --- floating point -------------------------------------------------------------------------------------

def _bits(letter: str, value: Fraction) -> int:
    return rounded(letter, value, 0)[0]


def _scaled(op: Op) -> Iterator[Case]:
    """src1 * 2 ** src2."""
    letter = {"S": "s", "D": "d", "X": "x"}[op.sizes[-1]]
    for value, power in ((Fraction(3, 2), 5), (Fraction(-7, 8), -3), (Fraction(1), 40)):
        before = sources(op, [_bits(letter, value), power & M32])
        scaled = _bits(letter, value * Fraction(2) ** power)
        yield case(op, {**before, "pfpfr": 0x1F80, "fpcr": 0x37F}, result(op, scaled))


def _reciprocal(op: Op) -> Iterator[Case]:
    """1/x, and 1/sqrt(x) where it is a number that the format has."""
    for value in (Fraction(4), Fraction(1, 16), Fraction(64)):
        root = Fraction(int(value.numerator ** 0.5), int(value.denominator ** 0.5))
        exact = 1 / (value if op.name == "frcps" else root)
        yield case(op, {**sources(op, [_bits("s", value)]), "pfpfr": 0x1F80}, result(op, _bits("s", exact)))


def _first_step(op: Op) -> Iterator[Case]:
    """src2, in the format of the result."""
    kinds = {"S": "s", "D": "d", "X": "x"}
    read = op.source_sizes
    for value in (Fraction(2), Fraction(45, 16)):
        numbers = [_bits(kinds[letter], value if index == len(read) - 1 else Fraction(9))
                   for index, letter in enumerate(read)]
        yield case(op, {**sources(op, numbers), "pfpfr": 0x1F80, "fpcr": 0x37F},
                   result(op, _bits(kinds[op.sizes[-1]], value)))


# --- moves and tags -------------------------------------------------------------------------------------

def _fields(op: Op) -> Iterator[Case]:
    """Eight bits from bit 8 on, whose low three are cleared; with the sign."""
    for a, sign in ((0x0000_F7F7, 0), (0x0000_8F00, 1), (0x0000_7F00, 1)):
        part = (a >> 8 & 0xFF) & ~7
        value = part - 256 if sign and part & 0x80 else part
        yield case(op, sources(op, [a, 8 | 8 << 6 | sign << 12 | 3 << 13]), result(op, value))


def _moves(op: Op) -> Iterator[Case]:
    value = 0x8765_4321_1234_5678
    if op.name in ("movtq", "movtcq", "movtrq", "movtrcq"):
        yield case(op, {"r2": value, "r3": 7}, {"r8": value, "r9": 7})
    elif op.name == "getpl":
        yield case(op, {"r2": value}, {"r8": value & M32})
    elif op.name in ("movx", "movxa", "movxc"):
        signs = {"movx": ((0, 0), (1, 1)), "movxa": ((0, 0), (1, 0)), "movxc": ((0, 1), (1, 0))}[op.name]
        for before, after in ((0x4001 | a << 15, 0x4001 | b << 15) for a, b in signs):
            yield case(op, {"r2": value, "r2.ext": before}, {"r8": value, "r8.ext": after})
    elif op.name == "movif":
        yield case(op, {"r0": value, "r2": 0xFFFF_4001}, {"r8": value, "r8.ext": 0x4001})
    elif op.name == "movfi":
        yield case(op, {"r2": value, "r2.ext": 0xC001}, result(op, 0xC001))
    else:
        yield case(op, {"r2": value}, result(op, value))


def _tags(op: Op) -> Iterator[Case]:
    value = 0x8765_4321_1234_5678
    if op.name == "gettagd":
        yield case(op, {"r2": value, "r2.tag": 0xC}, result(op, 0xC))
    elif op.name == "puttags":
        yield case(op, {"r0": value, "r2": 2, "r8.tag": 0}, {**result(op, value), "r8.tag": 2})
    elif op.name == "puttagd":
        yield case(op, {"r0": value, "r2": 0xA}, {**result(op, value), "r8.tag": 0xA})
    else:
        yield case(op, {"r0": value, "r0.ext": 9, "r2": 4}, {"r8": value, "r8.ext": 9, "r8.tag": 4})


def _stack(op: Op) -> Iterator[Case]:
    top = STACKS + 0x300000
    yield case(op, {"r2": -64 & M64}, {"r8": top - 64, "usd.lo": top - 64, "usd.hi": 0x100000 - 64 << 32})


# --- memory ---------------------------------------------------------------------------------------------

def _memory(at: int, data: bytes) -> dict[str, int]:
    return {f"M:{at + i}": byte for i, byte in enumerate(data)}


def _loaded(op: Op, size: int, offset: int) -> dict[str, int]:
    """What a load of ``size`` bytes gives."""
    low = int.from_bytes(CONTENT[offset : offset + min(size, 8)], "little")
    high = int.from_bytes(CONTENT[offset + 8 : offset + 16], "little")
    if op.sizes[-1] == "P":
        return {"r8": low, "r8.ext": high}
    if op.sizes[-1] == "Q":
        return {"r8": low, "r9": high}
    return result(op, low)


def _accessed(op: Op, size: int, offset: int, address: dict[str, int], mask: int = 0xFFFF) -> Case:
    """A load or store of ``size`` bytes at MEMORY + offset."""
    before = {**_memory(0, CONTENT), **address}
    if op.load:
        return case(op, before, _loaded(op, size, offset))
    data = (VALUE | HIGH << 64).to_bytes(16, "little")[:size]
    written = bytes(new if mask >> i & 1 else CONTENT[offset + i] for i, new in enumerate(data))
    after = _memory(0, CONTENT[:offset] + written + CONTENT[offset + size :])
    return case(op, {**before, "r6": VALUE, "r6.ext": HIGH, "r7": HIGH}, after)


def _plain(op: Op) -> Iterator[Case]:
    size = SIZES[op.name[2:]]
    if size < 16:
        yield _accessed(op, size, 11, {"r0": MEMORY + 8, "r2": 3})
    elif "mqp" in op.name:
        yield _accessed(op, size, 16, {"r0": MEMORY + 16, "r2": 0xA5C3}, 0xA5C3)
    else:
        yield _accessed(op, size, 16, {"r0": MEMORY, "r2": 16})


def _recorded(op: Op) -> Iterator[Case]:
    """The record in src2 has the index in 31:0 and the format in 42:40."""
    if op.name.endswith("qp"):
        yield _accessed(op, 16, 16, {"r0": MEMORY, "r2": 16 | 5 << 40})
        return
    for code, size in ((1, 1), (2, 2), (3, 4), (4, 8)):
        yield _accessed(op, size, 8, {"r0": MEMORY, "r2": 8 | code << 40})


def _segment(op: Op) -> Iterator[Case]:
    match = re.fullmatch(r"(?:ld|st)(cs|ds|es|fs|gs|ss|gd|cud)(\w+)", op.name)
    assert match
    segment, size = match[1], SIZES[match[2]]
    described = {f"{segment}.lo": MEMORY | 3 << 59, f"{segment}.hi": 64 << 32}
    mask = 0xA5C3 if match[2] == "mqp" else 0xFFFF
    second = mask if match[2] == "mqp" else 0
    yield _accessed(op, size, 16, {**described, "r0": 16, "r2": second}, mask)


def _pointer(op: Op) -> Iterator[Case]:
    """The array pointer in %r0 and %r1: 64 bytes at MEMORY, at offset 8."""
    match = re.fullmatch(r"(?:ld|st)ap(\w+)", op.name)
    assert match
    size = SIZES[match[1]]
    masked = match[1] == "mqp"
    before = {"r0": MEMORY | 3 << 59, "r1": 64 << 32 | 8, "r0.tag": 15, "r1.tag": 12, "r2": 0xA5C3 if masked else 8}
    if masked:
        before["r1"] = 64 << 32 | 16
    yield _accessed(op, size, 16, before, 0xA5C3 if masked else 0xFFFF)


# --- the array access unit and state registers ----------------------------------------------------------

DESCRIPTOR, INDEX = 6, 2


def _array(op: Op) -> Iterator[Case]:
    """Through %aad6 [ %aasti2 ] with the index 16."""
    match = re.fullmatch(r"(?:st|ld)aa(\w+)", op.name)
    assert match
    size = SIZES[match[1]]
    before = {f"A:{Slot.AAD + 2 * DESCRIPTOR}": MEMORY | 6 << 54 | 3 << 59, f"A:{Slot.AASTI + INDEX}": 16}
    plain = _accessed(op, size, 16, before)
    after = dict(plain.after)
    if op.load and op.sizes[-1] == "S":
        after = {"r8": POISON & ~M32 | int.from_bytes(CONTENT[16 : 16 + size], "little")}
    operand = REGISTERS[f"%aasti{INDEX}"] & 0xF << 7 | REGISTERS[f"%aad{DESCRIPTOR}"]
    yield case(op, dict(plain.before), after, aau=Aau(operand))


def _array_register(op: Op) -> Iterator[Case]:
    """%aasti2, and %aadr6 for pairs."""
    if op.name.endswith("q"):
        aau = Aau(REGISTERS[f"%aadr{DESCRIPTOR}"])
        item, next_item = f"A:{Slot.AAD + 2 * DESCRIPTOR}", f"A:{Slot.AAD + 2 * DESCRIPTOR + 1}"
        low, high = MEMORY | 6 << 54 | 3 << 59, 64 << 32
        if op.name.startswith("aaurw"):
            yield case(op, {"r6": low, "r7": high}, {item: low, next_item: high}, aau=aau)
        else:
            yield case(op, {item: low, next_item: high}, {"r8": low, "r9": high}, aau=aau)
        return
    aau, item = Aau(REGISTERS[f"%aasti{INDEX}"]), f"A:{Slot.AASTI + INDEX}"
    if op.name.startswith("aaurw"):
        yield case(op, {"r6": 0x1234}, {item: 0x1234}, aau=aau)
    else:
        yield case(op, {item: 0x1234}, result(op, 0x1234), aau=aau)


def _state_register(op: Op) -> Iterator[Case]:
    """%lsr."""
    value = 2 << 32 | 5 | 1 << 37
    if op.name == "rwd":
        yield case(op, {"r2": value}, {"lsr": value})
    elif op.name == "rws":
        yield case(op, {"r2": value, "lsr": 0}, {"lsr": value & M32})
    else:
        yield case(op, {"lsr": value}, result(op, value))


# --- what v6 and v7 add ---------------------------------------------------------------------------------

TARGET = 0x28000


def _transfers(op: Op) -> Iterator[Case]:
    more: dict[str, object] = {"imm8": 4} if op.imm8 or op.name == "icalld" else {}
    yield case(op, {"r2": TARGET}, {"pc": TARGET, "ctpr1": 0}, **more)


def _elements(value: int, size: int, *, signed: bool) -> list[int]:
    row = [value >> at & (1 << size) - 1 for at in range(0, 128, size)]
    return [x - (1 << size) if signed and x >> size - 1 else x for x in row]


def _saturated(op: Op) -> Iterator[Case]:
    """The low half from src2, the high half from src1, as the older operations with the letters swapped."""
    size, low, high = {"hb": (16, -128, 127), "hbu": (16, 0, 255), "wh": (32, -32768, 32767), "whu": (32, 0, 65535)}[
        op.name[5:7] + op.name[7].replace("s", "")]
    rng = random.Random(op.name)
    for _ in range(6):
        a, b = rng.getrandbits(128) & rng.getrandbits(128), rng.getrandbits(128)
        row = _elements(b, size, signed=True) + _elements(a, size, signed=True)
        clipped = [min(max(x, low), high) & (1 << size // 2) - 1 for x in row]
        yield case(op, sources(op, [a, b]), result(op, sum(x << i * size // 2 for i, x in enumerate(clipped))))


def _dots(op: Op) -> Iterator[Case]:
    size, signed = 8 if op.name[7] == "b" else 16, op.name.endswith("ss")
    rng = random.Random(op.name)
    for _ in range(6):
        a, b, c = (rng.getrandbits(128) for _ in range(3))
        both = (_elements(source, size, signed=signed) for source in (a, b))
        products = [x * y for x, y in zip(*both, strict=True)]
        each = 32 // size
        sums = [x + sum(products[i * each : (i + 1) * each]) for i, x in enumerate(_elements(c, 32, signed=True))]
        yield case(op, sources(op, [a, b, c]), result(op, sum((x & M32) << 32 * i for i, x in enumerate(sums))))


MAKERS: tuple[tuple[str, Callable[[Op], Iterator[Case]]], ...] = (
    (r".*_f[bhwd]", _flags),
    (r"cctop\w+", _conditions),
    (r"fscale[sd]|fxscalesx", _scaled),
    (r"frcps|frsqrts", _reciprocal),
    (r"fsqrtid|fxsqrt[iu][sdx]x", _first_step),
    (r"getfz[sd]", _fields),
    (r"movt\w+|getpl|movxa?|movxc|movif|movfi", _moves),
    (r"gettagd|puttag\w+", _tags),
    (r"getspd?", _stack),
    (r"(ld|st)r(d|qp)", _recorded),
    (r"(ld|st)([bhwdq]|m?qp)", _plain),
    (r"(ld|st)(cs|ds|es|fs|gs|ss|gd|cud)(b|h|w|d|q|m?qp)", _segment),
    (r"(ld|st)ap(b|h|w|d|q|m?qp)", _pointer),
    (r"(st|ld)aa(b|h|w|d|q|qp)", _array),
    (r"aaur[rw]\w*", _array_register),
    (r"r[rw][sd]", _state_register),
    (r"ibranchd|icalld", _transfers),
    (r"qpack(hb|wh)[us]s", _saturated),
    (r"qpidots\w+", _dots),
)


def own() -> Iterator[Case]:
    """All of them."""
    for op in rows():
        if op.alias_of or op.meaning is None or not any(op.channels[2:]):
            continue
        for pattern, make in MAKERS:
            if re.fullmatch(pattern, op.name):
                yield from make(op)
                break
