"""The table of all operations of the arithmetic-logic channels, and how to find a row in it.

Importing this module imports every family of rows; ``notation.ROWS`` is then complete.
"""

from __future__ import annotations

from e2kemu.cpu.isa import (  # noqa: F401  (imported for their rows)
    aau,
    alc_cmp,
    alc_fp,
    alc_fp80,
    alc_int,
    alc_mem,
    alc_simd64,
    alc_simd128,
    alc_sreg,
    alc_v7,
)
from e2kemu.cpu.isa.notation import ROWS, VERSIONS, Op

BY_NAME: dict[str, tuple[Op, ...]] = {}
"""Mnemonic -> its rows (several when the encoding differs by channel or version)."""


def rows() -> list[Op]:
    """All rows, in order of declaration."""
    return ROWS


def by_name(name: str) -> tuple[Op, ...]:
    """The rows of a mnemonic, () when there is none."""
    return BY_NAME.get(name, ())


def short_key(channel: int, cop: int) -> int:
    """Key of ``index()`` for an operation without ALES."""
    return channel << 16 | cop


def long_key(channel: int, cop: int, opc2: int) -> int:
    """Key of ``index()`` for an operation with ALES."""
    return 0x8000 | channel << 16 | opc2 << 7 | cop


def _specificity(op: Op) -> int:
    """Rows with more fixed bits are tried first (v7: qpsgn2mskb before qps2mb)."""
    fixed = (op.opce, op.cmpopce, op.mas_code, op.ales_lo)
    return -sum(code is not None for code in fixed)


def index(version: int) -> dict[int, tuple[Op, ...]]:
    """Rows of one instruction set by ``short_key``/``long_key``; within a key the most specific first.

    Aliases are not in it: a code has one name. Built once per version.
    """
    return _INDEX[version]


def matches(op: Op, als: int, ales_lo: int, mas: int) -> bool:
    """Whether the codes of ``op`` that are not in its key agree with the bits."""
    if op.ales_lo is not None and op.ales_lo != ales_lo:
        return False
    if op.opce is not None and op.opce != (als >> 8 & 0xFF if op.fmt.name == "ALOPF16" else als >> 16 & 0xFF):
        return False
    if op.cmpopce is not None and op.cmpopce != als >> 5 & 7:
        return False
    return op.mas_code is None or op.mas_code == mas


def lookup(version: int, channel: int, als: int, ales: int | None, mas: int = 0) -> Op | None:
    """The row of an operation: ``ales`` is None for a short one. None when no row has these codes."""
    cop = als >> 24 & 0x7F
    key = short_key(channel, cop) if ales is None else long_key(channel, cop, ales >> 8)
    for op in _INDEX[version].get(key, ()):
        if matches(op, als, (ales or 0) & 0xFF, mas):
            return op
    return None


def _build(version: int) -> dict[int, tuple[Op, ...]]:
    found: dict[int, list[Op]] = {}
    for op in ROWS:
        if op.alias_of:
            continue
        for channel in map(int, op.channels[version]):
            key = long_key(channel, op.cop, op.opc2 or 0) if op.fmt.long else short_key(channel, op.cop)
            found.setdefault(key, []).append(op)
    return {key: tuple(sorted(ops, key=_specificity)) for key, ops in found.items()}


for _op in ROWS:
    BY_NAME[_op.name] = (*BY_NAME.get(_op.name, ()), _op)
_INDEX = {version: _build(version) for version in VERSIONS}
