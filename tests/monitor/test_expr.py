"""Expressions of the human monitor against Python's own arithmetic."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.errors import OptionError
from e2kemu.monitor.expr import evaluate, signed

numbers = st.integers(0, (1 << 64) - 1).map(lambda n: (str(n), n)) | st.integers(0, 1 << 40).map(
    lambda n: (hex(n), n)
)


def _binary(pair: tuple[tuple[str, int], str, tuple[str, int]]) -> tuple[str, int]:
    (left, a), operator, (right, b) = pair
    value = {"+": a + b, "-": a - b, "*": a * b, "&": a & b, "|": a | b, "^": a ^ b}[operator]
    return f"({left}) {operator} ({right})", value


expressions = st.recursive(
    numbers,
    lambda inner: st.tuples(inner, st.sampled_from("+-*&|^"), inner).map(_binary)
    | inner.map(lambda e: (f"-({e[0]})", -e[1]))
    | inner.map(lambda e: (f"~ ( {e[0]} )", ~e[1])),
    max_leaves=8,
)


@given(expressions)
def test_values_wrap_to_signed_64_bits(expression: tuple[str, int]) -> None:
    text, value = expression
    assert evaluate(text) == signed(value)


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_one_clear_error(text: str) -> None:
    with suppress(OptionError):
        assert evaluate(text) == evaluate(f"({text})")


@pytest.mark.parametrize(
    ("text", "value"),
    [("7/2", 3), ("-7/2", -3), ("-7%2", -1), ("010", 8), ("'A'", 65), ("1 + 2 & 3", 3), ("$r1*2", 10)],
)
def test_division_octal_characters_registers_and_the_order_of_operators(text: str, value: int) -> None:
    assert evaluate(text, {"r1": 5}.get) == value
