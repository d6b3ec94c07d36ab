"""Speculation, memory, loops, windows, transfers, the array access unit, traps: what must come out by the rules."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.guest.areas.integer import number
from tests.guest.areas.words import named
from tests.guest.harness import M32, M64, POISON, Area, Row

LOST = 0x4AFAFAFA4AFAFAFA
"""What a speculative load gives where there is no memory."""
MARKS = 0x4000000040000000
CELL = 0x1020304050607080

SPECULATIVE = {
    "TTAG ldd": 5, "TRAW ldd": LOST | MARKS, "TTAG ldw": 5, "TTAG ldb": 5, "TTAG a load that has memory": 0,
    "TIS a load that has memory": CELL, "TTAG addd": 5, "TTAG muld": 5, "TTAG faddd": 5, "TTAG paddh": 5,
    "TTAG shl_addd": 5, "TTAG a load from a diagnostic address": 5, "TTAG adds": 1, "TTAG udivd": 5,
    "TTAG addd of numbers": 0, "TDIAG compared": 5, "TTAG under a diagnostic condition": 5,
    "TRAW under a diagnostic condition": 8 | MARKS, "TPRED false landp diagnostic": 0,
    "TDIAG false landp diagnostic": 0, "TDIAG false andp diagnostic": 5, "TDIAG true landp diagnostic": 5,
    "TPRED movep that moves nothing": 1, "TIS merge of the number": 1, "TTAG merge of the other": 5,
    "TIS under a false condition": 9, "TIS std,sm": 1,
}


def with_macro(values: dict[str, int]) -> Callable[[str, Row], int]:
    """Values by macro and name."""
    def value(check: str, _: Row) -> int:
        macro, rest = check.split(maxsplit=1)
        return values[f"{macro} " + rest[1:].partition('"')[0]]

    return value


def memory(check: str, row: Row) -> int:
    if check.startswith("TIS"):
        return named({
            "a load beside a store": 1, "two stores": 2, "checked load": 1, "the check branches": 0,
            "checked load without a store": 1, "the check does not branch": 1, "atomic addition": 6, "tries": 1,
            "bypassing the caches": 6,
        })(check, row)
    at, value = row[:2]
    data = bytes((0x80, 1, 0xFE, 3, 0xC4, 5, 0x96, 7, 0xFF, 9, 0xAA, 11, 0x8C, 13, 0xEE, 15)) + (
        0x8877665544332211).to_bytes(16, "little")
    if "dr1 " in check:
        size = {"b": 1, "h": 2, "w": 4, "d": 8}[check[6]]
        return int.from_bytes(data[at : at + size], "little")
    stored = value & ~0xFF | 0x77
    if ",0" in check:
        return stored
    stored = stored & ~0xFFFF | value & 0xFFFF
    return stored if ",3" in check else stored & ~M32 & M64 | 0x77


def turns(lsr: int) -> int:
    """Turns of a loop with the counters of LSR: at least one; the epilogue goes on after the last."""
    count, epilogue = lsr & M32, lsr >> 32 & 31
    return (max(count, 1) + epilogue) if count or not epilogue else epilogue + 1


LOOPS = {
    **{f"stored {i}": 3 * (i + 1) if i < 10 else 0 for i in range(11)}, "lsr behind the loop": 1 << 37 | 1 << 38,
    "b0 after abn": 14, "b2 after abn": 10, "b4 after abn": 12, "the same register": 10, "b0 after three": 10,
    "pred0 after abp": 0, "pred1 after abp": 1, "pred4 after abp": 1, "pred2 after two": 1, "pred0 after four": 1,
    "g31 after abgi": 24, "g30 after abgi": 31, "g24 after both": 24, "g24 after abgd": 31,
    "alcf and a true condition": 1 << 37 | 5, "alct and a true condition": 1 << 37 | 4,
    "alcf and a false condition": 1 << 37 | 3, "pcnt1 of 2": 0, "pcnt2 of 2": 1, "not pcnt1 of 2": 1,
    "lcntex of 1": 0, "lcntex of 0": 1,
}


def loops(check: str, row: Row) -> int:
    if check.startswith("TTURNS"):
        return turns(int(check.split('"')[1], 16))
    return named(LOOPS)(check, row)


def memory_rows() -> list[Row]:
    rng = random.Random("memory")
    return [(at, number(rng), number(rng), 0) for at in range(16)]


INPUT = struct.pack("<8Q", 0x8877665544332211, 0x1020304050607080, 3, 4, 5, 6, 7, 8)
ARRAYS = {
    "first": 3, "beside": 4, "stepped": 5, "narrow": 5, "stored": 0x1111, "stored half": 0x1111,
    "stored beyond": 0x2222, "index": 10, "loaded by descriptor": 0x2222 << 48,
}


def arrays(check: str, row: Row) -> int:
    if check.startswith("TSUM"):
        size = {"b": 1, "h": 2, "w": 4, "d": 8}[check[9]]
        elements = [int.from_bytes(INPUT[i * size : (i + 1) * size], "little") for i in range(8)]
        return sum(elements) & M64
    return named(ARRAYS)(check, row)


WINDOWS = {
    "first result": 22, "second result": 11, "what the callee does not see": 33, "sum": 200 * 201 // 2,
    "sum with flushes": 78, "fib": 89, "b1 is r49": 55, "b0 of the second quad": 66, "the last register": 77,
    "an empty register": 5, "a register that left the window": 5, "with dbl": 5,
    "without dbl": POISON & ~M32 | 5, "64 bytes of stack": 64, "given back": 0, "the callee's stack": 32,
    "freed by the return": 0, "the callee's predicates": 1, "restored": 1, "restored false": 0,
}
TRANSFERS = {
    "true": 1, "not true": 0, "false": 0, "not false": 1, "NOT_LOOP_END": 1, "LOOP_END": 0, "true or LOOP_END": 1,
    "false or LOOP_END": 0, "true and NOT_LOOP_END": 1, "false and NOT_LOOP_END": 0, "LOOP_END at the end": 1,
    "NOT_LOOP_END at the end": 0, "false or LOOP_END at the end": 1, "true and NOT_LOOP_END at the end": 0,
    "ibranch true": 1, "ibranch false": 0, "ibranch not false": 1, "beside a transfer": 3, "the old condition": 1,
    "three calls": 3, "a computed call": 4, "no call": 4, "an early return": 11, "a late return": 110,
    "a table of branches": 111, "distance": 0, "tag": 3, "opcode of ldisp": 1, "tag behind a call": 0,
}

TRAPS: dict[str, tuple[int, tuple[int, ...]]] = {
    "division by 0": (1 << 34, (5,)), "sdivs of the least number": (1 << 34, (5,)),
    "diagnostic operand": (1 << 15, (0,)), "two of them": (1 << 15, (1, 4)),
    "operand and division": (1 << 15 | 1 << 34, (1, 5)), "diagnostic condition": (1 << 14, (0,)),
    "condition and operand": (1 << 14 | 1 << 15, (0, 1)), "of a transfer": (1 << 5, ()),
    "unprepared transfer": (1 << 7, ()), "window": (1 << 9, (0,)), "privileged register": (1 << 1, (0,)),
    "privileged transfer": (1 << 1, ()), "no such operation": (1 << 0, (3,)), "software trap": (1 << 26, ()),
    "user stack": (1 << 10, (0,)),
    "a descriptor is no number": (1 << 16, (0,)), "diagnostic transfer register": (1 << 6, ()),
    "floating point switched off": (1 << 2, (0,)), "division of doubles by 0": (1 << 35, (5,)),
    "misaligned": (1 << 19, (0,)), "the last one": (1 << 26, ()),
}
"""Name -> exceptions in TIR.exc, channels in TIR.al."""


def traps(check: str, _: Row) -> list[int]:
    """TIR.exc, TIR.al, distance of TIR.lo from the wide instruction, %dr10: 7 where it was executed."""
    name = check.split('"')[1]
    if name not in TRAPS:
        # TIR.lo is that of the trap before
        return [0, 0, 0, 7]
    exceptions, channels = TRAPS[name]
    return [exceptions, sum(1 << channel for channel in channels), 0, POISON]


def memory128(check: str, row: Row) -> int:
    """Rows: an offset, two numbers; the low 16 bits of the first one are a mask of bytes."""
    at, first, second = row[:3]
    data = struct.pack("<4Q", 0x8877665544332211, 0x00FFEEDDCCBBAA99, 0x1020304050607080, 0x0123456789ABCDEF)
    stored = second.to_bytes(8, "little") + first.to_bytes(8, "little")
    chosen = bytes(byte if first >> i & 1 else 0 for i, byte in enumerate(stored))
    low, high = struct.unpack("<QQ", chosen)
    return named({
        "low half": int.from_bytes(data[at : at + 8], "little"),
        "high half": int.from_bytes(data[at + 8 : at + 16], "little"), "first of a pair": 0x8877665544332211,
        "second of a pair": 0x00FFEEDDCCBBAA99, "first stored": first, "second stored": second, "chosen low": low,
        "chosen high": high, "locked sum": first + second & M64,
    })(check, row)


CONTROL = {
    "event number": 0x5A, "recovery point": 0, "cleared": 0, "recovery point of a loop": 0,
    "beside hints and barriers": 31, "vfrpsz": 3, "settr": 3,
    "g24 after abgc 3": 27, "g24 after abgc 7": 31, "g24 after rbgc": 24, "behind fills": 6,
    "a register of the caller": 6, "behind barriers": 6,
    "behind icall": 7, "behind no icall": 7, "behind icall of a true condition": 9, "behind icalld": 11,
    "behind no icalld": 11, "behind ibranchd": 3,
}

AREAS = (
    Area("speculative", with_macro(SPECULATIVE)),
    Area("memory", memory, memory_rows()),
    Area("memory128", memory128, memory_rows(), models=("e8c2", "e16c")),
    Area("loops", loops),
    Area("arrays", arrays, models=("e8c", "e8c2", "e16c")),
    Area("windows", named(WINDOWS), models=("e8c", "e8c2")),
    Area("control", named(CONTROL)),
    Area("control6", named(CONTROL), models=("e16c", "e48c")),
    Area("traps", traps, linux=False),
    Area("transfers", named(TRANSFERS)),
)
