"""e2kemu-ld as a user runs it: real processes, real files."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from e2kemu.elf.constants import Binding
from e2kemu.elf.writer import ObjectFile
from tests.framework import forked

from .objects import NOP, elf, foreign_program, global_function, simple, undefined, words


def ld(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return forked.run(
        [sys.executable, "-m", "e2kemu.elf.ld_cli", *map(str, arguments)],
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def archive(*members: tuple[str, bytes]) -> bytes:
    """An ``ar`` archive with GNU's names: long ones in a table."""
    table = b"".join(name.encode() + b"/\n" for name, _ in members if len(name) > 15)
    out = bytearray(b"!<arch>\n")

    def add(label: str, data: bytes) -> None:
        out.extend(
            f"{label:16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode()
            + data
            + b"\n" * (len(data) % 2)
        )

    add("/", b"\0\0\0\0")
    if table:
        add("//", table)
    for name, data in members:
        add(f"/{table.index(name.encode())}" if len(name) > 15 else f"{name}/", data)
    return bytes(out)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """a.o needs f of b.o; libx.a has f and a member that nobody needs."""
    a = ObjectFile("v4", name="a.o")
    global_function(a, "_start", words(0x00004001, 0x40000000))
    a.section(".text").relocate(4, "R_E2K_DISP", undefined(a, "f"), 4)
    a.section(".data", align=8).append(struct.pack("<Q", 7))
    a.section(".bss", align=8).reserve(32)
    b = simple("b.o", "f")
    (tmp_path / "a.o").write_bytes(a.to_bytes())
    (tmp_path / "b.o").write_bytes(b.to_bytes())
    (tmp_path / "libx.a").write_bytes(
        archive(
            ("unused.o", simple("unused.o", "unused").to_bytes()),
            ("a_member_with_a_long_name.o", b.to_bytes()),
        )
    )
    return tmp_path


def test_objects_become_an_executable_file(files: Path) -> None:
    result = ld("a.o", "b.o", "-o", "prog", "-Map", "prog.map", cwd=files)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert os.access(files / "prog", os.X_OK)
    file = elf((files / "prog").read_bytes())
    assert file.header["e_type"] == "ET_EXEC"
    assert struct.unpack("<4I", file.get_section_by_name(".text").data())[1] == 0x40000001
    assert "f (b.o)" in (files / "prog.map").read_text()


def test_a_library_is_found_and_gives_only_what_is_needed(files: Path) -> None:
    result = ld("a.o", "-L", "nowhere", "-L.", "-lx", "-o", "prog", "-Map", "-", cwd=files)
    assert (result.returncode, result.stderr) == (0, "")
    assert "f (libx.a(a_member_with_a_long_name.o))" in result.stdout
    assert "unused" not in result.stdout
    assert ld("a.o", "libx.a", "-o", "prog2", cwd=files).returncode == 0
    assert (files / "prog2").read_bytes() == (files / "prog").read_bytes()


def test_a_flat_image_has_no_headers(files: Path) -> None:
    result = ld(
        "a.o",
        "b.o",
        "-o",
        "flat",
        "--oformat",
        "binary",
        "-Ttext",
        "0x1000",
        "-Tdata=0x1020",
        "-Tbss",
        "0x2000",
        cwd=files,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (files / "flat").read_bytes() == words(0x4001, 0x40000001, *NOP, 0, 0, 0, 0, 7, 0)
    assert not os.access(files / "flat", os.X_OK)


def test_options_change_what_they_say(files: Path) -> None:
    result = ld(
        "a.o",
        "b.o",
        "-o",
        "prog",
        "-e",
        "f",
        "-N",
        "-s",
        "--section-start=.data=0x40000",
        "--defsym",
        "x=f+8",
        "-z",
        "max-page-size=0x10000",
        "-static",
        cwd=files,
    )
    assert (result.returncode, result.stderr) == (0, "")
    file = elf((files / "prog").read_bytes())
    assert file.header["e_entry"] == file.get_section_by_name(".text")["sh_addr"] + 8
    assert file.get_section_by_name(".data")["sh_addr"] == 0x40000
    assert file.get_section_by_name(".symtab") is None
    assert {s["p_align"] for s in file.iter_segments()} == {0x10000}


def test_each_finding_is_a_line_and_nothing_is_written(files: Path) -> None:
    result = ld("a.o", "-o", "prog", cwd=files)
    assert result.returncode == 1
    assert result.stderr == "e2kemu-ld: a.o: .text+0x4: undefined symbol 'f'\n"
    result = ld("a.o", "b.o", "b.o", "a.o", "-o", "prog", cwd=files)
    assert result.stderr.splitlines() == [
        "e2kemu-ld: b.o: .text+0x0: symbol 'f' is already defined in b.o (.text+0x0)",
        "e2kemu-ld: a.o: .text+0x0: symbol '_start' is already defined in a.o (.text+0x0)",
    ]
    assert not (files / "prog").exists()


def test_a_thousand_findings_end_after_fifty(files: Path) -> None:
    obj = simple()
    text = obj.section(".text")
    text.reserve(4000)
    for number in range(1000):
        text.relocate(4 * number, "R_E2K_32_ABS", obj.symbol(f"u{number}", binding=Binding.GLOBAL))
    (files / "many.o").write_bytes(obj.to_bytes())
    lines = ld("many.o", cwd=files).stderr.splitlines()
    assert len(lines) == 51
    assert lines[-1] == "e2kemu-ld: and 950 more"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.o"], "e2kemu-ld: nothing.o: No such file or directory"),
        (["a.o", "-lnone"], "e2kemu-ld: -lnone: no libnone.a in any directory: name them with -L"),
        (["a.o", "-L.", "-lnone"], "e2kemu-ld: -lnone: no libnone.a in ."),
        (["foreign"], "e2kemu-ld: foreign: not a relocatable object: e_type is ET_EXEC"),
        (["text"], "e2kemu-ld: text: not an ELF file"),
        ([], "e2kemu-ld: no objects to link"),
        (["a.o", "b.o", "-o", "no/such/dir"], "e2kemu-ld: no/such/dir: No such file or directory"),
        (["a.o", "b.o", "-z", "now"], "e2kemu-ld: -z now: only max-page-size=POWER_OF_TWO is known"),
        (["b.o"], "e2kemu-ld: the entry '_start' is not defined: define it or name another with -e"),
        (["broken.a"], "e2kemu-ld: broken.a: broken archive member header at offset 0x8"),
        (
            ["b.o", "-e", "0x10000000000000000"],
            "e2kemu-ld: a.out: the entry 0x10000000000000000 is outside of the 64-bit address space",
        ),
    ],
)
def test_a_mistake_is_one_line(files: Path, arguments: list[str], message: str) -> None:
    (files / "foreign").write_bytes(foreign_program())
    (files / "text").write_text("int main;\n")
    (files / "broken.a").write_bytes(b"!<arch>\nrubbish")
    result = ld(*arguments, cwd=files)
    assert result.returncode == 1
    assert result.stderr == message + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-Ttext", "here"],
        ["--defsym", "x"],
        ["--section-start", ".text=-1"],
        ["--oformat", "srec"],
        ["--unknown"],
    ],
)
def test_a_wrong_option_is_explained_by_the_parser(files: Path, arguments: list[str]) -> None:
    result = ld("a.o", *arguments, cwd=files)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("e2kemu-ld: error: ")
