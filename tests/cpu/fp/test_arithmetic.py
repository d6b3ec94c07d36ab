"""The primitives against independent computation: fractions, numpy, the host's long double, Python's numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu import fp
from e2kemu.cpu.fp import arithmetic, fast
from e2kemu.cpu.fp.formats import FORMATS, pfpfr_mode
from tests.cpu.fp import exact
from tests.cpu.fp.exact import DE, DOWN, IE, OE, PE, UE, ZE

RESET = {"s": 0x1F80, "d": 0x1F80, "x": 0x37F}
"""Control registers with every exception masked, to nearest, full precision."""
ROUNDING_AT = {"s": 13, "d": 13, "x": 10}


def control(letter: str, mode: int) -> int:
    return RESET[letter] | mode << ROUNDING_AT[letter]


def bits(letter: str, sign: int, biased: int, fraction: int) -> int:
    """A finite number from its fields."""
    precision = exact.SHAPES[letter][0]
    fraction &= (1 << precision - 1) - 1
    if letter == "x":
        return sign << 79 | biased << 64 | (1 << 63 if biased else 0) | fraction
    return sign << exact.WIDTH[letter] - 1 | biased << precision - 1 | fraction


@st.composite
def numbers(draw: st.DrawFn, letter: str, near: int | None = None) -> int:
    """Finite numbers: any, close to the ends of the range, or close to ``near`` in their exponent."""
    precision, _, greatest = exact.SHAPES[letter]
    top = 2 * greatest
    exponents = [st.integers(0, top), st.integers(0, 3), st.integers(top - 2, top),
                 st.integers(greatest - precision - 3, greatest + precision + 3)]
    fraction = st.one_of(st.integers(0, (1 << precision - 1) - 1), st.sampled_from(
        [0, 1, 2, (1 << precision - 1) - 1, 1 << precision - 2, 3 << precision - 3]))
    return bits(letter, draw(st.integers(0, 1)), draw(st.one_of(exponents)), draw(fraction))


LETTERS = st.sampled_from("sdx")
MODES = st.integers(0, 3)


def denormal(letter: str, number: int) -> bool:
    precision = exact.SHAPES[letter][0]
    stored = precision if letter == "x" else precision - 1
    magnitude = number & (1 << exact.WIDTH[letter] - 1) - 1
    return 0 < magnitude < 1 << stored


def wanted(letter: str, value: Fraction, sign: int, mode: int, *operands: int, precision: int = 0) -> tuple[int, int]:
    """The rounded ``value``, a zero of this sign; with the flag of denormal operands."""
    flags = DE if any(denormal(letter, number) for number in operands) else 0
    if not value:
        return sign << exact.WIDTH[letter] - 1, flags
    result, more = exact.rounded(letter, value, mode, precision)
    return result, flags | more


def sign_of(letter: str, number: int) -> int:
    return number >> exact.WIDTH[letter] - 1


@given(st.data(), LETTERS, MODES)
@settings(max_examples=500, deadline=None)
def test_sums_products_and_quotients_are_rounded_as_fractions_are(data: st.DataObject, letter: str, mode: int) -> None:
    a, b = data.draw(numbers(letter)), data.draw(numbers(letter))
    x, y = exact.decode(letter, a), exact.decode(letter, b)
    where = control(letter, mode)
    for name, value, other in (("add", x + y, sign_of(letter, b)), ("sub", x - y, 1 - sign_of(letter, b))):
        # an exact zero of unlike signs is negative only when rounding down
        sign = sign_of(letter, a) if not x and not y and sign_of(letter, a) == other else int(mode == DOWN)
        assert fp.call(f"{name}.{letter}", (a, b), where) == wanted(letter, value, sign, mode, a, b)
    sign = sign_of(letter, a) ^ sign_of(letter, b)
    assert fp.call(f"mul.{letter}", (a, b), where) == wanted(letter, x * y, sign, mode, a, b)
    if y:
        assert fp.call(f"div.{letter}", (a, b), where) == wanted(letter, x / y, sign, mode, a, b)
    elif x:
        assert fp.call(f"div.{letter}", (a, b), where) == (exact.infinity(letter, sign), ZE)


@given(st.data(), st.sampled_from((24, 53)), MODES)
@settings(max_examples=200, deadline=None)
def test_precision_control_rounds_80_bit_results_to_fewer_bits(data: st.DataObject, precision: int, mode: int) -> None:
    a, b = data.draw(numbers("x")), data.draw(numbers("x"))
    x, y = exact.decode("x", a), exact.decode("x", b)
    where = control("x", mode) & ~0x300 | (0 if precision == 24 else 0x200)
    sign = sign_of("x", a) ^ sign_of("x", b)
    assert fp.call("mul.x", (a, b), where) == wanted("x", x * y, sign, mode, a, b, precision=precision)
    if x + y:
        assert fp.call("add.x", (a, b), where) == wanted("x", x + y, 0, mode, a, b, precision=precision)


@given(st.data(), st.sampled_from("sd"), MODES)
@settings(max_examples=300, deadline=None)
def test_fused_operations_round_once(data: st.DataObject, letter: str, mode: int) -> None:
    a, b, c = (data.draw(numbers(letter)) for _ in range(3))
    x, y, z = (exact.decode(letter, number) for number in (a, b, c))
    for name, value in (("fma", x * y + z), ("fms", x * y - z), ("fnma", z - x * y), ("fnms", -x * y - z)):
        if value:
            got = fp.call(f"{name}.{letter}", (a, b, c), control(letter, mode))
            assert got == wanted(letter, value, 0, mode, a, b, c), name
            if name in ("fma", "fms"):
                assert fp.call(f"{name}.{letter}.q", (a, b, c), control(letter, mode)) == (got[0], got[1] & ~DE)


@given(st.data(), LETTERS, MODES)
@settings(max_examples=200, deadline=None)
def test_a_root_lies_between_the_squares_of_its_neighbours(data: st.DataObject, letter: str, mode: int) -> None:
    a = data.draw(numbers(letter)) & ~(1 << exact.WIDTH[letter] - 1)
    x = exact.decode(letter, a)
    result, flags = fp.call(f"sqrt.{letter}", (a,), control(letter, mode))
    root = exact.decode(letter, result)
    assert flags == (DE if denormal(letter, a) else 0) | (PE if root * root != x else 0)
    if root * root != x:
        below, above = exact.neighbours(letter, root)
        match mode:
            case 0:
                assert ((below + root) / 2) ** 2 < x < ((root + above) / 2) ** 2
            case 2:
                assert below**2 < x < root**2
            case _:
                assert root**2 < x < above**2


ANY_DOUBLE = st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from(
    [0, 1 << 63, 1, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FEFFFFFFFFFFFFF, 0x3FF0 << 48]), numbers("d"))
ANY_SINGLE = st.one_of(st.integers(0, (1 << 32) - 1), st.sampled_from(
    [0, 1 << 31, 1, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x3F800000]), numbers("s"))


@given(ANY_DOUBLE, ANY_DOUBLE, ANY_SINGLE, ANY_SINGLE)
@settings(max_examples=400, deadline=None)
def test_to_nearest_as_numpy_computes(a: int, b: int, c: int, d: int) -> None:
    with np.errstate(all="ignore"):
        kind: Any
        unsigned: Any
        for letter, kind, unsigned, x, y in (("d", np.float64, np.uint64, a, b), ("s", np.float32, np.uint32, c, d)):
            u, v = unsigned(x).view(kind), unsigned(y).view(kind)
            for name, value in (("add", u + v), ("sub", u - v), ("mul", u * v), ("div", u / v), ("sqrt", np.sqrt(u))):
                operands = (x,) if name == "sqrt" else (x, y)
                result, _ = fp.call(f"{name}.{letter}", operands, 0x1F80)
                if np.isnan(value):
                    assert np.isnan(unsigned(result).view(kind))
                else:
                    assert result == int(kind(value).view(unsigned)), name
            relations = {"eq": u == v, "lt": u < v, "le": u <= v, "uod": bool(np.isnan(u) | np.isnan(v))}
            for relation, holds in relations.items():
                opposite = {"eq": "neq", "lt": "nlt", "le": "nle", "uod": "od"}[relation]
                assert fp.call(f"cmp.{relation}.{letter}", (x, y), 0x1F80)[0] == int(holds)
                assert fp.call(f"cmp.{opposite}.{letter}", (x, y), 0x1F80)[0] == 1 - int(holds)
        assert fp.call("cvt.d.s", (a,), 0x1F80)[0] & 0x7F800000 == int(np.uint64(a).view(np.float64).astype(
            np.float32).view(np.uint32)) & 0x7F800000


def long_double(number: int) -> Any:
    return np.frombuffer(number.to_bytes(10, "little") + bytes(6), dtype=np.longdouble)[0]


def bits_of_long_double(value: Any) -> int:
    return int.from_bytes(np.longdouble(value).tobytes()[:10], "little")


@pytest.mark.skipif(np.finfo(np.longdouble).nmant != 63, reason="the host has no 80-bit long double")
@given(numbers("x"), numbers("x"), numbers("d"), st.integers(-(1 << 63), (1 << 63) - 1))
@settings(max_examples=400, deadline=None)
def test_80_bits_as_the_host_computes(a: int, b: int, c: int, whole: int) -> None:
    with np.errstate(all="ignore"):
        u, v = long_double(a), long_double(b)
        for name, value in (("add", u + v), ("sub", u - v), ("mul", u * v), ("div", u / v), ("sqrt", np.sqrt(u))):
            if np.isnan(value):
                continue
            operands = (a,) if name == "sqrt" else (a, b)
            assert fp.call(f"{name}.x", operands, 0x37F)[0] == bits_of_long_double(value), name
        assert fp.call("cvt.d.x", (c,), 0x37F)[0] == bits_of_long_double(np.longdouble(np.uint64(c).view(np.float64)))
        assert fp.call("cvt.x.d", (a,), 0x37F)[0] == int(np.float64(u).view(np.uint64))
        assert fp.call("cvt.x.s", (a,), 0x37F)[0] == int(np.float32(u).view(np.uint32))
        assert fp.call("cvt.i64.x", (whole & (1 << 64) - 1,), 0x37F)[0] == bits_of_long_double(np.longdouble(whole))
        for relation, holds in (("eq", u == v), ("lt", u < v), ("le", u <= v)):
            assert fp.call(f"cmp.{relation}.x", (a, b), 0x37F)[0] == int(holds)


@given(st.data(), LETTERS, MODES, st.sampled_from((32, 64)))
@settings(max_examples=300, deadline=None)
def test_conversions_to_integers_and_back(data: st.DataObject, letter: str, mode: int, size: int) -> None:
    middle = exact.SHAPES[letter][2]
    biased = data.draw(st.integers(middle - 3, middle + size + 1))
    a = bits(letter, data.draw(st.integers(0, 1)), biased, data.draw(st.integers(0, (1 << 63) - 1)))
    value = exact.decode(letter, a)
    round_as: tuple[Callable[[Fraction], int], ...] = (round, math.floor, math.ceil, math.trunc)
    for suffix, function in (("", round_as[mode]), (".t", math.trunc)):
        want = function(value)
        if -(1 << size - 1) <= want < 1 << size - 1:
            expected = want & (1 << size) - 1, PE if want != value else 0
        else:
            expected = 1 << size - 1, IE
        assert fp.call(f"cvt.{letter}.i{size}{suffix}", (a,), control(letter, mode)) == expected
    if letter != "x":
        for selector, function in enumerate(round_as):
            whole = Fraction(function(value))
            sign = sign_of(letter, a)
            want = exact.encode(letter, sign, abs(whole))
            assert fp.call(f"whole.{letter}", (selector, a), RESET[letter]) == (want, PE if whole != value else 0)
            assert fp.call(f"whole.{letter}", (selector | 8, a), RESET[letter]) == (want, 0)
        (want, flags) = fp.call(f"whole.{letter}", (4 | data.draw(MODES), a), control(letter, mode))
        assert (want, flags) == fp.call(f"whole.{letter}", (mode, a), RESET[letter])
    number = data.draw(st.integers(-(1 << size - 1), (1 << size - 1) - 1))
    expected = exact.rounded(letter, Fraction(number), mode) if number else (0, 0)
    assert fp.call(f"cvt.i{size}.{letter}", (number & (1 << size) - 1,), control(letter, mode)) == expected


@given(st.data(), st.permutations("sdx"), MODES)
@settings(max_examples=200, deadline=None)
def test_conversions_between_formats_round_as_fractions_do(data: st.DataObject, order: list[str], mode: int) -> None:
    source, target = order[:2]
    a = data.draw(numbers(source))
    value = exact.decode(source, a)
    where = control("x" if "x" in (source, target) else "d", mode)
    result, flags = fp.call(f"cvt.{source}.{target}", (a,), where)
    sign = sign_of(source, a) << exact.WIDTH[target] - 1
    want, more = exact.rounded(target, value, mode) if value else (sign, 0)
    if denormal(source, a) and source != "x":
        more |= DE
    assert (result, flags) == (want, more)


@given(st.data(), LETTERS, MODES, st.integers(-40000, 40000))
@settings(max_examples=200, deadline=None)
def test_scaling_multiplies_by_a_power_of_two(data: st.DataObject, letter: str, mode: int, count: int) -> None:
    a = data.draw(numbers(letter))
    value = exact.decode(letter, a) * Fraction(2) ** count
    got = fp.call(f"scale.{letter}", (a, count & 0xFFFF_FFFF), control(letter, mode))
    assert got == wanted(letter, value, sign_of(letter, a), mode, *((a,) if value else ()))


SHORT = ("add", "sub", "mul", "div")


@given(st.data(), st.sampled_from("sd"), MODES, st.sampled_from((0x1F80, 0x1FA0, 0x0FA0, 0x0F80)))
@settings(max_examples=600, deadline=None)
def test_the_short_cuts_give_what_the_long_way_gives(data: st.DataObject, letter: str, mode: int, where: int) -> None:
    a, b = data.draw(numbers(letter)), data.draw(numbers(letter))
    where |= mode << 13
    of, shared = FORMATS[letter], pfpfr_mode(where)
    for name in (*SHORT, "sqrt"):
        operands = (a,) if name == "sqrt" else (a, b)
        short = getattr(fast, f"{name}_{letter}")(*operands, where)
        long = getattr(arithmetic, name)(of, *operands, shared)
        if short is not None:
            sticky = where & 0x1020 == 0x1020
            assert short[0] == long[0], name
            # what is sticky already may be told again
            assert short[1] == long[1] or (sticky and short[1] & ~PE == long[1] & ~PE), name


def test_ordinary_numbers_take_the_short_cuts() -> None:
    one, third = 0x3FF0_0000_0000_0000, 0x3FD5_5555_5555_5555
    for name in SHORT:
        assert getattr(fast, f"{name}_d")(third, one + 1, 0x1FA0) is not None
        assert getattr(fast, f"{name}_s")(0x3EAAAAAB, 0x3F800001, 0x1F80) is not None
    assert fast.sqrt_d(third, 0x1FA0) is not None
    assert fast.sqrt_s(0x3EAAAAAB, 0x1F80) is not None


# --- what is no number ------------------------------------------------------------------------------

QNAN, SNAN, NEGATIVE, DEFAULT = 0x7FF8_0000_0000_0123, 0x7FF0_0000_0000_0456, 0xFFF8_0000_0000_0001, 0xFFF8 << 48
INFINITY, ONE, TINY = 0x7FF0 << 48, 0x3FF0 << 48, 1


@pytest.mark.parametrize(("name", "operands", "result", "flags"), [
    ("add.d", (QNAN, ONE), QNAN, 0), ("add.d", (ONE, QNAN), QNAN, 0), ("add.d", (QNAN, NEGATIVE), QNAN, 0),
    ("add.d", (NEGATIVE, QNAN), QNAN, 0), ("mul.d", (SNAN, ONE), SNAN | 1 << 51, IE),
    ("div.d", (QNAN, SNAN), QNAN, IE), ("sub.d", (INFINITY, INFINITY), DEFAULT, IE),
    ("mul.d", (INFINITY, 0), DEFAULT, IE),
    ("div.d", (0, 0), DEFAULT, IE), ("div.d", (INFINITY, INFINITY), DEFAULT, IE), ("div.d", (TINY, 0), INFINITY, ZE),
    ("sqrt.d", (1 << 63 | ONE,), DEFAULT, IE), ("sqrt.d", (1 << 63,), 1 << 63, 0), ("sqrt.d", (INFINITY,), INFINITY, 0),
    ("min.d", (QNAN, ONE), ONE, IE), ("min.d", (ONE, QNAN), QNAN, IE), ("max.d", (0, 1 << 63), 1 << 63, 0),
    ("min.d", (0, 1 << 63), 1 << 63, 0), ("max.d", (ONE, TINY), ONE, DE),
    ("fma.d", (INFINITY, 0, ONE), DEFAULT, IE), ("fma.d", (ONE, INFINITY, 1 << 63 | INFINITY), DEFAULT, IE),
    ("fma.d", (ONE, ONE, QNAN), QNAN, 0), ("fma.d", (ONE, SNAN, QNAN), SNAN | 1 << 51, IE),
    ("add.d", (SNAN, NEGATIVE), NEGATIVE, IE), ("mul.d", (QNAN | 1 << 63, QNAN), QNAN, 0),
    ("cmp.lt.d", (QNAN, ONE), 0, IE), ("cmp.nlt.d", (QNAN, ONE), 1, IE), ("cmp.eq.d", (QNAN, ONE), 0, 0),
    ("cmp.eq.d", (SNAN, ONE), 0, IE), ("cmp.uod.d", (QNAN, ONE), 1, 0), ("cmp.eq.d", (0, 1 << 63), 1, 0),
    ("order.d", (ONE, QNAN), 0x45, 0), ("order.d", (ONE, ONE), 0x40, 0), ("order.d", (0, ONE), 1, 0),
    ("order.d", (ONE, 0), 0, 0),
    ("cvt.d.s", (QNAN,), 0x7FC0_0000, 0), ("cvt.d.s", (SNAN,), 0x7FC0_0000, IE),
    ("cvt.s.d", (0x7FA0_0000,), 0x7FFC << 48, IE),
    ("cvt.d.i32", (QNAN,), 1 << 31, IE), ("cvt.d.i64", (INFINITY,), 1 << 63, IE), ("cvt.d.i32", (TINY,), 0, PE),
    ("whole.d", (0, SNAN), SNAN | 1 << 51, IE), ("whole.d", (0, TINY), 0, PE), ("scale.d", (QNAN, 5), QNAN, 0),
    ("rcp.s", (0x4000_0000,), 0x3F00_0000, 0), ("rcp.s", (0,), 0x7F80_0000, ZE),
    ("rsqrt.s", (0x4080_0000,), 0x3F00_0000, 0),
    ("rsqrt.s", (0xC080_0000,), 0xFFC0_0000, IE),
])
def test_special_operands(name: str, operands: tuple[int, ...], result: int, flags: int) -> None:
    assert fp.call(name, operands, 0x1F80) == (result, flags)


def x80(exponent: int, significand: int) -> int:
    return exponent << 64 | significand


@pytest.mark.parametrize(("name", "operands", "result", "flags"), [
    # unnormal, pseudo-NaN, pseudo-infinity: no numbers since the 387
    ("add.x", (x80(0x3FFF, 1 << 62), x80(0x3FFF, 1 << 63)), x80(0xFFFF, 3 << 62), IE),
    ("mul.x", (x80(0x7FFF, 1), x80(0x3FFF, 1 << 63)), x80(0xFFFF, 3 << 62), IE),
    ("cvt.x.d", (x80(0x7FFF, 0),), DEFAULT, IE), ("cmp.lt.x", (x80(0x3FFF, 1 << 62), 0), 0, IE),
    # a pseudo-denormal is the number that it looks like
    ("add.x", (x80(0, 1 << 63), 0), x80(1, 1 << 63), DE), ("cmp.eq.x", (x80(0, 1 << 63), x80(1, 1 << 63)), 1, DE),
    # x87 returns the NaN with the larger significand, and the quiet one rather than the signalling one
    ("add.x", (x80(0x7FFF, 3 << 62 | 1), x80(0xFFFF, 3 << 62 | 2)), x80(0xFFFF, 3 << 62 | 2), 0),
    ("add.x", (x80(0x7FFF, 2 << 62 | 9), x80(0xFFFF, 3 << 62 | 2)), x80(0xFFFF, 3 << 62 | 2), IE),
    ("add.x", (x80(0xFFFF, 3 << 62), x80(0x7FFF, 3 << 62)), x80(0x7FFF, 3 << 62), 0),
    ("order.xd", (x80(0x3FFF, 1 << 63), SNAN), 0x45, IE), ("order.xs", (x80(0x3FFF, 1 << 63), 0x3F80_0000), 0x40, 0),
    ("cvt.s.x", (1,), x80(0x3F6A, 1 << 63), DE), ("cvt.i32.x", (0x8000_0000,), x80(0xC01E, 1 << 63), 0),
])
def test_special_operands_of_80_bits(name: str, operands: tuple[int, ...], result: int, flags: int) -> None:
    assert fp.call(name, operands, 0x37F) == (result, flags)


def test_overflow_and_underflow_in_every_rounding_mode() -> None:
    big, least = 0x7FEF_FFFF_FFFF_FFFF, 0x0010_0000_0000_0000
    assert [fp.call("add.d", (big, big), control("d", mode)) for mode in range(4)] == [
        (INFINITY, OE | PE), (big, OE | PE), (INFINITY, OE | PE), (big, OE | PE)]
    half = 0x3FE0_0000_0000_0000
    assert [fp.call("mul.d", (1, half), control("d", mode)) for mode in range(4)] == [
        (0, DE | UE | PE), (0, DE | UE | PE), (1, DE | UE | PE), (0, DE | UE | PE)]
    # exact: no underflow while it is masked, one when it is not
    assert fp.call("mul.d", (least, half), 0x1F80) == (least >> 1, 0)
    assert fp.call("mul.d", (least, half), 0x1780) == (least >> 1, UE)


def test_flush_to_zero_takes_tiny_results_and_keeps_their_sign() -> None:
    least, half = 0x0010_0000_0000_0000, 0x3FE0_0000_0000_0000
    flush = 0x1F80 | 1 << 15
    assert fp.call("mul.d", (least, half), flush) == (0, UE | PE)
    assert fp.call("mul.d", (least | 1 << 63, half), flush) == (1 << 63, UE | PE)
    assert fp.call("add.s", (0x0080_0000, 0x8000_0001), flush) == (0, DE | UE | PE)
    # operands are not flushed; and nothing is when underflow traps
    assert fp.call("add.d", (1, least), flush) == (least + 1, DE)
    assert fp.call("mul.d", (least, half), flush & ~0x800) == (least >> 1, UE)


def test_the_table_names_widths_and_registers() -> None:
    assert len(fp.OPERATIONS) >= 90
    for name, operation in fp.OPERATIONS.items():
        assert operation.name == name
        assert operation.register == ("fpcr" if 80 in (*operation.operands, operation.result) else "pfpfr")
        result, flags = operation.function(*(0 for _ in operation.operands), 0x1F80)
        assert 0 <= result < 1 << operation.result
        assert 0 <= flags < 64
    with pytest.raises(KeyError):
        fp.call("add.q", (0, 0), 0)


def test_a_long_sum_is_what_pythons_floats_give() -> None:
    total, python = 0, 0.0
    step, increment = struct.unpack("<Q", struct.pack("<d", 0.1))[0], 0.1
    environment = 0x1F80
    for _ in range(20_000):
        total, flags = fp.call("add.d", (total, step), environment)
        environment |= flags
        python += increment
    assert total == struct.unpack("<Q", struct.pack("<d", python))[0]
    assert environment == 0x1FA0
