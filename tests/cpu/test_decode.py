"""Bytes -> meaning."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.bundle import DecodeError
from e2kemu.cpu.decode import check, decode, decode_apb
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand, Wide
from e2kemu.errors import ImageError
from tests.cpu.vectors import disassembled


def wide(*words: int, version: int = 4, address: int = 0) -> Wide:
    return decode(pack(f"<{len(words)}I", *words), version, address)


def attempt(data: bytes, version: int) -> Wide | DecodeError:
    try:
        return decode(data, version)
    except DecodeError as error:
        return error


def one(*words: int, version: int = 4) -> AluInsn:
    (insn,) = wide(*words, version=version).alu
    return insn


def test_every_vector_decodes_and_no_bit_of_it_is_left_over() -> None:
    count = 0
    for vector in disassembled():
        if vector["kind"] == "apb":
            continue
        found = decode(vector["data"], vector["iset"])
        assert found.size == len(vector["data"])
        assert found.reserved == (), vector
        assert all(insn.pair_channel is not None for insn in found.alu if insn.op.pair), vector
        count += 1
    assert count >= 20546


@given(st.binary(max_size=64), st.integers(1, 7))
@settings(max_examples=1000, deadline=None)
def test_decode_is_total(data: bytes, version: int) -> None:
    found = attempt(data, version)
    if isinstance(found, DecodeError):
        assert isinstance(found, ImageError)
        assert 0 <= found.offset <= len(data)
        return
    assert check(found) is None or isinstance(check(found), str)


@given(st.lists(st.integers(0, 0xFFFFFFFF), min_size=2, max_size=8), st.integers(1, 7), st.integers(0, 5))
@settings(max_examples=500, deadline=None)
def test_random_operations_decode_or_say_what_is_wrong(tail: list[int], version: int, channel: int) -> None:
    words = 2 * (len(tail) // 2) + 2
    header = 1 << 26 + channel | (words // 2 - 1) << 4 | 1
    data = pack(f"<{words}I", header, *tail, *[0] * (words - 1 - len(tail)))
    found = attempt(data, version)
    if isinstance(found, DecodeError):
        assert found.syllable.startswith(f"ALS{channel} ")
        assert found.offset == 4
        return
    assert [insn.channel for insn in found.alu] == [channel]


def test_operands() -> None:
    insn = one(0x04000001, 0x10D57F8A)
    assert (insn.op.name, insn.channel, insn.sm) == ("adds", 0, False)
    assert insn.src1 == Operand(Kind.IMM, 0x15, 0xD5)
    assert insn.src2 == Operand(Kind.B, 0x7F, 0x7F)
    assert insn.dst == Operand(Kind.R, 10, 0x8A)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0xD0, (Kind.LIT16, 0x4444)),
        (0xD1, (Kind.LIT16, 0x3333)),
        (0xD4, (Kind.LIT16, 0xDDDD)),
        (0xD5, (Kind.LIT16, 0xCCCC)),
        (0xD8, (Kind.LIT32, 0xDDDD4444)),
        (0xDB, (Kind.LIT32, 0xAAAA1111)),
        (0xDC, (Kind.LIT64, 0xCCCC3333DDDD4444)),
        (0xDE, (Kind.LIT64, 0xAAAA1111BBBB2222)),
    ],
)
def test_literals(code: int, expected: tuple[Kind, int]) -> None:
    insn = one(0x04000021, 0x11800081 | code << 8, 0xAAAA1111, 0xBBBB2222, 0xCCCC3333, 0xDDDD4444)
    assert insn.src2 == Operand(*expected, code)


def test_conditions_of_an_operation_and_of_an_address_increment() -> None:
    found = one(0x10418012, 0x1F099485, 0x60000000, 0x00002263)
    assert found.increment == (Guard(3, negated=True),)
    assert found.guards == ()
    guarded = one(0x40010011, 0x01D184E0, 0x00000000, 0x0000497E)
    assert guarded.guards == (Guard(30, negated=True),)
    merged = one(0x40010011, 0x0E848894, 0x00000000, 0x0000C873)
    assert (merged.merge, merged.guards) == ((Guard(19),), ())


def test_array_writes_of_registers_are_told_from_stores_by_their_specifier() -> None:
    assert one(0x10400001, 0x1E080084).op.name == "staaw"
    assert one(0x10408012, 0x1E080084, 0x600FC000, 0).op.name == "aaurws"


def test_a_specifier_is_where_its_operation_is() -> None:
    found = wide(0x10008012, 0x64D3A585, 0x60010000, 0)
    assert (found.alu[0].mas, found.cs1) == (4, ())
    stray = wide(0x10008012, 0x64D3A585, 0x60010001, 0)
    assert [(op.name, dict(op.fields)) for op in stray.cs1] == [("mas", {"alc5": 1})]


def test_a_quad_operation_is_one_operation() -> None:
    old = one(0x14500012, 0x41808184, 0x41808185, 0x01C00000, version=5)
    assert (old.op.name, old.channel, old.pair_channel) == ("ldq", 0, 2)
    new = one(0x04100011, 0x41808184, 0x01C00000, 0, version=7)
    assert (new.op.name, new.channel, new.pair_channel) == ("ldq", 0, 2)


def test_halves_that_do_not_agree_stay_apart_and_are_illegal() -> None:
    found = wide(0x14500012, 0x41808184, 0x41808187, 0x01C00000, version=5)
    assert len(found.alu) == 2
    assert check(found) == "ldq: the two channels of the pair do not agree"


@pytest.mark.parametrize(
    ("words", "version", "message"),
    [
        (
            (0x04000001, 0x0DFFFFFF),
            4,
            "ALS0 cop: instruction set v4 has no operation with cop 0xd in channel 0",
        ),
        ((0x10400012, 0x30808182, 0x02C001C0, 0), 3, "HS: mdl is 2, but the syllables before"),
        (
            (0x04000001, 0x1080D882),
            4,
            r"ALS0 src2: the literal is in LTS0, but the wide instruction has 0 LTS",
        ),
        ((0x04000001, 0x1080D282), 4, r"ALS0 src2: operand code 0xd2 is reserved \(offset 0x4"),
        ((0x04000001, 0x108081C1), 4, "ALS0 dst: destination code 0xc1 is reserved"),
        ((0x10000001, 0x248081C1), 4, "ALS2 src4: operand code 0xc1 is no register"),
        ((0x00004001, 0x50000000), 4, "CS0: opc 1 with ctpr 1 is reserved"),
        ((0x00004001, 0x70000000), 4, "CS0: type 0 of opc 3 with ctpr 1 is reserved"),
        ((0x00008001, 0x90000000), 4, "CS1: opc 9 is reserved"),
        ((0x00008001, 0x00000000), 4, "CS1: setwd takes its fields from LTS0"),
        ((0x00008001, 0x50000180), 4, "CS1: ctopc 3 of call is reserved"),
        ((0x00010000, 0x00000401), 4, r"CDS0: low half: predicate code 0x1 is reserved \(offset 0x4"),
        ((0x00001001, 0x00001000), 4, r"AAS0: SS.aa is 0x1, but the half-word is not there \(offset 0x8"),
        ((0x00001011, 0x00001000, 0xC1004000, 0), 4, "AAS0: destination code 0xc1 of channel 0 is reserved"),
    ],
)
def test_a_decode_error_names_syllable_field_and_offset(
    words: tuple[int, ...], version: int, message: str
) -> None:
    with pytest.raises(DecodeError, match=message):
        wide(*words, version=version)


@pytest.mark.parametrize(
    ("words", "version", "reason"),
    [
        ((0x00000800, 0), 4, "HS: bit 11"),
        ((0x00001001, 0x00000220), 4, "SS: bits 0x200"),
        ((0x00008001, 0x30004000), 4, "CS1: bits 0x4000"),
        ((0x04000001, 0x2480C84F), 4, "ALS0: 0x800000 in bits that cctope does not use"),
        ((0x04100011, 0x28818263, 0x02C00000, 0), 6, "ALS0: 0x60 in bits that pcmpeqbop does not use"),
        ((0x00010000, 0x00000461), 4, "CDS: a condition for ALC0, without operation"),
        ((0x00100010, 0, 0x01C00000, 0), 4, "HS: an ALES without ALS, mask 0x1"),
        ((0x04010011, 0x10808182, 0, 0x00008460), 4, "CDS: adds in ALC0 does not merge"),
        ((0x00010000, 0x00002060), 4, "CDS: ALC2 increments no address"),
        ((0x00010000, 0x0000A060), 4, "CDS: a condition of crp, srp or slrp, which is not there"),
        ((0x00005012, 0x00000020, 0x30000002, 0), 4, "iret needs instruction set v6, this is v4"),
        ((0x00008001, 0x70000004), 5, "fillr needs instruction set v6, this is v5"),
        ((0x00001001, 0xC0906000), 5, "abgc needs instruction set v6, this is v5"),
        ((0x00001001, 0xC0101000), 6, "ctp_call needs instruction set v7, this is v6"),
        ((0x00001001, 0x01000000), 6, "abg exists up to instruction set v5, this is v6"),
        ((0x00001001, 0x0A000000), 2, "slrp needs instruction set v3, this is v2"),
        ((0x00040000, 0x60610860), 4, "PLS0: @p2 is not defined yet"),
        ((0x00040000, 0x60618060), 4, "PLS0: opc 2 is reserved"),
        ((0x00080010, 0, 0x00001063, 0x60610063), 4, "two logical operations write %pred3"),
        ((0x00040000, 0x50610061), 4, "@p0: source code 0x50 is reserved"),
        ((0x00001001, 0x00000540), 4, "SS: condition type 10 is reserved"),
        ((0x00001001, 0x00000560), 4, "SS: condition type 11 is reserved"),
        ((0x00004001, 0), 4, "ibranch without a condition in SS"),
        ((0x00008001, 0x50000000), 4, "call without a %ctpr in SS"),
        ((0x04000001, 0x118081D1), 4, "addd cannot write %ctpr1"),
        ((0x08000001, 0x61C081D1), 4, "movtd: only channel 0 writes %ctpr"),
        ((0x84000012, 0x67808184, 0x27808185, 0), 4, "a load in channel 0 and a store in channel 5 exclude"),
        ((0x30000012, 0x27808184, 0x67808185, 0), 4, "a load in channel 3 and a store in channel 2 exclude"),
        ((0x94000013, 0x67808184, 0x27808185, 0x67808186), 4, "LEGAL"),
        ((0x00004001, 0x60000020), 4, "sdisp: entry 0x20 is more than 0x1f"),
        ((0x00001011, 0x00001000, 0x80006000, 0), 4, "AAS2: opc 6 is reserved"),
        ((0x14100012, 0x41808184, 0x10808185, 0x01C00000), 7, "ldq: channel 2 belongs to the pair"),
    ],
)
def test_check_says_why_a_wide_instruction_is_illegal(
    words: tuple[int, ...], version: int, reason: str
) -> None:
    if reason == "LEGAL":
        assert check(wide(*words, version=version)) is None
    else:
        assert (check(wide(*words, version=version)) or "").startswith(reason)


def test_a_local_condition_without_mlock_is_legal_since_v7() -> None:
    assert check(wide(0x00001001, 0x00000560, version=7)) is None


def test_offset_and_address_are_where_the_caller_says() -> None:
    data = bytes(8) + pack("<2I", 0x04000001, 0x0DFFFFFF)
    assert decode(data, 4, 0x1000).address == 0x1000
    with pytest.raises(DecodeError, match=r"\(offset 0xc, wide instruction at 0x1008\)"):
        decode(data, 4, 0x1008, 8)


def test_a_memoryview_decodes_as_bytes_do() -> None:
    data = pack("<2I", 0x04000001, 0x10818283)
    assert decode(memoryview(data), 4) == decode(data, 4)


def test_array_prefetch_needs_sixteen_bytes() -> None:
    with pytest.raises(DecodeError, match="8 bytes are no array prefetch instruction of 16"):
        decode_apb(bytes(8))


def test_a_pair_whose_halves_have_different_conditions_is_not_taken_for_one_that_agrees() -> None:
    words = "7856d1ff cc0466c0 9bdef7ab 0bccc43f f7c6c487 e5d9293a af42c346 f8c6c487 3c92fdaf c701c301"
    code = bytes.fromhex(words + "0000e608 00000080 ffffffff 00000080 ff7f0000 76194206")
    wide = decode(code, 3)
    assert "channels 2 and 5 of stssq differ in conditions" in str(check(wide))
