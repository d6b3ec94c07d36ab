"""The assembler: golden vectors of the vendor's one, its own language, diagnostics, output files."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.asm import Image, assemble, assemble_file
from e2kemu.cpu.asm_elf import assemble_object, executable
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.cpu.decode import decode
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.isa import mmuregs
from e2kemu.elf.constants import RELOC_KINDS
from e2kemu.errors import E2kError
from tests.cpu.vectors import disassembled, lines, words_to_bytes

FIRMWARE = Path(__file__).parents[2] / "firmware"


def words(text: str, version: int = 4) -> str:
    """The assembled words, in hexadecimal."""
    data = assemble(text, version=version).data
    return " ".join(f"{int.from_bytes(data[i : i + 4], 'little'):08x}" for i in range(0, len(data), 4))


def quads(text: str) -> list[int]:
    data = assemble(text).data
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


def complaint(text: str, version: int = 4) -> str:
    with pytest.raises(AsmError) as caught:
        assemble(text, version=version, filename="x.s")
    return str(caught.value)


# --- against the vendor's assembler ----------------------------------------------------------------


def test_every_text_that_the_vendors_assembler_takes_gives_its_words() -> None:
    count = 0
    for vector in disassembled():
        if vector["asm"] not in ("same", "differs"):
            continue
        text = ".ignore ld_st_style\n{\n" + "\n".join(vector["text"]) + "\n}\n"
        expected = words_to_bytes(vector.get("asm_words", vector["words"]))
        assert assemble(text, version=vector["iset"]).data == expected, vector
        count += 1
    assert count >= 16015


def test_every_source_line_gives_the_words_of_the_vendors_assembler() -> None:
    count = 0
    for vector in lines("asm_vectors.jsonl"):
        style = ".ignore ld_st_style\n" if vector["lcc_store_style"] else ""
        data = assemble(style + "\n".join(vector["src"]), version=vector["iset"]).data
        assert data == words_to_bytes(vector["words"]), vector
        count += 1
    assert count >= 748


def test_sources_of_instruction_set_v7_give_the_vendors_words() -> None:
    count = 0
    for vector in disassembled():
        if source := vector.get("source"):
            data = assemble(f".ignore ld_st_style\n{{\n{source}\n}}\n", version=7).data
            assert data == vector["data"], vector
            count += 1
    assert count >= 1558


def test_text_of_a_program_reads_back_as_the_same_program() -> None:
    image = assemble_file(FIRMWARE / "boot.s", version=3, base=0x1_0000_0000)
    at = count = 0
    text = next(section for section in image.sections if section.name == ".text")
    while at < text.size:
        wide = decode(image.data, 3, 0, at)
        printed = disassemble(wide)
        again = assemble(".ignore ld_st_style\n{\n" + "\n".join(printed) + "\n}\n", version=3).data
        if wide.cs0 is None:  # a printed displacement is a target, a number in the source is the field
            assert disassemble(decode(again, 3)) == printed
            # literals have the order of the source, which printing turns into that of the channels
            assert len(again) == wide.size
            count += again == image.data[at : at + wide.size]
        at += wide.size
    assert count >= 400


def test_programs_assembled_and_linked_equal_those_of_the_vendors_tools() -> None:
    count = 0
    for program in lines("programs.jsonl"):
        data = executable([assemble_object(program["source"], cpu=program["cpu"], filename=program["name"])])
        elf = ELFFile(io.BytesIO(data))
        for name, expected in program["sections"].items():
            assert elf.get_section_by_name(name).data().hex() == expected, f"{program['name']} {name}"
        count += 1
    assert count >= 12


# --- channels, literals, nops ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("addd %r0,%r0,%r1; addd %r0,%r0,%r2; std %r0,[%r1]", "0 1 2"),
        ("addd %r0,%r0,%r1; addd %r0,%r0,%r2; addd %r0,%r0,%r3; std %r0,[%r1]", "0 1 2 5"),
        ("std %r0,[%r1]; std %r0,[%r2]; addd %r0,%r0,%r1; addd %r0,%r0,%r2", "0 1 2 5"),
        ("sdivd %r0,%r1,%r2; addd %r0,%r0,%r3", "0 5"),
        ("addd,0 %r0,%r0,%r1; ldd [%r0],%r2; ldd [%r0+8],%r3", "0 2 3"),
        ("ldd [%r0],%r2; std %r3,[%r0]", "0 2"),
        ("shl_addd %r0,1,%r1,%r2; shl_addd %r0,1,%r1,%r3; addd %r0,%r0,%r4", "0 1 4"),
    ],
)
def test_channels_are_found(text: str, channels: str) -> None:
    wide = decode(assemble("{" + text + "}").data, 4)
    assert " ".join(str(insn.channel) for insn in wide.alu) == channels


def test_a_load_and_a_store_that_exclude_each_other_are_not_put_together() -> None:
    wide = decode(assemble("{ ldd [%r0],%r2; ldd [%r0+8],%r3; std %r4,[%r0] }").data, 4)
    loads = {insn.channel for insn in wide.alu if insn.op.load}
    (store,) = (insn.channel for insn in wide.alu if insn.op.store)
    assert (0 in loads, store) != (True, 5)
    assert (3 in loads, store) != (True, 2)


def test_a_symbol_is_a_64_bit_literal_with_swapped_halves() -> None:
    data = assemble("addd 0, target, %r1\n.equ target, 0x1122334455667788").data
    assert data[-8:] == bytes.fromhex("44332211 88776655")


def test_implicit_nops_come_only_outside_braces_and_can_be_turned_off() -> None:
    outside = assemble("cmpedb %r0, 0, %pred0").data
    assert decode(outside, 4).nop == 2
    assert decode(assemble("{ cmpedb %r0, 0, %pred0 }").data, 4).nop == 0
    assert decode(assemble("cmpedb %r0, 0, %pred0", strict_delay=False).data, 4).nop == 0


def test_stores_take_the_value_first_or_last() -> None:
    first = words("std %dr1, [ %dr2 + 8 ]")
    assert words("std %dr1, %dr2, 8") == first
    assert words(".ignore ld_st_style\nstd %dr2, 8, %dr1") == first


def test_mmu_registers_are_loads_and_stores() -> None:
    assert words("mmurw %dr1, %mmu_cr", 4) == words("std,2 %dr1, 0, 0, mas=0x47", 4)
    assert len(mmuregs.MMU_REGISTERS) >= 165
    for register in mmuregs.MMU_REGISTERS:
        if register.since <= 4:
            (insn,) = decode(assemble(f"mmurr %{register.name}, %dr1").data, 4).alu
            assert (insn.op.name, insn.mas) == ("ldd", register.mas)


# --- the language around operations ------------------------------------------------------------------


def test_labels_and_branches() -> None:
    image = assemble("""
        .text
        disp %ctpr1, 1f
    back:
        ibranch back
    1:  ibranch 1b
        ibranch forward
    forward:
        .quad forward - back, 1b, . - back
    """, base=0x1000)  # fmt: skip
    distances = []
    at = 0
    for _ in range(4):
        wide = decode(image.data, 4, 0x1000 + at, at)
        assert wide.cs0 is not None
        distances.append(wide.cs0.disp)
        at += wide.size
    assert distances == [24, 0, 0, 16]
    data = [int.from_bytes(image.data[i : i + 8], "little") for i in range(at, len(image.data), 8)]
    assert data == [48, 0x1018, 64]
    assert image.symbols == {"back": 0x1008, "forward": 0x1038}


def test_sections_follow_each_other_and_bss_has_no_bytes() -> None:
    image = assemble("""
        .bss
        .align 64
    zeros: .skip 100
        .data
    data: .quad zeros
        .text
        nop
        .section .rodata
    text: .asciz "ab"
        .section ".note", "", @progbits
        .quad 1
    """, base=0x100)  # fmt: skip
    assert [(s.name, s.address, s.size) for s in image.sections] == [
        (".text", 0x100, 8), (".rodata", 0x108, 3), (".data", 0x10B, 8), (".bss", 0x140, 100)]  # fmt: skip
    assert image.data[0xB:] == (0x140).to_bytes(8, "little")


def test_data_directives() -> None:
    data = assemble(
        r"""
        .byte 1, -1, 'a', 0x80
        .short 0x1234
        .word 0x12345678
        .quad 0x123456789abcdef0
        .ascii "x\n\x41\101\"" "y"
        .string "z"
        .skip 3, 7
        .fill 2, 2, 0x55aa
        .align 16
        .octa 1
    """.replace('" "y"', '", "y"')
    ).data
    assert data == bytes.fromhex(
        "01ff6180 3412 78563412 f0debc9a78563412 780a414122 79 7a00 070707 aa55aa55".replace(" ", "")
    ) + bytes(15) + (1).to_bytes(16, "little")


def test_expressions_follow_c() -> None:
    text = ".quad 2+3*4, (2+3)*4, 1<<4|3, 7&~2, -(-7/2), 7%4, 10>5, 3==3&&2<1, !0, 0b101, 'A', 017"
    assert quads(text) == [14, 20, 19, 5, 3, 3, 1, 0, 1, 5, 65, 15]


trees = st.recursive(
    st.integers(0, 1 << 40).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "&", "|", "^"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        st.tuples(st.sampled_from(["-", "~"]), inner).map(lambda t: f"{t[0]}{t[1]}"),
    ),
    max_leaves=8,
)


@given(trees)
@settings(max_examples=200, deadline=None)
def test_expressions_agree_with_python(text: str) -> None:
    assert quads(f".equ x, {text}\n.quad x & 0xffffffffffffffff") == [eval(text) & (1 << 64) - 1]


def test_equ_set_and_assignment() -> None:
    text = ".equ a, 5\n.set b, a + 1\nc = b * 2\n.quad a, b, c, later\n.set b, 9\n.quad b\n.equ later, 77"
    assert quads(text) == [5, 6, 12, 77, 9]


def test_macros_repetitions_and_conditions() -> None:
    text = """
        .macro pair a, b=7
        .quad \\a, \\b
        .endm
        pair 1
        pair 2, 3
        pair b=5, a=4
        .rept 2
        .quad 9
        .endr
        .irp n, 10, 11
        .quad \\n
        .endr
        .macro many first, rest
        .quad \\first
        .ifnb \\rest
        many \\rest
        .endif
        .endm
        many 20
        .if 2 > 1
        .quad 30
        .ifdef nothing
        .quad 31
        .else
        .quad 32
        .endif
        .elseif 1
        .quad 33
        .else
        .quad 34
        .endif
        .macro unique
    .Lhere\\@: .quad .Lhere\\@ - .Lhere\\@
        .endm
        unique
        unique
    """
    assert quads(text) == [1, 7, 2, 3, 4, 5, 9, 9, 10, 11, 20, 30, 32, 0, 0]


def test_the_preprocessor(tmp_path: Path) -> None:
    (tmp_path / "inc.h").write_text("#ifndef INC\n#define INC\n#define VALUE 40\n#endif\n")
    (tmp_path / "blob").write_bytes(b"\1\2\3\4\5\6\7\10")
    main = tmp_path / "main.S"
    main.write_text("""
