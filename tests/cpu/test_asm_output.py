"""The files that the assembler writes: executables, objects, flat images."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from e2kemu.cpu.asm import Image, assemble
from e2kemu.cpu.asm_elf import assemble_object, executable
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.elf.constants import RELOC_KINDS
from tests.framework import forked

PROGRAM = """
    .global _start
    .type _start, #function
    .text
    nop
_start:
    addd 0, value, %r0
    addd 0, buffer, %r1
    ibranch _start
    .size _start, . - _start
    .data
value: .quad 0x1234
    .bss
    .align 16
buffer: .skip 0x2000
"""


def run(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return forked.run(
        [sys.executable, "-m", "e2kemu.cpu.asm_cli", *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_writes_a_static_executable(tmp_path: Path) -> None:
    source, output = tmp_path / "p.s", tmp_path / "p"
    source.write_text(PROGRAM)
    done = run("-cpu", "e8c", source, "-o", output, "--base", "0x01000000")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with open(output, "rb") as stream:
        elf = ELFFile(stream)
        assert (elf["e_machine"], elf["e_type"], elf["e_flags"] >> 24) == ("EM_MCST_ELBRUS", "ET_EXEC", 19)
        symbols = {s.name: s for s in elf.get_section_by_name(".symtab").iter_symbols()}
        assert elf["e_entry"] == symbols["_start"]["st_value"]
        assert symbols["_start"]["st_info"] == {"bind": "STB_GLOBAL", "type": "STT_FUNC"}
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        text = elf.get_section_by_name(".text")
        data, bss = elf.get_section_by_name(".data"), elf.get_section_by_name(".bss")
        assert text["sh_addr"] == 0x01000000
        assert data["sh_addr"] // 4096 > text["sh_addr"] // 4096
        assert symbols["value"]["st_value"] == data["sh_addr"]
        assert (symbols["buffer"]["st_value"], bss["sh_size"]) == (bss["sh_addr"], 0x2000)
        for section in (text, data):
            (segment,) = (s for s in loads if s["p_vaddr"] <= section["sh_addr"] < s["p_vaddr"] + s["p_filesz"])
            offset = section["sh_addr"] - segment["p_vaddr"]
            assert segment.data()[offset : offset + section["sh_size"]] == section.data()
            assert segment["p_offset"] % 4096 == segment["p_vaddr"] % 4096
        assert any(s["p_vaddr"] + s["p_memsz"] >= bss["sh_addr"] + 0x2000 for s in loads)


def test_an_object_names_what_it_does_not_know(tmp_path: Path) -> None:
    source = """
        .global start, shared
        .text
    start:
        addd 0, other + 8, %r0
        disp %ctpr1, far
        ibranch start
        ibranch 1f
    1:  addd 0, shared, %r1
        .data
    shared: .quad other, far - 8, shared
        .word later
    later = 5
    """
    path = tmp_path / "o"
    path.write_bytes(assemble_object(source, cpu="e8c").to_bytes())
    with open(path, "rb") as stream:
        elf = ELFFile(stream)
        assert (elf["e_type"], elf["e_flags"] >> 24) == ("ET_REL", 19)
        table = elf.get_section_by_name(".symtab")

        def relocations(name: str) -> list[tuple[int, str, str, int]]:
            found = []
            for r in elf.get_section_by_name(name).iter_relocations():
                symbol = table.get_symbol(r["r_info_sym"])
                section = elf.get_section(symbol["st_shndx"]).name if symbol["st_shndx"] != "SHN_UNDEF" else ""
                kind = RELOC_KINDS[r["r_info_type"]].name.removeprefix("R_E2K_")
                found.append((r["r_offset"], kind, symbol.name or section, r["r_addend"]))
            return found

        assert relocations(".rela.text") == [
            (8, "64_ABS_LIT", "other", 8),
            (20, "DISP", "far", 4),
            (64, "64_ABS_LIT", ".data", 0),
        ]
        assert relocations(".rela.data") == [
            (0, "64_ABS", "other", 0),
            (8, "64_ABS", "far", -8),
            (16, "64_ABS", ".data", 0),
        ]
        assert elf.get_section_by_name(".data").data()[24:] == (5).to_bytes(4, "little")


def test_objects_link_to_what_one_source_gives() -> None:
    first = ".global _start\n.text\n_start: disp %ctpr1, far\naddd 0, far, %r0\n.quad far\n"
    second = ".text\nfar: ibranch far\n"
    together = executable([assemble_object(first + second)])
    apart = executable([assemble_object(first), assemble_object(".global far\n" + second)])

    def code(data: bytes) -> bytes:
        found: bytes = ELFFile(io.BytesIO(data)).get_section_by_name(".text").data()
        return found

    assert code(together) == code(apart)


def test_what_no_relocation_can_say_is_refused() -> None:
    with pytest.raises(AsmError, match="no relocation has 2 bytes"):
        assemble_object(".data\n.short outside\n")
    with pytest.raises(AsmError, match="no relocation can say that"):
        assemble_object(".data\n.quad here - outside\nhere:\n")


def test_the_command_writes_a_flat_image(tmp_path: Path) -> None:
    output = tmp_path / "image"
    done = run("-cpu", "v3", "--raw", "--base", "0x100", "-D", "N=5", "-", "-o", output, text="nop N\na: .quad a\n")
    assert (done.returncode, done.stderr) == (0, "")
    image: Image = assemble("nop 5\na: .quad a\n", version=3, base=0x100)
    assert output.read_bytes() == image.data
    assert image.data[8:] == (0x108).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (["-"], "addd,6 0\n", "<stdin>:1:6: error: addd cannot issue in channel 6\n    addd,6 0\n         ^\n"),
        (["-cpu", "z80", "-"], "", "e2kemu-as: unknown CPU 'z80': known are v1, "),
        (["/nonexistent/x.s"], "", "e2kemu-as: [Errno 2] No such file or directory: '/nonexistent/x.s'\n"),
    ],
)  # fmt: skip
def test_the_command_ends_with_status_1_and_the_reason(
    tmp_path: Path, arguments: list[str], text: str, message: str
) -> None:
    done = run(*arguments, "-o", tmp_path / "out", text=text)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert not (tmp_path / "out").exists()
