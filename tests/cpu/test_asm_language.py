"""The assembler's language around operations: labels, sections, data, expressions, macros, the preprocessor."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.asm import assemble, assemble_file
from e2kemu.cpu.decode import decode


def quads(text: str) -> list[int]:
    data = assemble(text).data
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


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