#include "inc.h"
#include "inc.h"
#define ADD(a, b) ((a) + (b))
#define TWO_LINES .quad 1 \\
    , 2
        .quad VALUE, ADD(VALUE, 2)   // comment
        .quad /* inside */ 3         /* over
        lines */
! a comment line
        TWO_LINES
#if defined(VALUE) && VALUE > 30
        .quad 4
#elif 1
        .quad 5
#else
        .quad 6
#endif
#undef VALUE
#ifdef VALUE
        .quad 7
#endif
        .incbin "blob"
    """)
    data = assemble_file(main).data
    assert [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)] == [
        40, 42, 3, 1, 2, 4, 0x0807060504030201]  # fmt: skip
    assert quads("#define N 3\n.quad N, __iset__") == [3, 4]


def test_the_preprocessor_pastes_quotes_and_takes_any_number_of_arguments() -> None:
    text = """
#define ONE 1
#define JOIN(a, b) a ## b
#define TEXT(x) .ascii #x
#define MANY(first, ...) .quad first, __VA_ARGS__
        MANY(5, JOIN(ON, E), __LINE__)
        TEXT(say "b" ONE)
    """
    data = assemble(text).data
    assert [int.from_bytes(data[i : i + 8], "little") for i in range(0, 24, 8)] == [5, 1, 6]
    assert data[24:] == b'say "b" ONE'
    assert assemble("#define R(n) %r ## n\naddd 0, 1, R(7)").data == assemble("addd 0, 1, %r7").data


# --- diagnostics -----------------------------------------------------------------------------------

WRONG = [
    ("addd,6 %r0, %r1, %r2", "x.s:1:6: error: addd cannot issue in channel 6"),
    ("addd,23 %r0, %r1, %r2", "x.s:1:6: error: addd cannot issue in channel 23"),
    ("nop\na = nowhere % 2", "x.s:2:1: error: '%' cannot join nowhere and a number"),
    ("    sdivd,0 %r0, %r1, %r2", "x.s:1:11: error: sdivd cannot issue in channel 0"),
    ("ldq [%r0], %r2", "x.s:1:1: error: ldq needs instruction set v5, this is v4"),
    ("addd %r0, 1, %r1 ? %pred40", "x.s:1:20: error: predicate %pred40 does not exist"),
    ("addd %r0, 1, %r64", "x.s:1:14: error: register %r64 does not exist"),
    ("frobd %r0, 1, %r1", "x.s:1:1: error: unknown instruction frobd"),
    (".frob", "x.s:1:1: error: unknown directive .frob"),
    ("addd 32, %r1, %r2", "the first operand 32 is not in 0..31"),
    ("adds %r0, 0x100000000, %r1", "0x100000000 does not fit in 32 bits"),
    ("addd %r0, %r1", "x.s:1:14: error: expected ',', found the end of the statement"),
    ("addd %r0, 1, %r1, mas=3", "addd takes no mas"),
    ("{ addd %r0, 1, %r1", "'{' without '}'"),
    ("}", "'}' without '{'"),
    ("{ addd,0 %r0,1,%r1; addd,0 %r0,1,%r2 }", "addd: channel 0 is taken"),
    ("{ sdivd %r0,%r1,%r2; sdivd %r0,%r1,%r3 }", "sdivd: no channel is left for it"),
    ("{ disp %ctpr1, a; disp %ctpr2, a }\na:", "disp is in this wide instruction already"),
    ("{ ct %ctpr1; ibranch 8 }", "only one control transfer in a wide instruction"),
    ("ldisp %ctpr1, 8", "expected %ctpr2"),
    ("ibranch nowhere", "symbol nowhere is not defined"),
    ("ibranch 1f", "symbol 1f is not defined"),
    ("ibranch 1b", "there is no label 1: before this"),
    ("a:\na:", "x.s:2:1: error: symbol a is defined already"),
    (".byte 256", "0x100 does not fit in 8 bits"),
    (".quad 1/0", "division by zero"),
    ("a = b\nb = a\n.quad a", "is defined by itself"),
    (".if 1", ".if without .endif"),
    (".rept 3\n.quad 1", ".rept without .endr"),
    (".endm", ".endm without its beginning"),
    ('.ascii "abc', "unterminated string"),
    ("#if 1", "#if without #endif"),
    ("#include <none.h>", "cannot find file none.h"),
    ("/* no end", "unterminated comment"),
    (".macro m\nm\n.endm\nm", "nested more than"),
    (".org 8\n.org 0", ".org cannot go back"),
    (".skip 0x40000001", "the size 1073741825 is not in"),
    (".bss\n.quad 1", "section .bss holds no bytes"),
    (".byte 1\nnop", "use .align 8"),
    ("wait sal=1", "wait sal needs instruction set v5, this is v4"),
    ("rrd %cu_hw1, %r0", "state register %cu_hw1 needs instruction set v5, this is v4"),
    ("merged %r0, %r1, %r2, %pred0, %r4", "expected a predicate, found '%r4'"),
    ("pass @p7, %pred0", "expected @p4..@p6"),
    ("setwd wsz=200, nfx=1", "wsz 200 is not in 0..127"),
    ("addd %r0, §, %r1", "x.s:1:11: error: unexpected character '§'"),
    ("movaw,4 area=0, ind=0, am=0, be=0, %r0", "movaw needs an array channel 0..3"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG, ids=[text[:30] for text, _ in WRONG])
def test_a_mistake_is_named_with_its_place(text: str, reason: str) -> None:
    assert reason in complaint(text)
    assert len(WRONG) >= 40


def test_all_mistakes_are_shown_with_line_and_caret() -> None:
    with pytest.raises(AsmError) as caught:
        assemble("nop 1\n\taddd,6 %r0, %r1, %r2\n{\n subd %r0, %pred1, %r2\n}\n", filename="x.s")
    assert caught.value.render() == (
        "x.s:2:7: error: addd cannot issue in channel 6\n"
        "    \taddd,6 %r0, %r1, %r2\n"
        "    \t     ^\n"
        "x.s:4:12: error: second operand: %pred1 is no general register\n"
        "     subd %r0, %pred1, %r2\n"
        "               ^"
    )


VOCABULARY = """
    addd std ldd,0 ct call disp %ctpr1 %dr1 %b[3] [ ] { } , ; : ? ~%pred1 %pcnt2 mas = 0x10 7 -5 label
    .if .endif .rept .endr .macro .endm \\x #define #if #endif ( ) + - * / % ' " // /* */ @p4 pass landp
    _f32s _f64,_lts2 setwd wsz=8 nop .quad .align .org .skip .fill .section .equ .set . 1f 1b 1: x:
    wait st_c=1 incr,2 staad,2 fapb movad,1 %aad1 %lsr rwd
