"""Literals, tags, merges and predicate logic, from what their definitions say."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.guest.areas.integer import number
from tests.guest.harness import M32, M64, POISON, Area, Row


def named(values: dict[str, int]) -> Callable[[str, Row], int]:
    """Values of ``TIS name, ...`` and the like by their names."""
    def value(check: str, _: Row) -> int:
        words = check.split(maxsplit=1)[1]
        return values[words[1:].partition('"')[0] if words[0] == '"' else words.partition(",")[0]]

    return value


def merge(check: str, row: Row) -> int:
    text = check.split(maxsplit=1)[1].strip('"')
    a, b, condition = row[0], row[1], not row[2] & 1
    if "%pred3" in text:
        return b if "%dr12," in text.split("%dr10")[0].split(" ", 1)[1][:6] else a
    b = 5 if ", 5," in text else b
    value = b if condition != ("~" in text) else a
    return POISON & ~M32 | value & M32 if text.startswith("merges") else value


def literal(check: str, _: Row) -> int:
    if check.startswith("TIS"):
        return named({
            "first": 0x1111, "second": 0xFFFF_FFFF_FFFF_9222, "third": 0xFFFF_FFFF_8333_3333,
            "fourth": 0x4444_4444_5555_5555, "fifth": 0xFFFF_FFFF_8333_3333, "sixth": 0x5555_5555,
            "content": 0x0123456789ABCDEF, "content of a label": 0x0123456789ABCDEF, "a label in the data": 24,
        })(check, ())
    match = re.search(r"(\w+),0 (\w+), (?:_f(16s|32s|64)(?:,\w+)? )?(-?\w+), %", check)
    assert match
    bits = int((match[3] or "64").rstrip("s"))
    text = int(match[4], 0)
    value = text - (1 << bits) if bits < 64 and text >> bits - 1 == 1 else text
    total = int(match[2]) - value if match[1] == "subd" else int(match[2]) + value
    return POISON & ~M32 | total & M32 if match[1] == "adds" else total & M64


VALUE = 0x1122334455667788
TAGS = {
    "numeric": 0, "diagnostic": 5, "label": 10, "low-diagnostic": 1, "high-diagnostic": 4,
    "gettagd-keeps-the-upper-half": POISON & ~M32 | 5, "gettags-sees-the-low-half": POISON & ~M32,
    "low-half-is-numeric": VALUE & M32, "moved-label": 10, "moved-diagnostic": 5, "moved-half": 5, "written-half": 4,
    "spread": 5, "spread-value": VALUE | 0x4000_0000_4000_0000, "spread-half": 1,
    "spread-half-value": VALUE & M32 | 0x4000_0000, "loaded": 0, "loaded-value": VALUE,
}


def plu(check: str, row: Row) -> int:
    """From the text: @p0..@p2 are read, @p4..@p6 computed in order, %pred5.. written, which were bit 3 negated."""
    values = {f"%pred{2 + i}": bool(row[0] >> i & 1) for i in range(3)}
    old = not row[0] & 8
    results = {f"%pred{n}": old for n in (5, 6, 7)}
    names: dict[str, bool] = {}
    written: dict[str, str] = {}
    statements = [s.strip() for s in check.split('"')[1].split(";")]
    for statement in statements:
        if match := re.fullmatch(r"pass (@p\d), (%pred\d)", statement):
            written[match[1]] = match[2]
    for statement in statements:
        if match := re.fullmatch(r"pass (%pred\d), (@p\d)", statement):
            names[match[2]] = values[match[1]]
        elif match := re.fullmatch(r"(andp|landp|movep) (~?)(@p\d), (~?)(@p\d), (@p\d)", statement):
            kind, n0, a, n1, b, target = match.groups()
            first, second = names[a] != bool(n0), names[b] != bool(n1)
            if kind == "movep":
                keeps = not first
                names[target] = second and not keeps
                if not keeps and target in written:
                    results[written[target]] = second
            else:
                names[target] = first and second
                if target in written:
                    results[written[target]] = names[target]
    return sum(results[f"%pred{5 + i}"] << i for i in range(3))


def rows(seed: str, count: int) -> list[Row]:
    rng = random.Random(seed)
    return [tuple(number(rng) for _ in range(4)) for _ in range(count)]


AREAS = (
    Area("merge", merge, rows("merge", 20)),
    Area("literals", literal),
    Area("tags", named(TAGS)),
    Area("plu", plu, [(value, 0, 0, 0) for value in range(16)], per_part=10),
)
