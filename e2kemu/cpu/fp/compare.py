"""Compares: the eight relations, and the condition codes of x87."""

from __future__ import annotations

from e2kemu.cpu.fp.arithmetic import Result, order_of
from e2kemu.cpu.fp.convert import convert
from e2kemu.cpu.fp.formats import (
    DE,
    FINITE,
    IE,
    INVALID,
    PE,
    QUIET,
    SIGNALLING,
    Format,
    Mode,
    X,
    pack,
    unpack,
)

RELATIONS: dict[str, tuple[bool, tuple[int | None, ...]]] = {
    "eq": (False, (0,)),
    "lt": (True, (-1,)),
    "le": (True, (-1, 0)),
    "uod": (False, (None,)),
    "neq": (False, (-1, 1, None)),
    "nlt": (True, (0, 1, None)),
    "nle": (True, (1, None)),
    "od": (False, (-1, 0, 1)),
}
"""Relation -> whether a quiet NaN is invalid for it, and the orders (None: unordered) for which it holds."""

CODES = {1: 0x00, -1: 0x01, 0: 0x40, None: 0x45}
"""Order -> C3, C2, C0 of x87 in bits 6, 2, 0."""


def compare(f: Format, relation: str, a: int, b: int, mode: Mode) -> Result:
    """1 when the relation holds, else 0."""
    x, y = unpack(f, a), unpack(f, b)
    order = order_of(f, x, y)
    signalling, holds = RELATIONS[relation]
    if order is None:
        invalid = x.kind >= (QUIET if signalling else SIGNALLING) or y.kind >= (QUIET if signalling else SIGNALLING)
        flags = IE if invalid else 0
    else:
        flags = DE if x.denormal or y.denormal else 0
    return int(order in holds), flags


def condition_code(f: Format, a: int, b: int, mode: Mode) -> Result:
    """The order of a and b as x87 codes it. A NaN raises nothing, an operand that is no encoding is invalid."""
    x, y = unpack(f, a), unpack(f, b)
    invalid = x.kind == INVALID or y.kind == INVALID
    return CODES[order_of(f, x, y)], IE if invalid else 0


def condition_code_of_loaded(f: Format, a: int, b: int, mode: Mode) -> Result:
    """``condition_code`` of an 80-bit number and one of another format.

    Loading the second is invalid for a signalling NaN, and rounds to FPCR's precision: see docs/semantics.md.
    """
    loaded, flags = convert(f, X, b, mode)
    y = unpack(f, b)
    if y.kind == FINITE:
        loaded, flags = pack(X, y.sign, y.significand, y.exponent, mode, mode.precision)
    code, more = condition_code(X, a, loaded, mode)
    return code, (flags & (IE | PE)) | more
