"""``key=value`` options, sizes and numbers, by QEMU's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.errors import OptionError
from e2kemu.options import Options, escape, parse_bool, parse_number, parse_size, split_pairs

keys = st.from_regex(r"[a-mo-z][a-z-]{0,8}", fullmatch=True)


@given(st.dictionaries(keys, st.text(max_size=20), max_size=6))
def test_any_value_survives_its_escape(wanted: dict[str, str]) -> None:
    text = ",".join(f"{key}={escape(value)}" for key, value in wanted.items())
    assert dict(split_pairs(text)) == wanted


@given(st.text(max_size=40))
def test_any_text_is_pairs_or_one_error(text: str) -> None:
    try:
        pairs = split_pairs(text, "first")
    except OptionError:
        return
    assert all(key for key, _ in pairs)


def test_keys_without_values_and_the_implied_one() -> None:
    assert split_pairs("elbrus,a=1,b,noc,nowait", "type") == [
        ("type", "elbrus"), ("a", "1"), ("b", "on"), ("c", "off"), ("wait", "off"),
    ]  # fmt: skip
    assert split_pairs("") == []
    assert Options("a=1,a=2").get("a") == "2"


def test_what_nobody_asked_for_is_refused() -> None:
    options = Options("type=x,colour=red", "type")
    options.get("type")
    with pytest.raises(OptionError, match="Invalid parameter 'colour'"):
        options.finish()
    with pytest.raises(OptionError, match="Parameter 'id' is missing"):
        options.require("id")


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [
        ("0", "B", 0), ("512", "B", 512), ("256", "M", 256 << 20), ("256M", "B", 256 << 20),
        ("1k", "M", 1024), ("1.5G", "B", 3 << 29), ("0x1000", "B", 4096), ("0x10", "M", 16 << 20),
        ("16E", "B", None), ("15E", "B", 15 << 60), (".5k", "B", 512), ("1.k", "B", 1024),
    ],
)  # fmt: skip
def test_sizes(text: str, unit: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(OptionError, match="below 2\\^64"):
            parse_size(text, unit)
    else:
        assert parse_size(text, unit) == size


WRONG = ["", "-1", "M", "1Z", "1.5", "1.5B", "0x10M", "1 M", "1MM", ".", "1e5x", "9" * 5000]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(OptionError, match="Parameter 'size' expects"):
        parse_size(text)


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_in_every_base(value: int) -> None:
    assert parse_number(str(value), "n") == value
    assert parse_number(hex(value), "n") == value
    assert parse_number(f"0{value:o}", "n") == value


@pytest.mark.parametrize("text", ["", "-1", "x", "08", "1.0", "1_000", str(1 << 64), " 1", "9" * 5000])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(OptionError, match="Parameter 'n' expects a number"):
        parse_number(text, "n")


def test_on_and_off() -> None:
    assert parse_bool("on", "x")
    assert not parse_bool("off", "x")
    with pytest.raises(OptionError, match="Parameter 'x' expects 'on' or 'off'"):
        parse_bool("1", "x")
