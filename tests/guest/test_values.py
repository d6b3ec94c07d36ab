"""The values that programs compare with, against numpy and the host's long double."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest

from tests.cpu.fp.exact import WIDTH
from tests.guest import ieee
from tests.guest.areas.floats import numbers

FLOATS: dict[str, tuple[Any, str]] = {"s": (np.float32, "<f"), "d": (np.float64, "<d")}
OPERATIONS: dict[str, Any] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


@pytest.mark.parametrize("letter", "sd")
@pytest.mark.parametrize("kind", OPERATIONS)
def test_arithmetic_to_the_nearest_is_that_of_numpy(kind: str, letter: str) -> None:
    rng = random.Random(f"{kind} {letter}")
    make, form = FLOATS[letter]
    for _ in range(400):
        a, b = (numbers(rng, letter) for _ in range(2))
        if ieee.is_nan(letter, a) and ieee.is_nan(letter, b):
            continue
        x, y = (make(struct.unpack(form, number.to_bytes(struct.calcsize(form), "little"))[0]) for number in (a, b))
        with np.errstate(all="ignore"):
            theirs = make(OPERATIONS[kind](x, y))
        ours, flags = ieee.arithmetic(kind, letter, a, b, 0)
        if np.isnan(theirs):
            assert ieee.is_nan(letter, ours)
        else:
            assert ours == int.from_bytes(struct.pack(form, theirs), "little"), (hex(a), hex(b))
        assert flags < 64


@pytest.mark.parametrize("letter", "sd")
def test_roots_to_the_nearest_are_those_of_numpy(letter: str) -> None:
    rng = random.Random(f"root {letter}")
    make, form = FLOATS[letter]
    for _ in range(100):
        a = numbers(rng, letter) & ~(1 << WIDTH[letter] - 1)
        if ieee.is_nan(letter, a):
            continue
        x = make(struct.unpack(form, a.to_bytes(struct.calcsize(form), "little"))[0])
        assert ieee.square_root(letter, a, 0)[0] == int.from_bytes(struct.pack(form, np.sqrt(x)), "little")


@pytest.mark.skipif(np.finfo(np.longdouble).nmant != 63, reason="the host's long double has not 80 bits")
@pytest.mark.parametrize("kind", OPERATIONS)
def test_80_bits_to_the_nearest_are_the_hosts_long_double(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(300):
        a, b = (numbers(rng, "x") for _ in range(2))
        if ieee.is_nan("x", a) or ieee.is_nan("x", b):
            continue
        x, y = (np.frombuffer(number.to_bytes(16, "little"), np.longdouble)[0] for number in (a, b))
        with np.errstate(all="ignore"):
            theirs = OPERATIONS[kind](x, y)
        ours, _ = ieee.arithmetic(kind, "x", a, b, 0)
        if np.isnan(theirs):
            assert ieee.is_nan("x", ours)
        else:
            assert ours == int.from_bytes(theirs.tobytes()[:10], "little"), (hex(a), hex(b))