"""
WORDS = st.sampled_from(VOCABULARY.split())


@given(st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=6).map("\n".join), st.integers(1, 7))
@settings(max_examples=500, deadline=None)
def test_any_words_assemble_or_give_a_diagnostic(text: str, version: int) -> None:
    try:
        assemble(text, version=version)
    except E2kError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_damaged_sources_assemble_or_give_a_diagnostic() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choose = random.Random(seed)
    texts = [path.read_text() for path in sorted(FIRMWARE.rglob("*.[si]*")) if path.is_file()]
    pieces = [line for text in texts for line in text.splitlines() if line.strip()]
    pieces += [line for vector in lines("asm_vectors.jsonl") for line in vector["src"]]
    words = [word for piece in pieces for word in re.findall(r"\w+|[^\w\s]|\s+", piece)]
    refused = 0
    for _ in range(3000):
        text = "\n".join(choose.choices(pieces, k=choose.randint(1, 6)))
        if choose.random() < 0.5:
            text = "{\n" + text + "\n}\n"
        for _ in range(choose.randint(0, 4)):
            at = choose.randrange(len(text) + 1)
            text = text[:at] + choose.choice(words) + text[at + choose.randint(0, 6) :]
        try:
            choose.choice((assemble, assemble_object))(text)
        except E2kError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert 1000 < refused < 2950


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_assembles_or_gives_a_diagnostic(text: str) -> None:
    try:
        assemble(text)
    except E2kError as error:
        assert "error: " in str(error)  # noqa: PT017


# --- output files ----------------------------------------------------------------------------------

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
    return subprocess.run(
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
