"""What the assembler says of mistakes, and that it never says anything else."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.asm_elf import assemble_object
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.errors import E2kError
from tests.cpu.vectors import lines

FIRMWARE = Path(__file__).parents[2] / "firmware"


def complaint(text: str, version: int = 4) -> str:
    with pytest.raises(AsmError) as caught:
        assemble(text, version=version, filename="x.s")
    return str(caught.value)


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
