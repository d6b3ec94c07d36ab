"""What the writer writes, pyelftools and our reader read."""

from __future__ import annotations

import pytest
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2kemu.elf.constants import (
    RELOC_KINDS,
    Binding,
    SectionFlag,
    SectionType,
    Special,
    SymbolType,
    Visibility,
)
from e2kemu.elf.executable import Executable
from e2kemu.elf.model import CODE, DATA, Relocation, Section, Symbol
from e2kemu.elf.reader import read_object
from e2kemu.elf.writer import ObjectFile
from e2kemu.errors import ImageError

from .objects import elf, foreign_program

NAME = st.text("abcXYZ_.$019é", min_size=1, max_size=8)


@st.composite
def objects(draw: st.DrawFn) -> ObjectFile:
    """Objects with sections, symbols of all sorts and relocations between them."""
    bits = draw(st.sampled_from([64, 64, 32]))
    obj = ObjectFile(draw(st.sampled_from(["v1", "v4", "e8c", "e8c2", "v7"])), bits=bits, name="x.o")
    for number in range(draw(st.integers(0, 4))):
        zeros = draw(st.booleans())
        section = obj.section(
            f".s{number}",
            draw(st.sampled_from([CODE, DATA, SectionFlag.ALLOC])),
            1 << draw(st.integers(0, 12)),
            type=SectionType.NOBITS if zeros else SectionType.PROGBITS,
        )
        if zeros:
            section.reserve(draw(st.integers(0, 1 << 20)))
        else:
            section.append(draw(st.binary(max_size=64)))
    places = [*obj.sections, *Special]
    for name in draw(st.lists(NAME, max_size=6, unique=True)):
        place = draw(st.sampled_from(places))
        common = place is Special.COMMON
        obj.symbol(
            name,
            place,
            1 << draw(st.integers(0, 6)) if common else draw(st.integers(0, 1 << 31)),
            size=draw(st.integers(0, 1 << 31)),
            binding=Binding.GLOBAL if common else draw(st.sampled_from(Binding)),
            type=draw(
                st.sampled_from([SymbolType.NOTYPE, SymbolType.OBJECT, SymbolType.FUNC, SymbolType.TLS])
            ),
            visibility=draw(st.sampled_from(Visibility)),
        )
    for section in obj.sections:
        kinds = [
            k for k in RELOC_KINDS.values() if k.field.size <= section.size and (bits == 64 or k.number < 256)
        ]
        if section.type == SectionType.NOBITS or not kinds or not obj.symbols:
            continue
        for _ in range(draw(st.integers(0, 4))):
            kind = draw(st.sampled_from(kinds))
            section.relocate(
                draw(st.integers(0, section.size - kind.field.size)),
                kind,
                draw(st.sampled_from([*obj.symbols, section.symbol])),
                draw(st.integers(-(1 << 31), (1 << 31) - 1)),
            )
    return obj


def symbol_facts(symbol: Symbol) -> tuple[object, ...]:
    where = symbol.section.name if isinstance(symbol.section, Section) else symbol.section
    return (symbol.name, where, symbol.value, symbol.size, symbol.binding, symbol.type, symbol.visibility)


def relocation_facts(r: Relocation) -> tuple[object, ...]:
    return r.offset, r.kind, symbol_facts(r.symbol), r.addend


