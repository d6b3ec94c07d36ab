"""The table of all operations of the arithmetic-logic channels, and how to find a row in it.

Importing this module imports every family of rows; ``notation.ROWS`` is then complete.
"""

from __future__ import annotations

from e2kemu.cpu.isa import (  # noqa: F401  (imported for their rows)
    aau,
    alc_cmp,
    alc_flags,
    alc_fp,
    alc_fp80,
    alc_int,
    alc_mem,
    alc_simd64,
    alc_simd128,
    alc_sreg,
    alc_v7,
)
from e2kemu.cpu.isa.notation import ROWS, Op

BY_NAME: dict[str, tuple[Op, ...]] = {}
"""Mnemonic -> its rows (several when the encoding differs by channel or version)."""


def rows() -> list[Op]:
    """All rows, in order of declaration."""
    return ROWS


def by_name(name: str) -> tuple[Op, ...]:
    """The rows of a mnemonic, () when there is none."""
    return BY_NAME.get(name, ())


def _specificity(op: Op) -> int:
    """Rows with more fixed bits are tried first (v7: qpsgn2mskb before qps2mb)."""
    fixed = (op.opce, op.cmpopce, op.mas_code, op.ales_lo)
    return -sum(code is not None for code in fixed)


Codes = tuple[int, int, int, int, Op]
"""What tells a row from the others of its key: mask and value of ALS bits, ALES[7:0] and MAS (-1: any)."""


def _codes(op: Op) -> Codes:
    mask = value = 0
    if op.opce is not None:
        shift = 8 if op.fmt.name == "ALOPF16" else 16
        mask, value = 0xFF << shift, op.opce << shift
    if op.cmpopce is not None:
        mask, value = mask | 0xE0, value | op.cmpopce << 5
    return mask, value, -1 if op.ales_lo is None else op.ales_lo, -1 if op.mas_code is None else op.mas_code, op


def index(version: int) -> dict[int, tuple[Op, ...]]:
    """The rows that share channel, length, cop and opc2 in one instruction set, the most specific first."""
    return {key: tuple(found_codes[-1] for found_codes in found) for key, found in codes(version).items()}


def codes(version: int) -> dict[int, tuple[Codes, ...]]:
    """All codes of one instruction set: channel << 16 | cop, with 0x8000 | opc2 << 7 for a long operation -> the rows
    that share them, the most specific first."""
    found = _INDEX.get(version)
    if found is None:
        # when it is first wanted: a program needs one instruction set
        found = _INDEX[version] = _build(version)
    return found


def lookup(version: int, channel: int, als: int, ales: int | None, mas: int = 0) -> Op | None:
    """The row of an operation: ``ales`` is None for a short one. None when no row has these codes."""
    cop = als >> 24 & 0x7F
    key = channel << 16 | cop if ales is None else 0x8000 | channel << 16 | ales >> 8 << 7 | cop
    for mask, value, ales_lo, mas_code, op in (_INDEX.get(version) or codes(version)).get(key, ()):
        if (
            als & mask == value
            and (ales_lo < 0 or ales_lo == (ales or 0) & 0xFF)
            and (mas_code < 0 or mas_code == mas)
        ):
            return op
    return None


def _build(version: int) -> dict[int, tuple[Codes, ...]]:
    """Rows of one instruction set by channel, length, cop and opc2 (the key of ``lookup``), the most specific
    first. Aliases are not in it: a code has one name."""
    found: dict[int, list[Op]] = {}
    for op in ROWS:
        if op.alias_of:
            continue
        for channel in map(int, op.channels[version]):
            key = channel << 16 | op.cop | (0x8000 | (op.opc2 or 0) << 7 if op.fmt.long else 0)
            found.setdefault(key, []).append(op)
    return {key: tuple(map(_codes, sorted(ops, key=_specificity))) for key, ops in found.items()}


for _op in ROWS:
    BY_NAME[_op.name] = (*BY_NAME.get(_op.name, ()), _op)
_INDEX: dict[int, dict[int, tuple[Codes, ...]]] = {}
