"""The table of the primitive operations of floating point.

A name tells what is done and in which formats:

    add.d sub.d mul.d div.d sqrt.d min.d max.d    in s, d; x without min and max
    fma.d fms.d fnma.d fnms.d                     a*b+c, a*b-c, -(a*b)+c, -(a*b)-c, rounded once; s, d
    fma.d.q fms.d.q                               the same, silent about denormal operands
    cmp.lt.d                                      1 or 0; eq lt le uod neq nlt nle od; s, d, x
    order.d                                       the code of x87: 0 greater, 1 less, 0x40 equal, 0x45 unordered;
                                                  s, d, x and xs, xd: the second operand in another format
    cvt.i32.d                                     from a signed integer of 32 or 64 bits
    cvt.d.i32 cvt.d.i32.t                         to a signed integer, as the mode says or truncated
    cvt.s.d                                       between formats
    whole.d                                       (selector, a): to an integer in floating point
    scale.d                                       (a, count of 32 bits): a * 2**count
    rcp.s rsqrt.s                                 1 / a, 1 / sqrt(a)

Whatever has an operand or a result of 80 bits obeys FPCR and sets flags in FPSR; all else has both in PFPFR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from e2kemu.cpu.fp import arithmetic, compare, convert, fast
from e2kemu.cpu.fp.formats import DE, FORMATS, Format, Mode, fpcr_mode, pfpfr_mode

Result = tuple[int, int]
"""Bits of the result; flags in the order of PFPFR and FPSR: IE 1, DE 2, ZE 4, OE 8, UE 16, PE 32."""


@dataclass(frozen=True, slots=True)
class FpOperation:
    """A primitive: ``function(operand, ..., control) -> (result, flags)`` on unsigned integers of these widths.

    ``control`` is the whole value of the register that ``register`` names, "pfpfr" or "fpcr".
    """

    name: str
    operands: tuple[int, ...]
    result: int
    register: str
    function: Callable[..., Result]


OPERATIONS: dict[str, FpOperation] = {}


def _one(short: Callable[..., Result | None], long: Callable[..., Result]) -> Callable[..., Result]:
    def function(a: int, control: int) -> Result:
        return short(a, control) or long(a, control)

    return function


def _two(short: Callable[..., Result | None], long: Callable[..., Result]) -> Callable[..., Result]:
    def function(a: int, b: int, control: int) -> Result:
        return short(a, b, control) or long(a, b, control)

    return function


def _enter(name: str, operands: tuple[int, ...], result: int, of: Callable[..., Result],
           short: Callable[..., Result | None] | None = None) -> None:
    """Enter ``of(operand, ..., mode)``.

    ``short(operand, ..., control)``, or else what ``fast`` has by this name, is asked first.
    """
    short = short or getattr(fast, name.replace(".", "_"), None)
    register = "fpcr" if 80 in (*operands, result) else "pfpfr"
    mode_of: Callable[[int], Mode] = fpcr_mode if register == "fpcr" else pfpfr_mode

    def long(*numbers: int) -> Result:
        *values, control = numbers
        return of(*values, mode_of(control))

    function = long if short is None else (_one, _two)[len(operands) - 1](short, long)
    OPERATIONS[name] = FpOperation(name, operands, result, register, function)


def _in_format(f: Format) -> None:
    n, letter = f.bits, f.letter

    def plain(name: str, count: int, of: Callable[..., Result]) -> None:
        _enter(f"{name}.{letter}", (n,) * count, n, lambda *operands: of(f, *operands))

    for name in ("add", "sub", "mul", "div"):
        plain(name, 2, getattr(arithmetic, name))
    plain("sqrt", 1, arithmetic.sqrt)
    _enter(f"scale.{letter}", (n, 32), n, lambda a, count, mode: arithmetic.scale(f, a, count, mode))
    for relation in compare.RELATIONS:
        _enter(f"cmp.{relation}.{letter}", (n, n), 1,
               lambda a, b, mode, relation=relation: compare.compare(f, relation, a, b, mode),
               None if f.explicit else getattr(fast, f"relation_{letter}")(fast.RELATIONS[relation]))
    _enter(f"order.{letter}", (n, n), 8, lambda a, b, mode: compare.condition_code(f, a, b, mode))
    for size in (32, 64):
        _enter(f"cvt.i{size}.{letter}", (size,), n, lambda a, mode, size=size: convert.from_integer(f, a, size, mode))
        for suffix, cut in (("", False), (".t", True)):
            _enter(f"cvt.{letter}.i{size}{suffix}", (n,), size,
                   lambda a, mode, size=size, cut=cut: convert.to_integer(f, a, size, mode, cut))
    for target in FORMATS.values():
        if target is not f:
            _enter(f"cvt.{letter}.{target.letter}", (n,), target.bits,
                   lambda a, mode, target=target: convert.convert(f, target, a, mode))
    if f.explicit:
        for other in "sd":
            second = FORMATS[other]
            _enter(f"order.x{other}", (80, second.bits), 8,
                   lambda a, b, mode, second=second: compare.condition_code_of_loaded(second, a, b, mode))
        return
    plain("min", 2, arithmetic.least)
    plain("max", 2, arithmetic.greatest)
    _enter(f"whole.{letter}", (32, n), n, lambda selector, a, mode: convert.to_whole(f, selector, a, mode))
    for name, product, addend in (("fma", 0, 0), ("fms", 0, 1), ("fnma", 1, 0), ("fnms", 1, 1)):
        _enter(f"{name}.{letter}", (n, n, n), n,
               lambda a, b, c, mode, product=product, addend=addend: arithmetic.fma(f, a, b, c, mode, product, addend))
        if not product:
            _enter(f"{name}.{letter}.q", (n, n, n), n,
                   lambda a, b, c, mode, addend=addend: _silent(arithmetic.fma(f, a, b, c, mode, 0, addend)))


def _silent(result: Result) -> Result:
    """A result without the flag of a denormal operand."""
    bits, flags = result
    return bits, flags & ~DE


for _format in FORMATS.values():
    _in_format(_format)
_enter("rcp.s", (32,), 32, lambda a, mode: arithmetic.reciprocal(FORMATS["s"], a, mode))
_enter("rsqrt.s", (32,), 32, lambda a, mode: arithmetic.reciprocal_root(FORMATS["s"], a, mode))
