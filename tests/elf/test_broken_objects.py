"""Whatever bytes it is given, the linker answers with a program or with one line: no traceback, no hang."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.elf.constants import Binding, SymbolType
from e2kemu.elf.linker import LinkError, LinkOptions, link
from e2kemu.elf.reader import read_archive, read_object
from e2kemu.elf.writer import ObjectFile
from e2kemu.errors import ImageError

from .objects import foreign_program, simple, undefined
from .test_ld_cli import archive


def rich(bits: int = 64) -> bytes:
    """An object that has something of everything."""
    obj = ObjectFile("e8c", name="rich.o", bits=bits)
    text = obj.section(".text", align=8)
    text.append(bytes(range(64)))
    start = obj.symbol("_start", text, 0, size=64, binding=Binding.GLOBAL, type=SymbolType.FUNC)
    data = obj.section(".data", align=16)
    data.append(bytes(32))
    obj.section(".bss", align=32).reserve(100)
    obj.section(".tdata", align=8).append(bytes(8))
    thread = obj.symbol("t", obj.section(".tdata"), 0, size=8, type=SymbolType.TLS)
    group = obj.section(".text.shared", align=8)
    group.append(bytes(8))
    group.group = "shared"
    obj.symbol("shared", group, binding=Binding.WEAK)
    for number, kind in enumerate(("R_E2K_DISP", "R_E2K_64_ABS_LIT", "R_E2K_GOT", "R_E2K_NONE")):
        text.relocate(8 * number, kind, start, 0)
    text.relocate(40, "R_E2K_TLS_IE", thread)
    data.relocate(8, "R_E2K_64_ABS", undefined(obj, "maybe", weak=True))
    data.relocate(16, "R_E2K_64_ABS", data.symbol, 4)
    return obj.to_bytes()


SEEDS = [rich(64), rich(32)]


def attempt(data: bytes) -> bool:
    """Read and link; whether a program came of it. Anything but ImageError is a failure of the test."""
    try:
        obj = read_object(data, "x.o")
        program = link([obj], LinkOptions(entry=0))
        program.executable.to_bytes()
        program.executable.flat()
        program.map_text()
        return True
    except ImageError as error:
        lines = error.problems if isinstance(error, LinkError) else [str(error)]
    assert all(line.isprintable() and line for line in lines)
    return False


@pytest.mark.parametrize("data", SEEDS, ids=["64", "32"])
def test_the_whole_object_links(data: bytes) -> None:
    assert attempt(data)


@pytest.mark.parametrize("data", SEEDS, ids=["64", "32"])
def test_an_object_cut_off_anywhere_is_one_line(data: bytes) -> None:
    for length in range(len(data)):
        # The section headers stand at the end: without the last byte they are not whole.
        assert not attempt(data[:length])
    assert len(data) > 1000


@pytest.mark.parametrize("data", SEEDS, ids=["64", "32"])
def test_every_byte_may_be_wrong(data: bytes) -> None:
    for at in range(len(data)):
        for value in (0x7F, 0xFF):
            attempt(data[:at] + bytes([value]) + data[at + 1 :])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 1 << 32))
def test_many_bytes_may_be_wrong(data: bytes, seed: int) -> None:
    generator = random.Random(seed)
    broken = bytearray(data)
    for _ in range(generator.randint(1, 12)):
        at = generator.randrange(len(broken))
        width = generator.choice((1, 2, 4, 8))
        broken[at : at + width] = generator.choice(
            (bytes(width), b"\xff" * width, generator.randbytes(width), b"\x80" + bytes(width - 1))
        )
    attempt(bytes(broken))


@given(st.binary(max_size=300))
def test_no_bytes_are_a_traceback(data: bytes) -> None:
    attempt(data)
    attempt(SEEDS[0][:64] + data)


@settings(deadline=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_broken_archive_is_one_line(at: int, noise: bytes) -> None:
    data = bytearray(archive(("a.o", simple().to_bytes()), ("b_with_a_long_name.o", simple().to_bytes())))
    data[at : at + len(noise)] = noise
    line = "x.a: fine"
    try:
        read_archive(bytes(data), "x.a")
    except ImageError as error:
        line = str(error)
    assert line.isprintable()
    assert line.startswith("x.a")


def test_executables_and_foreign_machines_are_named() -> None:
    with pytest.raises(ImageError, match=r"x\.o: not a relocatable object: e_type is ET_EXEC"):
        read_object(foreign_program(), "x.o")
    x86 = bytearray(SEEDS[0])
    x86[18:20] = (62).to_bytes(2, "little")
    with pytest.raises(ImageError, match=r"x\.o: e_machine EM_X86_64 is not e2k \(175\)"):
        read_object(bytes(x86), "x.o")
    with pytest.raises(ImageError, match=r"x\.a: a thin archive"):
        read_archive(b"!<thin>\n", "x.a")


def test_huge_sections_are_refused_before_they_fill_memory() -> None:
    obj = simple()
    obj.section(".data").append(b"x")
    zeros = obj.section(".bss")
    zeros.reserve(1 << 62)
    tail = obj.section(".data.x", align=1 << 40)
    tail.append(b"x")
    with pytest.raises(ImageError, match=r"a\.o: section \.data\.x makes \.data \d+ bytes long"):
        link([obj])
    obj.sections.remove(tail)
    program = link([obj])  # zeros cost nothing
    assert len(program.executable.to_bytes()) < 4096
