"""The disassembler against the vendor's."""

from __future__ import annotations

from collections import Counter
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.bundle import DecodeError
from e2kemu.cpu.disasm import disassemble_at
from e2kemu.cpu.insn import Kind, Operand
from tests.cpu.vectors import disassembled, lines, words_to_bytes


def text(*words: int, version: int = 4, address: int = 0) -> list[str]:
    return disassemble_at(pack(f"<{len(words)}I", *words), version, address)[1]


def test_the_text_of_every_vector_is_the_golden_one() -> None:
    counts: Counter[int] = Counter()
    for vector in disassembled():
        size, found = disassemble_at(vector["data"], vector["iset"], vector.get("addr") or 0)
        assert (found, size) == (vector["text"], len(vector["data"])), vector
        counts[vector["iset"]] += 1
    assert sum(counts.values()) == 20590
    assert all(counts[version] >= 1500 for version in range(2, 8)), counts


def test_the_text_of_assembled_lines_is_the_golden_one() -> None:
    count = 0
    for vector in lines("asm_vectors.jsonl"):
        if "ambiguous" in str(vector["text"]):
            continue  # objdump 2.35 says so of every plog
        data, found = words_to_bytes(vector["words"]), []
        while data:
            size, one = disassemble_at(data, vector["iset"])
            found += one
            data = data[size:]
        assert found == vector["text"], vector
        count += 1
    assert count >= 700


@pytest.mark.parametrize(
    ("words", "version", "expected"),
    [
        ((0, 0), 4, []),
        ((0, 0), 7, ["nop"]),  # binutils 2.39
        ((0x00001001, 0x02100000), 4, ["crp"]),  # recovery points exist in both formats of SS
        ((0x00004001, 0x00000001), 4, ["invalid ibranch"]),
        ((0x00004001, 0x30000000), 4, ["invalid done"]),
        ((0x10400001, 0x5E090084), 6, ["ldaaw,2 %aad1 [ %aasti2 ], %r4"]),
        ((0x10400001, 0x5E091484), 6, ["ldaaw,2 %aad1 [ %aasti2 ], %r4", "incr,2 %aaincr1"]),
        ((0x04000001, 0x10818283), 2, ["adds,0 %r1, %r2, %r3"]),
        ((0x00040000, 0x24610020), 4, ["pass %spred2, @p0", "andp @p0, @p0, @p4", "pass @p4, %pred0"]),
        ((0x00040000, 0x50610021), 4, ["pass %elp_0x50, @p0", "andp @p0, @p0, @p4", "pass @p4, %pred1"]),
        ((0x00001001, 0x00000560), 7, ["ct %ctpr1 ? <reserved condition type>"]),
    ],
)
def test_cases_that_no_vector_has(words: tuple[int, ...], version: int, expected: list[str]) -> None:
    assert text(*words, version=version) == expected


def test_targets_are_relative_to_the_wide_instruction() -> None:
    assert text(0x00004001, 0x4FFFFFFF, address=0x100) == ["disp %ctpr1, 0xf8"]


def test_what_is_no_wide_instruction_reads_as_array_prefetch() -> None:
    assert text(0x16CDBDD0, 0x41894302, 0, 0)[1] == "apb dpl=0, fmt=0"


def test_a_truncated_wide_instruction_is_not_read_as_array_prefetch() -> None:
    with pytest.raises(DecodeError, match="lng is 3, but only 16 of 32 bytes"):
        text(0x00000030, 0, 0, 0)


@given(st.binary(min_size=8, max_size=64), st.integers(1, 7))
@settings(max_examples=500, deadline=None)
def test_random_bytes_give_lines_or_a_decode_error(data: bytes, version: int) -> None:
    problem = ""
    try:
        size, found = disassemble_at(data, version)
    except DecodeError as error:
        problem = str(error)
    if problem:
        assert "offset 0x" in problem
        return
    assert 8 <= size <= len(data)
    assert all(line == line.strip() and "\n" not in line for line in found)


def test_operands_are_hashable_and_compare_by_value() -> None:
    assert Operand(Kind.R, 1) == Operand(Kind.R, 1)
