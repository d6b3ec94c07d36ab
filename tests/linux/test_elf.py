"""The loader: every kind of program that Linux takes, and one clear line for every one that it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.errors import ImageError
from e2kemu.linux.elf import parse_program
from tests.linux.image import ET_DYN, PT_GNU_STACK, Image, machine_code
from tests.linux.program import Code, numbers, run


def exit_code(status: int) -> bytes:
    """A position independent program that ends with ``status``."""
    return machine_code(Code().exit(status))


def test_a_position_independent_program_runs_where_it_is_put(tmp_path: Path) -> None:
    # the entry of the auxiliary vector (AT_ENTRY, 9) is where it really is
    code = Code()("{ getsp 0, %dr8 }")
    code("find:")("{ nop 4; ldd,0 %dr8, 0, %dr1 }")("addd,0 %dr8, 8, %dr8").branch("find", "cmpedb %dr0, 1")
    code.branch("found", "cmpedb %dr1, 9").goto("find")
    code("found:")("{ nop 4; ldd,0 %dr8, 0, %dr1; ldd,2 %dr8, 8, %dr2 }")("shrd,0 %dr1, 12, %dr1")
    code("{ rrd %ip, %dr3 }")("{ nop 4; shrd,0 %dr3, 12, %dr3 }")("subd,0 %dr1, %dr3, %dr1").exit("%dr1")
    image = Image(machine_code(code, 0), base=0, kind=ET_DYN)
    assert run(image.write(tmp_path)).returncode == 0


def test_an_interpreter_is_found_by_the_prefix_and_starts_the_program(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    Image(exit_code(44), kind=ET_DYN, base=0).write(tmp_path / "lib", "ld.so")
    program = Image(exit_code(1), interpreter="/lib/ld.so").write(tmp_path)
    assert run(program, options=("-L", str(tmp_path))).returncode == 44
    done = run(program)
    assert done.returncode == 1
    assert b"its interpreter '/lib/ld.so' is not there (-L prefix says where such files are)" in done.stderr


def test_a_program_sees_only_what_is_below_its_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "inside").write_text("x")
    (tmp_path / "outside").write_text("x")
    (root / "link").symlink_to("../../outside")
    code = Code()
    for path in ("/inside", "/../outside", "/link", "../outside"):
        code.call("openat", 0xFFFFFF9C, code.text(path), 0, 0).number("%dr16")
    program = code.exit(0).build(root)
    values = numbers(run(program, options=("-root", str(root))).stdout)
    assert values == [3, *[(1 << 64) - 2] * 3]


def test_the_program_is_named_by_its_path_on_the_host_and_sees_its_path_below_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    code = Code().space("name", 256).call("readlink", code_text := "path", "name", 256, result="%dr20")
    code.data.append('path: .asciz "/proc/self/exe"')
    program = code.call("write", 1, "name", "%dr20").exit(0).build(root)
    assert code_text in program.with_suffix(".S").read_text()
    assert run(program, options=("-root", str(root))).stdout == b"/prog"
    outside = program.rename(tmp_path / "prog")
    assert run(outside, options=("-root", str(root))).stdout == str(outside).encode()
    outside.rename(program)
    done = run(Path("/prog"), options=("-root", str(root)))
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "e2kemu: -kernel /prog: could not load program '/prog': No such file or directory "
        f"(its path is the host's: {root}/prog)\n")


def test_a_32_bit_program_has_pointers_of_four_bytes(tmp_path: Path) -> None:
    code = Code(entry=1).space("ts", 16)
    code("{ getsp 0, %dr8 }")("{ nop 4; ldw,0 %dr8, 0, %dr1; ldw,2 %dr8, 4, %dr2 }").number("%dr1")
    code("{ nop 4; ldb,0 %dr2, 0, %dr3 }").number("%dr3").call("clock_gettime", 0, "ts").number("%dr16")
    code("{ nop 4; ldw,0 0, ts + 4, %dr3; ldd,2 0, ts + 8, %dr4 }").number("%dr4")
    code("addd,0 0, 0xffffffffffffffff, %dr5").call("close", "%dr5").number("%dr16").exit(0)
    raw = machine_code(code).replace(b"", b"")
    done = run(Image(raw, bits=32).write(tmp_path), "a", "b")
    count, slash, result, behind, failed = numbers(done.stdout)
    assert (count, chr(slash), result, behind, failed) == (3, "/", 0, 0, (1 << 64) - 9)


def test_the_cpu_is_the_one_that_the_file_asks_for(tmp_path: Path) -> None:
    code = Code()("{ nop 4; rrd %idr, %dr1 }")("{ nop 4; andd,0 %dr1, 255, %dr1 }").exit("%dr1")
    raw = machine_code(code)
    for flags, mdl in ((19 << 24 | 16, 7), (2 << 24, 7), (20 << 24 | 16, 8)):
        assert run(Image(raw, flags=flags).write(tmp_path)).returncode == mdl
    assert run(Image(raw).write(tmp_path), options=("-cpu", "e1cp")).returncode == 8


def test_the_stack_is_executable_only_when_the_file_says_so(tmp_path: Path) -> None:
    # copies the code of an exit to the stack and goes there
    code = Code()("{ getsp 0xffffff00, %dr8 }")("addd,0 %dr8, 0, %dr9")("addd,0 0, stub, %dr1")
    for offset in range(0, 256, 8):
        code(f"{{ nop 4; ldd,0 %dr1, {offset}, %dr2 }}")(f"std,2 %dr2, [ %dr9 + {offset} ]")
    code("{ nop 4; movtd,0 %dr9, %ctpr2 }")("{ ct %ctpr2 }")
    code(".align 8")("stub:").exit(5)
    raw = machine_code(code)
    assert run(Image(raw, extra=[(PT_GNU_STACK, 7)]).write(tmp_path)).returncode == 5
    done = run(Image(raw, extra=[(PT_GNU_STACK, 6)]).write(tmp_path))
    assert done.returncode == 128 + 11
    assert b"exc_instr_page_prot" in done.stderr


GOOD = Image(b"\0" * 64)
BROKEN: list[tuple[bytes, str]] = [
    (b"", "not an ELF file"),
    (b"#!/bin/sh\n", "not an ELF file"),
    (GOOD.build()[:40], "the file is truncated"),
    (GOOD.build()[:-1], "the file is truncated: segment 0 ends at byte"),
    (GOOD.build()[:5] + b"\2" + GOOD.build()[6:18] + b"\0\xaf" + GOOD.build()[20:],
     "it is big endian; programs for e2k are little endian"),
    (GOOD.build()[:4] + b"\3" + GOOD.build()[5:], "its class is 3, neither 32 nor 64 bits"),
    (replace(GOOD, machine=62).build(), "it is for machine 62, not for e2k"),
    (replace(GOOD, kind=1).build(), "it is not an executable but an object file: link it"),
    (replace(GOOD, flags=32).build(), "protected mode"),
    (replace(GOOD, flags=99 << 24).build(), "unknown e2k machine 99"),
    (replace(GOOD, entry=8).build(), "its entry point 0x8 is in no segment"),
    (replace(GOOD, base=1 << 50).build(), "lies outside of the address space"),
    (GOOD.build()[:54] + b"\7\0" + GOOD.build()[56:], "it has no usable program headers"),
]


@pytest.mark.parametrize(("data", "reason"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_program_is_refused_with_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_program(data, "some/file")
    text = str(caught.value)
    assert text.startswith("could not load program 'some/file': ")
    assert reason in text
    assert "\n" not in text


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_damage_to_a_header_never_gives_anything_but_an_image_error(offset: int, junk: bytes) -> None:
    data = bytearray(Image(b"\0" * 64, interpreter="/lib/ld").build())
    data[offset : offset + len(junk)] = junk
    try:
        taken, text = bool(parse_program(bytes(data), "file").segments), ""
    except ImageError as error:
        taken, text = False, str(error)
    assert taken or (text.startswith("could not load program 'file': ") and "\n" not in text)


def test_the_command_line_says_what_is_wrong(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    done = run(missing)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().count("\n") == 1
    assert f"could not load program '{missing}': No such file or directory" in done.stderr.decode()
    high = Image(exit_code(0), base=0x4000_0000_0000, kind=ET_DYN).write(tmp_path)
    assert run(high).returncode == 0       # its addresses are only relative


def test_a_program_linked_above_the_ram_has_memory_there(tmp_path: Path) -> None:
    base = 0x80_0000_0000
    assert run(Image(machine_code(Code().exit(9), base), base=base).write(tmp_path)).returncode == 9