def facts(obj: ObjectFile) -> tuple[object, ...]:
    sections = [
        (
            s.name,
            s.flags,
            s.align,
            s.type,
            s.size,
            bytes(s.data),
            s.group,
            [relocation_facts(r) for r in s.relocations],
        )
        for s in obj.sections
    ]
    return obj.bits, obj.e_flags, sections, sorted(map(repr, map(symbol_facts, obj.symbols)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(objects())
def test_an_object_reads_back_as_it_was(obj: ObjectFile) -> None:
    data = obj.to_bytes()
    again = read_object(data, "x.o")
    assert facts(again) == facts(obj)
    assert again.to_bytes() == data


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(objects())
def test_pyelftools_reads_the_same_sections_symbols_and_relocations(obj: ObjectFile) -> None:
    file = elf(obj.to_bytes())
    assert file.elfclass == obj.bits
    assert file.header["e_type"] == "ET_REL"
    assert file.header["e_flags"] == obj.e_flags
    sections = list(file.iter_sections())
    for section in obj.sections:
        theirs = file.get_section_by_name(section.name)
        assert theirs is not None
        assert theirs["sh_flags"] == section.flags
        assert theirs["sh_addralign"] == section.align
        assert theirs.data_size == section.size
        if section.type != SectionType.NOBITS:
            assert theirs.data() == section.data
    table = file.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    symbols = list(table.iter_symbols())
    assert {s.name for s in obj.symbols} <= {s.name for s in symbols}
    # sh_info: everything before it is local, everything from it on is not.
    assert all((s["st_info"]["bind"] == "STB_LOCAL") == (i < table["sh_info"]) for i, s in enumerate(symbols))
    found = 0
    for section in sections:
        if isinstance(section, RelocationSection):
            ours = next(s for s in obj.sections if s.name == sections[section["sh_info"]].name)
            found += section.num_relocations()
            assert [
                (r["r_offset"], r["r_info_type"], r["r_addend"], symbols[r["r_info_sym"]].name)
                for r in section.iter_relocations()
            ] == [(r.offset, r.kind.number, r.addend, r.symbol.name) for r in ours.relocations]
    assert found == sum(len(s.relocations) for s in obj.sections)


def test_a_section_group_reads_back() -> None:
    obj = ObjectFile(name="x.o")
    section = obj.section(".text.f", align=8)
    section.append(bytes(8))
    section.group = "f"
    obj.symbol("f", section, binding=Binding.WEAK)
    assert read_object(obj.to_bytes(), "x.o").sections[0].group == "f"
    assert elf(obj.to_bytes()).get_section_by_name(".group") is not None


def test_a_foreign_executable_rewritten_has_the_same_segments() -> None:
    theirs = elf(foreign_program())
    ours = Executable("e8c", entry=theirs.header["e_entry"], map_headers=True)
    for section in theirs.iter_sections():
        if section["sh_flags"] & SectionFlag.ALLOC:
            copy = ours.section(section.name, section["sh_flags"], section["sh_addralign"])
            copy.address = section["sh_addr"]
            copy.append(section.data())
    again = elf(ours.to_bytes())
    assert again.header["e_flags"] == theirs.header["e_flags"]
    assert again.header["e_entry"] == theirs.header["e_entry"]
    assert [dict(s.header) for s in again.iter_segments()] == [dict(s.header) for s in theirs.iter_segments()]
    assert [s.data() for s in again.iter_segments()][1] == [s.data() for s in theirs.iter_segments()][1]


def test_well_known_sections_get_their_flags_from_their_names() -> None:
    obj = ObjectFile()
    flags = {
        name: obj.section(name)
        for name in (".text", ".rodata", ".data", ".bss", ".tbss", ".text.hot", ".comment")
    }
    assert flags[".text"].flags == flags[".text.hot"].flags == CODE
    assert flags[".rodata"].flags == SectionFlag.ALLOC
    assert flags[".data"].flags == DATA
    assert flags[".bss"].type == flags[".tbss"].type == SectionType.NOBITS
    assert flags[".tbss"].flags == DATA | SectionFlag.TLS
    assert flags[".comment"].flags == 0
    assert obj.section(".text") is flags[".text"]
    with pytest.raises(ImageError, match=r"section \.text has flags 0x6, not 0x3"):
        obj.section(".text", DATA)


def test_an_object_that_cannot_be_written_says_why() -> None:
    def fresh() -> tuple[ObjectFile, Section]:
        obj = ObjectFile(name="x.o")
        text = obj.section(".text", align=8)
        text.append(bytes(8))
        return obj, text

    obj, text = fresh()
    text.relocate(6, "R_E2K_32_ABS", obj.symbol("f", binding=Binding.GLOBAL))
    with pytest.raises(ImageError, match=r"x\.o: \.text\+0x6: R_E2K_32_ABS lies outside of the section"):
        obj.to_bytes()
    obj, text = fresh()
    text.relocate(0, "R_E2K_32_ABS", Symbol("stranger"))
    with pytest.raises(ImageError, match=r"refers to the symbol 'stranger' of another file"):
        obj.to_bytes()
    obj, text = fresh()
    obj.symbol("f", text, binding=Binding.GLOBAL)
    obj.symbol("f", binding=Binding.GLOBAL)
    with pytest.raises(ImageError, match=r"x\.o: symbol 'f' is there twice"):
        obj.to_bytes()
    obj, text = fresh()
    text.align = 12
    with pytest.raises(ImageError, match=r"alignment 12 is not a power of two"):
        obj.to_bytes()
    obj = ObjectFile(bits=32, name="y.o")
    obj.section(".data").append(bytes(8))
    obj.sections[0].relocate(0, "R_E2K_64_GOTOFF_LIT", obj.symbol("f", binding=Binding.GLOBAL))
    with pytest.raises(ImageError, match=r"ELFCLASS32 has no room for kind 256"):
        obj.to_bytes()
    obj.sections[0].relocations[0].kind = RELOC_KINDS[0]
    obj.sections[0].relocations[0].addend = 1 << 40
    with pytest.raises(ImageError, match=r"addend 0x10000000000 does not fit ELFCLASS32"):
        obj.to_bytes()
    with pytest.raises(ImageError, match=r"section \.bss has no contents"):
        obj.section(".bss").append(b"x")
    with pytest.raises(KeyError):
        text.relocate(0, "R_E2K_NO_SUCH", obj.symbols[0])


def test_an_executable_whose_sections_overlap_is_refused() -> None:
    program = Executable(name="p")
    for name, address in ((".text", 0x1000), (".data", 0x1004)):
        section = program.section(name)
        section.address = address
        section.append(bytes(8))
    with pytest.raises(ImageError, match=r"p: section \.data at 0x1004 overlaps \.text \(0x1000\.\.0x1007\)"):
        program.to_bytes()
    with pytest.raises(ImageError, match="overlaps"):
        program.flat()
    program.sections[1].address = (1 << 64) - 4
    with pytest.raises(ImageError, match=r"leaves the 64-bit address space"):
        program.to_bytes()
    program.sections.pop()
    program.entry = 1 << 64
    with pytest.raises(ImageError, match=r"the entry 0x1.* is outside"):
        program.to_bytes()
