"""Bytes <-> syllables."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.bundle import Bundle, DecodeError, build, join, layout, split
from e2kemu.cpu.isa.formats import ALES_DEFAULT, SYLLABLES
from e2kemu.errors import ImageError
from tests.cpu.vectors import disassembled


def test_every_vector_survives_split_and_join() -> None:
    count = 0
    for vector in disassembled():
        if vector["kind"] == "apb":
            continue
        bundle = split(vector["data"], vector["iset"])
        assert join(bundle) == vector["data"], vector
        assert bundle.size == len(vector["data"])
        count += 1
    assert count >= 20546


@given(st.binary(max_size=72), st.integers(1, 7))
@settings(max_examples=500, deadline=None)
def test_random_bytes_split_and_join_back_or_raise_a_decode_error(data: bytes, version: int) -> None:
    bundle: Bundle | DecodeError
    try:
        bundle = split(data, version)
    except DecodeError as error:
        bundle = error
    if isinstance(bundle, DecodeError):
        assert str(bundle).startswith(("HS: ", "AAS"))
    else:
        assert join(bundle) == data[: bundle.size]


def test_fields_of_a_syllable_do_not_overlap() -> None:
    assert len(SYLLABLES) >= 20
    for syllable in SYLLABLES:
        if syllable.name.startswith("ALS[23:8]"):
            continue  # code and incr+am are two readings of the same bits
        seen = 0
        for field in syllable:
            assert not seen & field.mask, (syllable.name, field.name)
            seen |= field.mask
        assert seen >> syllable.bits == 0, syllable.name


def test_a_field_refuses_a_value_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="0x10 does not fit in mdl"):
        next(iter(SYLLABLES))["mdl"].put(16)


def test_literals_are_counted_from_the_end() -> None:
    bundle = build(4, als=(0x1180D881, *(None,) * 5), lts=(0x11, 0x22, 0x33))
    assert [bundle.lts(n) for n in range(4)] == [0x11, 0x22, 0x33, 0]  # the padding may be read as well
    assert bundle.lts(4) is None
    assert join(bundle)[-4:] == pack("<I", 0x11)


def test_build_writes_the_word_of_ales2_and_ales5_only_when_it_must() -> None:
    als = (None, None, 0x30808182, None, None, None)
    default = build(4, als=als, ales=(None, None, ALES_DEFAULT, None, None, None))
    assert default.ales25 is None
    assert default.size == 8
    other = build(4, als=als, ales=(None, None, 0x02C0, None, None, None))
    assert join(other) == pack("<4I", 0x10400012, 0x30808182, 0x02C00000, 0)
    forced = build(4, als=als, ales=(None, None, ALES_DEFAULT, None, None, None), explicit_ales=True)
    assert forced.ales25 == ALES_DEFAULT << 16


def test_build_says_that_v3_has_no_ales2_of_its_own() -> None:
    with pytest.raises(ImageError, match="only since instruction set v4, this is v3"):
        build(3, als=(None, None, 1, None, None, None), ales=(None, None, 0x02C0, None, None, None))


def test_build_refuses_more_than_64_bytes() -> None:
    with pytest.raises(ImageError, match="needs 68 bytes, it may have 64"):
        build(4, als=(0,) * 6, cs0=0, cs1=0, ss=0, lts=(0,) * 4, pls=(0,) * 3)


def test_messages_name_the_culprit() -> None:
    with pytest.raises(DecodeError, match=r"HS: lng is 1, but only 8 of 16 bytes are here \(offset 0x8"):
        split(pack("<4I", 0, 0, 0x10, 0), 4, offset=8)
    with pytest.raises(DecodeError, match=r"HS: mdl is 15, but the syllables before the half-words take 1"):
        split(pack("<2I", 0xF, 0), 4, address=0x40)
    with pytest.raises(
        DecodeError, match=r"at least 8 bytes, here are 4 \(offset 0x0, wide instruction at 0x40\)"
    ):
        split(bytes(4), 4, address=0x40)


def test_layout_of_an_empty_header() -> None:
    assert layout(0, 4).words == 2
    assert join(Bundle(0, middle=(7,))) == pack("<2I", 0, 7)
