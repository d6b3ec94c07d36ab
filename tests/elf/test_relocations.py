"""Every relocation kind puts the right bits in the right place, or says why it cannot."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2kemu.elf.constants import RELOC_BY_NAME, RELOC_KINDS, Binding, SymbolType
from e2kemu.elf.linker import LinkError, LinkOptions, Program, link
from e2kemu.elf.relocations import NEEDS_GOT, NOT_STATIC, RelocationError, patch
from e2kemu.elf.writer import ObjectFile

TEXT, TDATA, GOT, DATA = 0x200000, 0x300000, 0x400000, 0x500000
PLACE = TEXT + 0x10
TP = TDATA - 32  # two pointers, rounded up to the alignment of the thread image
STARTS = {".text": TEXT, ".tdata": TDATA, ".data": DATA}
FILL = 0xA5A5A5A5


def one(
    kind: str,
    symbol: str = "var",
    addend: int = 0,
    *,
    bits: int = 64,
    weak: bool = False,
    old: int = FILL,
    at: int = 0x10,
) -> tuple[Program, bytes]:
    """Link a program with one relocation at 0x10 of .text; the program and the 16 bytes there."""
    obj = ObjectFile("v5", name="a.o", bits=bits)
    text = obj.section(".text", align=8)
    text.data += struct.pack("<64I", *[old] * 64)
    data = obj.section(".data", align=8)
    data.reserve(0x100)
    tdata = obj.section(".tdata", align=32)
    tdata.reserve(16)
    names = {
        "_start": obj.symbol("_start", text, binding=Binding.GLOBAL),
        "func": obj.symbol("func", text, 0x80, size=0x18, binding=Binding.GLOBAL, type=SymbolType.FUNC),
        "var": obj.symbol("var", data, 0x40, size=24, binding=Binding.GLOBAL, type=SymbolType.OBJECT),
        "tvar": obj.symbol("tvar", tdata, 8, size=4, binding=Binding.GLOBAL, type=SymbolType.TLS),
        "local": obj.symbol("local", data, 0x48),
        "missing": obj.symbol("missing", binding=Binding.WEAK if weak else Binding.GLOBAL),
    }
    text.relocate(at, kind, names[symbol], addend)
    starts = STARTS | ({".got": GOT} if RELOC_BY_NAME[kind].value in NEEDS_GOT else {})
    program = link([obj], LinkOptions(starts=starts))
    section = next(s for s in program.executable.sections if s.name == ".text")
    return program, bytes(section.data[at : at + 16])


def w32(value: int) -> bytes:
    return struct.pack("<4I", value & 0xFFFFFFFF, FILL, FILL, FILL)


def w64(value: int) -> bytes:
    return struct.pack("<Q", value & (1 << 64) - 1) + struct.pack("<2I", FILL, FILL)


def lit(value: int) -> bytes:
    value &= (1 << 64) - 1
    return struct.pack("<4I", value >> 32, value & 0xFFFFFFFF, FILL, FILL)


# kind: symbol, addend, the bytes at the place. Those that need a slot have the slot's contents too.
CASES: dict[str, tuple[str, int, bytes]] = {
    "R_E2K_32_ABS": ("var", 4, w32(DATA + 0x44)),
    "R_E2K_32_PC": ("func", -4, w32(TEXT + 0x7C - PLACE)),
    "R_E2K_32_JMP_SLOT": ("func", 0, w32(TEXT + 0x80)),
    "R_E2K_32_RELATIVE": ("var", 0x1234, w32(0x1234)),
    "R_E2K_32_SIZE": ("var", 1, w32(25)),
    "R_E2K_32_DYNOPT": ("var", 0, w32(DATA + 0x40)),
    "R_E2K_64_ABS": ("var", -0x10, w64(DATA + 0x30)),
    "R_E2K_64_ABS_LIT": ("var", 0x1_0000_0000, lit(0x1_0000_0000 + DATA + 0x40)),
    "R_E2K_64_PC_LIT": ("_start", 0, lit(-0x10)),
    "R_E2K_64_JMP_SLOT": ("func", 0, w64(TEXT + 0x80)),
    "R_E2K_64_RELATIVE": ("var", 0x1234, w64(0x1234)),
    "R_E2K_64_RELATIVE_LIT": ("var", 0x1234, lit(0x1234)),
    "R_E2K_64_SIZE": ("func", 0, w64(0x18)),
    "R_E2K_64_GOTOFF": ("var", 0, w64(DATA + 0x40 - GOT)),
    "R_E2K_64_GOTOFF_LIT": ("func", 0, lit(TEXT + 0x80 - GOT)),
    "R_E2K_GOTOFF": ("var", 0, w32(DATA + 0x40 - GOT)),
    "R_E2K_GOT": ("var", 0, w32(0)),
    "R_E2K_GOTPLT": ("func", 0, w32(0)),
    "R_E2K_TLS_GDMOD": ("tvar", 0, w32(0)),
    "R_E2K_TLS_GDREL": ("tvar", 0, w32(0)),
    "R_E2K_TLS_IE": ("tvar", 0, w32(0)),
    "R_E2K_32_TLS_LE": ("tvar", 0, w32(TDATA + 8 - TP)),
    "R_E2K_64_TLS_LE": ("tvar", 0, lit(TDATA + 8 - TP)),
    "R_E2K_TLS_32_DTPMOD": ("tvar", 0, w32(1)),
    "R_E2K_TLS_64_DTPMOD": ("tvar", 0, w64(1)),
    "R_E2K_TLS_32_DTPREL": ("tvar", 0, w32(8)),
    "R_E2K_TLS_64_DTPREL": ("tvar", 0, w64(8)),
    "R_E2K_TLS_TPOFF32": ("tvar", 0, w32(TDATA + 8 - TP)),
    "R_E2K_TLS_TPOFF64": ("tvar", 0, w64(TDATA + 8 - TP)),
    "R_E2K_DISP": ("func", 0x10, w32(FILL & 0xF0000000 | 0x80 >> 3)),
    "R_E2K_NONE": ("missing", 0, w32(FILL)),
    "R_E2K_ALIGN_RELAX": ("missing", 0, w32(FILL)),
    "R_E2K_MCSTBUG_140436_RELAX": ("missing", 0, w32(FILL)),
    "R_E2K_64_PC": ("var", 8, w64(DATA + 0x48 - PLACE)),
    "R_E2K_ISLOCAL": ("var", 0, w32(FILL & 0xFF00FFFF | 0xC1 << 16)),
    "R_E2K_ISLOCAL32": ("var", 0, w32(1)),
    "R_E2K_64_DYNOPT": ("local", 0, w64(DATA + 0x48)),
}
SLOTS = {
    "R_E2K_GOT": DATA + 0x40,
    "R_E2K_GOTPLT": TEXT + 0x80,
    "R_E2K_TLS_GDMOD": 1,
    "R_E2K_TLS_GDREL": 8,
    "R_E2K_TLS_IE": TDATA + 8 - TP,
}
REFUSED = sorted(k.name for k in RELOC_KINDS.values() if k.value in NOT_STATIC)


def test_every_kind_has_a_case_here() -> None:
    assert len(CASES) == 37
    assert len(REFUSED) == 8
    assert {*CASES, *REFUSED, "R_E2K_PREF"} == set(RELOC_BY_NAME)


@pytest.mark.parametrize("kind", CASES)
def test_a_relocation_writes_its_value_and_nothing_else(kind: str) -> None:
    symbol, addend, expected = CASES[kind]
    program, data = one(kind, symbol, addend)
    assert data == expected
    if kind in SLOTS:
        got = next(s for s in program.executable.sections if s.name == ".got")
        assert int.from_bytes(got.data, "little") == SLOTS[kind]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_needs_a_dynamic_loader_is_one_clear_line(kind: str) -> None:
    with pytest.raises(LinkError, match=rf"^a\.o: \.text\+0x10: {kind} against 'var': ") as caught:
        one(kind)
    assert str(caught.value).endswith(NOT_STATIC[RELOC_BY_NAME[kind].value])


@pytest.mark.parametrize(("offset_in_wide", "start"), [(0x8, 0x1F8), (0x10, 0x1F0), (0, 0x200)])
def test_a_prefetch_counts_lines_of_128_bytes_from_its_wide_instruction(
    offset_in_wide: int, start: int
) -> None:
    # CS0 lies at 0x200, its wide instruction at start: the line of that is where counting begins.
    obj = ObjectFile("v4", name="a.o")
    text = obj.section(".text", align=128)
    text.reserve(0x1000)
    text.data[0x200:0x204] = struct.pack("<I", 0x1000000F | offset_in_wide << 4)
    target = obj.symbol("target", text, 0x90C, binding=Binding.GLOBAL)
    text.relocate(0x200, "R_E2K_PREF", target)
    program = link([obj], LinkOptions(entry=0, starts={".text": TEXT}))
    (word,) = struct.unpack_from("<I", program.executable.sections[0].data, 0x200)
    assert word & ~0x0FFFFFF0 == 0x1000000F
    assert word >> 4 & 0xFFFFFF == (0x900 - (start & ~127)) // 128


def test_all_thread_local_symbols_share_the_slot_of_the_module() -> None:
    obj = ObjectFile("v4", name="a.o")
    text = obj.section(".text", align=8)
    text.reserve(64)
    tdata = obj.section(".tdata", align=8)
    tdata.reserve(16)
    for number in range(2):
        symbol = obj.symbol(f"t{number}", tdata, 8 * number, binding=Binding.GLOBAL, type=SymbolType.TLS)
        for place, kind in enumerate(("R_E2K_TLS_GDMOD", "R_E2K_TLS_GDREL", "R_E2K_TLS_IE")):
            text.relocate(16 * number + 4 * place, kind, symbol)
    program = link([obj], LinkOptions(entry=0))
    sections = {s.name: s for s in program.executable.sections}
    offsets = struct.unpack("<16I", sections[".text"].data)
    assert offsets[0] == offsets[4]
    slots = struct.unpack("<5Q", sections[".got"].data)
    assert [slots[o // 8] for o in offsets[:3]] == [1, 0, 16]
    assert [slots[o // 8] for o in offsets[4:7]] == [1, 8, 24]


@pytest.mark.parametrize(
    "kind",
    [
        "R_E2K_64_ABS",
        "R_E2K_64_ABS_LIT",
        "R_E2K_32_ABS",
        "R_E2K_ISLOCAL32",
        "R_E2K_64_DYNOPT",
        "R_E2K_32_TLS_LE",
        "R_E2K_64_SIZE",
    ],
)
def test_a_weak_symbol_that_nobody_defines_is_zero(kind: str) -> None:
    _, data = one(kind, "missing", weak=True)
    assert int.from_bytes(data[: RELOC_BY_NAME[kind].field.size], "little") == 0


def test_the_slot_of_a_weak_symbol_that_nobody_defines_is_zero() -> None:
    program, _ = one("R_E2K_GOT", "missing", weak=True)
    assert not any(next(s for s in program.executable.sections if s.name == ".got").data)


@pytest.mark.parametrize(
    ("kind", "symbol", "addend", "text"),
    [
        ("R_E2K_32_ABS", "var", 1 << 32, "does not fit 32 bits, signed or unsigned"),
        ("R_E2K_32_ABS", "var", -(1 << 40), "does not fit 32 bits, signed or unsigned"),
        ("R_E2K_32_PC", "var", 1 << 31, "does not fit 32 bits, signed"),
        ("R_E2K_32_SIZE", "var", -25, "the value -0x1 does not fit 32 bits, unsigned"),
        ("R_E2K_DISP", "func", 4, r"the distance 0x74 is not a multiple of 8 bytes"),
        ("R_E2K_DISP", "func", (1 << 30) + 0x10, "does not fit 28 bits, signed"),
        ("R_E2K_PREF", "func", 1 << 31, "does not fit 24 bits, signed"),
        ("R_E2K_32_TLS_LE", "var", 0, "it is not thread-local"),
        ("R_E2K_TLS_GDREL", "var", 0, "it is not thread-local"),
        ("R_E2K_64_ABS", "tvar", 0, "it is thread-local and has no address of its own"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line_with_the_place(
    kind: str, symbol: str, addend: int, text: str
) -> None:
    with pytest.raises(LinkError, match=rf"^a\.o: \.text\+0x10: {kind} against '{symbol}': .*{text}"):
        one(kind, symbol, addend)


@given(st.sampled_from(sorted(RELOC_KINDS)), st.integers(-(1 << 65), 1 << 65))
def test_a_patched_field_reads_back_or_the_value_is_refused(number: int, value: int) -> None:
    kind = RELOC_KINDS[number]
    if kind.field.size not in (4, 8):
        return
    data = bytearray(b"\xa5" * 16)
    try:
        patch(data, 4, kind, value)
    except RelocationError:
        width = {"disp[27:0]": 28, "pdisp[27:4]": 24, "src1[23:16]": 8}.get(
            kind.field.value[0], 8 * kind.field.size
        )
        assert not 0 <= value < 1 << width - 1
        return
    low, high = struct.unpack_from("<II", data, 4)
    read: Callable[[], int] = {
        "word32": lambda: low,
        "word64": lambda: high << 32 | low,
        "lit64": lambda: low << 32 | high,
        "disp[27:0]": lambda: low & 0xFFFFFFF,
        "pdisp[27:4]": lambda: low >> 4 & 0xFFFFFF,
        "src1[23:16]": lambda: low >> 16 & 0xFF,
    }[kind.field.value[0]]
    bits = {"disp[27:0]": 28, "pdisp[27:4]": 24, "src1[23:16]": 8}.get(
        kind.field.value[0], 8 * kind.field.size
    )
    assert (read() - value) % (1 << bits) == 0
    assert data[:4] == b"\xa5" * 4
    assert data[4 + kind.field.size :] == b"\xa5" * (12 - kind.field.size)
