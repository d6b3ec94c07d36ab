"""Objects become programs: definitions, addresses, segments, and one line for whatever is wrong."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2kemu.cpu.decode import decode
from e2kemu.elf.constants import Binding, SectionFlag, SectionType, Special, SymbolType
from e2kemu.elf.linker import LinkError, LinkOptions, Program, link
from e2kemu.elf.reader import read_object
from e2kemu.elf.writer import ObjectFile
from e2kemu.errors import ImageError

from .objects import (
    ADDD_LITERAL,
    DISP_CTPR1,
    IBRANCH,
    NOP,
    elf,
    foreign_program,
    global_function,
    simple,
    undefined,
    words,
)


def section(program: Program, name: str) -> bytes:
    return bytes(next(s for s in program.executable.sections if s.name == name).data)


def wide_instructions(code: bytes) -> list[int]:
    """Offsets of the wide instructions in ``code``."""
    offsets, at = [], 0
    while at < len(code):
        offsets.append(at)
        at += 8 * ((code[at] >> 4 & 7) + 1)
    return offsets


def as_object(program: bytes) -> ObjectFile:
    """Take a linked foreign program apart: every branch and every literal address becomes a relocation."""
    file = elf(program)
    obj = ObjectFile("e8c", name="apart.o")
    sections = {}
    for theirs in file.iter_sections():
        if theirs["sh_flags"] & SectionFlag.ALLOC:
            sections[theirs.name] = obj.section(theirs.name, theirs["sh_flags"], theirs["sh_addralign"])
            sections[theirs.name].append(theirs.data())
    text, base = sections[".text"], file.get_section_by_name(".text")["sh_addr"]
    obj.symbol("_start", text, 0, binding=Binding.GLOBAL, type=SymbolType.FUNC)
    for at in wide_instructions(bytes(text.data)):
        (head,) = struct.unpack_from("<I", text.data, at)
        cs0 = at + 4 * (1 + (head >> 12 & 1) + (head >> 26).bit_count())
        (word,) = struct.unpack_from("<I", text.data, cs0)
        if head >> 14 & 1 and word >> 30 and not word >> 28 & 3:
            target = at + 8 * ((word & 0xFFFFFFF ^ 1 << 27) - (1 << 27))
            struct.pack_into("<I", text.data, cs0, word & 0xF0000000)
            text.relocate(cs0, "R_E2K_DISP", text.symbol, target + cs0 - at)
    for name in (".rodata", ".data"):
        address = file.get_section_by_name(name)["sh_addr"]
        for at in range(0, len(text.data), 4):
            if struct.unpack_from("<I", text.data, at)[0] == address:
                struct.pack_into("<I", text.data, at, 0xFFFFFFFF)
                text.relocate(at - 4, "R_E2K_64_ABS_LIT", sections[name].symbol)
    assert base == 0x100B0
    assert len(text.relocations) == 11
    return obj


def test_a_foreign_program_taken_apart_links_to_the_same_code_at_the_same_addresses() -> None:
    theirs = elf(foreign_program())
    ours = elf(link([read_object(as_object(foreign_program()).to_bytes(), "apart.o")]).executable.to_bytes())
    for name in (".text", ".rodata", ".data"):
        assert ours.get_section_by_name(name).data() == theirs.get_section_by_name(name).data()
        assert ours.get_section_by_name(name)["sh_addr"] == theirs.get_section_by_name(name)["sh_addr"]
    assert [dict(s.header) for s in ours.iter_segments()] == [dict(s.header) for s in theirs.iter_segments()]
    assert ours.header["e_entry"] == theirs.header["e_entry"]
    assert ours.header["e_flags"] == theirs.header["e_flags"]
    symbols = {s.name: s["st_value"] for s in theirs.get_section_by_name(".symtab").iter_symbols()}
    for name in ("_start", "__bss_start", "_edata", "_end"):
        (symbol,) = ours.get_section_by_name(".symtab").get_symbol_by_name(name)
        assert symbol["st_value"] == symbols[name], name


def two_objects() -> list[ObjectFile]:
    """a.o branches to and loads from what b.o defines."""
    a, b = ObjectFile("v4", name="a.o"), ObjectFile("v4", name="b.o")
    global_function(a, "_start", words(*NOP, *DISP_CTPR1, *IBRANCH, *ADDD_LITERAL))
    text = a.section(".text")
    far, value = undefined(a, "far"), undefined(a, "value")
    text.relocate(0x0C, "R_E2K_DISP", far, 4)
    text.relocate(0x18, "R_E2K_DISP", far, 8)
    text.relocate(0x28, "R_E2K_64_ABS_LIT", value, 8)
    global_function(b, "near", words(*NOP))
    global_function(b, "far", words(*NOP))
    data = b.section(".data", align=16)
    data.append(struct.pack("<2Q", 1, 2))
    b.symbol("value", data, 0, size=16, binding=Binding.GLOBAL, type=SymbolType.OBJECT)
    return [a, b]


@pytest.mark.parametrize("through_bytes", [False, True])
def test_linked_branches_and_literals_decode_to_their_targets(through_bytes: bool) -> None:
    objects = two_objects()
    if through_bytes:
        objects = [read_object(o.to_bytes(), o.name) for o in objects]
    program = link(objects)
    code = section(program, ".text")
    base = program.addresses["_start"]
    disp = decode(code, 4, base + 8, 8)
    assert disp.cs0 is not None
    assert (disp.cs0.name, base + 8 + disp.cs0.disp) == ("disp", program.addresses["far"])
    ibranch = decode(code, 4, base + 0x10, 0x10)
    assert ibranch.cs0 is not None
    assert (ibranch.cs0.name, base + 0x10 + ibranch.cs0.disp) == ("ibranch", program.addresses["far"])
    assert struct.unpack_from("<II", code, 0x28) == (0, program.addresses["value"] + 8)


def test_linking_does_not_change_the_objects() -> None:
    objects = two_objects()
    before = [o.to_bytes() for o in objects]
    first = link(objects).executable.to_bytes()
    assert [o.to_bytes() for o in objects] == before
    assert link(objects).executable.to_bytes() == first


def test_sections_of_one_name_are_joined_each_at_its_alignment() -> None:
    a, b = simple(), simple("b.o", "f")
    a.section(".data").append(b"abc")
    b.section(".data.x", align=64).append(b"defg")
    program = link([a, b])
    data = next(s for s in program.executable.sections if s.name == ".data")
    assert data.align == 64
    assert data.address % 64 == 0
    assert data.data == b"abc" + bytes(61) + b"defg"
    assert program.addresses["f"] == program.addresses["_start"] + 8


def test_constructors_run_by_priority() -> None:
    obj = simple()
    for name, content in (
        (".init_array", b"last    "),
        (".init_array.200", b"second  "),
        (".init_array.5", b"first   "),
    ):
        obj.section(name, align=8).append(content)
    obj.section(".text").append(bytes(16))
    for offset, name in ((8, "__init_array_start"), (16, "__init_array_end")):
        obj.section(".text").relocate(offset, "R_E2K_64_ABS", undefined(obj, name))
    program = link([obj])
    assert section(program, ".init_array") == b"first   second  last    "
    start, end = struct.unpack_from("<QQ", section(program, ".text"), 8)
    assert end - start == 24


def test_addresses_are_those_of_the_command_line() -> None:
    obj = simple()
    obj.section(".rodata", align=4).append(b"const")
    obj.section(".data", align=8).append(b"data")
    obj.section(".bss", align=16).reserve(100)
    obj.section(".boot", SectionFlag.ALLOC | SectionFlag.EXEC, 8).append(words(*NOP))
    program = link(
        [obj], LinkOptions(starts={".text": 0x200000, ".data": 0x80000, ".bss": 0x90000, ".boot": 0xFF000000})
    )
    where = {s.name: s.address for s in program.executable.sections}
    assert where[".text"] == 0x200000
    assert where[".data"] == 0x80000
    assert where[".bss"] == 0x90000
    assert where[".boot"] == 0xFF000000
    segments = {s["p_vaddr"]: s for s in elf(program.executable.to_bytes()).iter_segments()}
    assert {0x200000, 0x80000, 0xFF000000} <= set(segments)
    assert all(s["p_offset"] % 0x1000 == address % 0x1000 for address, s in segments.items())


def test_every_byte_of_a_flat_image_is_where_its_segment_says() -> None:
    objects = two_objects()
    program = link(objects, LinkOptions(starts={".text": 0x1000}, contiguous=True))
    base, image = program.executable.flat()
    assert base == 0x1000
    for segment in elf(program.executable.to_bytes()).iter_segments():
        at = segment["p_vaddr"] - base
        assert image[at : at + segment["p_filesz"]] == segment.data()
    assert len(image) == 0x30 + 0x10 + 0x10


def test_code_and_data_do_not_share_a_page_unless_asked() -> None:
    segments = [s.header for s in elf(link(two_objects()).executable.to_bytes()).iter_segments()]
    assert [s["p_flags"] for s in segments] == [5, 6]
    assert segments[0]["p_vaddr"] // 0x1000 != segments[1]["p_vaddr"] // 0x1000
    (one,) = elf(link(two_objects(), LinkOptions(contiguous=True)).executable.to_bytes()).iter_segments()
    assert one["p_flags"] == 7


def test_thread_local_sections_become_one_tls_segment() -> None:
    obj = simple()
    obj.section(".tdata", align=16).append(b"initialised!")
    obj.section(".tbss", align=32).reserve(40)
    obj.section(".data", align=8).append(b"after   ")
    obj.symbol("t", obj.section(".tbss"), 8, binding=Binding.GLOBAL, type=SymbolType.TLS)
    program = link([obj])
    file = elf(program.executable.to_bytes())
    (tls,) = [s for s in file.iter_segments() if s["p_type"] == "PT_TLS"]
    assert tls.data() == b"initialised!"
    assert tls["p_memsz"] == 32 + 40
    assert tls["p_align"] == 32
    assert tls["p_vaddr"] % 32 == 0
    # The zeros of the thread image take no room in memory: data follows what is in the file.
    assert file.get_section_by_name(".data")["sh_addr"] < tls["p_vaddr"] + 32
    (symbol,) = file.get_section_by_name(".symtab").get_symbol_by_name("t")
    assert symbol["st_value"] == 40


def test_the_largest_common_block_gets_the_strictest_alignment() -> None:
    a, b = simple(), simple("b.o", "f")
    a.symbol("block", Special.COMMON, 64, size=10, binding=Binding.GLOBAL)
    b.symbol("block", Special.COMMON, 8, size=100, binding=Binding.GLOBAL)
    b.symbol("other", Special.COMMON, 4, size=4, binding=Binding.GLOBAL)
    program = link([a, b])
    assert program.addresses["block"] % 64 == 0
    bss = next(s for s in program.executable.sections if s.name == ".bss")
    assert bss.type == SectionType.NOBITS
    assert bss.size == 104
    assert program.addresses["other"] == program.addresses["block"] + 100


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_global_definition_beats_a_common_block_beats_a_weak_one(order: tuple[int, ...]) -> None:
    strong, common, weak = simple("s.o", "s"), simple("c.o", "c"), simple("w.o", "w")
    strong.symbol("x", Special.ABSOLUTE, 3, binding=Binding.GLOBAL)
    common.symbol("x", Special.COMMON, 8, size=8, binding=Binding.GLOBAL)
    weak.symbol("x", Special.ABSOLUTE, 1, binding=Binding.WEAK)
    objects = [(strong, common, weak)[i] for i in order]
    assert link(objects, LinkOptions(entry=0)).addresses["x"] == 3
    objects.remove(strong)
    assert link(objects, LinkOptions(entry=0)).owners["x"] == "c.o"


def test_a_weak_definition_yields_to_a_later_global_one() -> None:
    a, b = simple(), simple("b.o", "f")
    a.symbol("f", Special.ABSOLUTE, 0x1234, binding=Binding.WEAK)
    assert link([a, b]).owners["f"] == "b.o"


def test_two_definitions_are_one_line_with_both_places() -> None:
    with pytest.raises(LinkError) as caught:
        link([simple(), simple("b.o", "f"), simple("c.o", "f"), simple("d.o", "_start")])
    assert caught.value.problems == [
        "c.o: .text+0x0: symbol 'f' is already defined in b.o (.text+0x0)",
        "d.o: .text+0x0: symbol '_start' is already defined in a.o (.text+0x0)",
    ]
    assert str(caught.value).endswith("(and 1 more)")


def test_every_undefined_name_is_one_line_at_its_first_use() -> None:
    a, b = two_objects()
    a.section(".text").relocate(0x30, "R_E2K_64_ABS", undefined(a, "third"))
    b.symbols.clear()
    with pytest.raises(LinkError) as caught:
        link([a])
    assert caught.value.problems == [
        "a.o: .text+0xc: undefined symbol 'far'",
        "a.o: .text+0x28: undefined symbol 'value'",
        "a.o: .text+0x30: undefined symbol 'third'",
    ]


def test_one_copy_of_a_comdat_group_stays() -> None:
    objects = []
    for number in range(3):
        obj = simple(f"{number}.o", f"f{number}")
        part = obj.section(".text.shared", align=8)
        part.append(words(number, number))
        part.group = "shared"
        symbol = obj.symbol("shared", part, 0, binding=Binding.WEAK, type=SymbolType.FUNC)
        obj.section(".data", align=8).append(bytes(8))
        obj.section(".data").relocate(0, "R_E2K_64_ABS", symbol)
        objects.append(read_object(obj.to_bytes(), obj.name))
    program = link(objects, LinkOptions(entry=0))
    assert len(section(program, ".text")) == 3 * 8 + 8
    assert program.owners["shared"] == "0.o"
    assert struct.unpack("<3Q", section(program, ".data")) == (program.addresses["shared"],) * 3


def test_a_reference_into_a_dropped_copy_is_named() -> None:
    objects = []
    for number in range(2):
        obj = simple(f"{number}.o", f"f{number}")
        part = obj.section(".text.shared", align=8)
        part.append(words(*NOP))
        part.group = "shared"
        obj.symbol("shared", part, 0, binding=Binding.WEAK)
        obj.section(".data", align=8).append(bytes(8))
        obj.section(".data").relocate(0, "R_E2K_64_ABS", part.symbol)
        obj.section(".debug_info").append(bytes(8))
        obj.section(".debug_info").relocate(0, "R_E2K_64_ABS", part.symbol)
        objects.append(obj)
    with pytest.raises(LinkError) as caught:
        link(objects, LinkOptions(entry=0))
    # Debugging information about the dropped copy just becomes zero.
    assert caught.value.problems == [
        "1.o: .data+0x0: R_E2K_64_ABS against '.text.shared': it is in a section that was left out"
    ]


def test_the_linker_defines_the_ends_of_sections() -> None:
    obj = simple()
    obj.section(".data", align=8).append(bytes(8 * 9))
    obj.section(".bss", align=32).reserve(5)
    obj.section("table", SectionFlag.ALLOC, 8).append(bytes(24))
    names = [
        "_end",
        "end",
        "_edata",
        "edata",
        "__bss_start",
        "_etext",
        "etext",
        "__start_table",
        "__stop_table",
    ]
    for number, name in enumerate(names):
        obj.section(".data").relocate(8 * number, "R_E2K_64_ABS", undefined(obj, name))
    program = link([obj])
    where = {s.name: s for s in program.executable.sections}
    values = dict(zip(names, struct.unpack("<9Q", section(program, ".data")), strict=True))
    assert values["__bss_start"] == where[".bss"].address
    assert values["edata"] == values["_edata"] == where[".data"].end
    assert values["end"] == values["_end"] == where[".bss"].end + 3
    assert values["etext"] == values["_etext"] == where[".text"].end
    assert (values["__start_table"], values["__stop_table"]) == (where["table"].address, where["table"].end)


def test_a_name_of_the_linker_that_the_user_defines_is_the_user_s() -> None:
    obj = simple()
    obj.symbol("_end", Special.ABSOLUTE, 0x77, binding=Binding.GLOBAL)
    assert link([obj]).addresses["_end"] == 0x77


def test_the_slot_of_a_name_of_the_linker_holds_its_address() -> None:
    obj = simple()
    obj.section(".text").append(bytes(8))
    obj.section(".text").relocate(8, "R_E2K_GOT", undefined(obj, "_end"))
    program = link([obj])
    assert int.from_bytes(section(program, ".got"), "little") == program.addresses["_end"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x1234", 0x1234),
        ("_start", 0x100B0),
        ("_start+0x10", 0x100C0),
        ("_start - 16 + 1", 0x100A1),
        ("etext", 0x100B8),
    ],
)
def test_defsym_takes_a_number_or_a_symbol_and_a_number(text: str, value: int) -> None:
    obj = simple()
    obj.section(".data").append(b"x")
    assert link([obj], LinkOptions(defines=[("x", text)])).addresses["x"] == value


def test_wrong_defsyms_are_named() -> None:
    with pytest.raises(ImageError, match="--defsym x: 'nowhere' is neither a number nor a defined symbol"):
        link([simple()], LinkOptions(defines=[("x", "nowhere+1")]))
    with pytest.raises(LinkError, match=r"--defsym: absolute: symbol '_start' is already defined in a\.o"):
        link([simple()], LinkOptions(defines=[("_start", "1")]))


def test_the_entry_is_a_symbol_or_an_address() -> None:
    assert link([simple(function="go")], LinkOptions(entry="go")).executable.entry == 0x10078
    assert link([simple()], LinkOptions(entry=0x44)).executable.entry == 0x44
    with pytest.raises(
        ImageError, match="the entry '_start' is not defined: define it or name another with -e"
    ):
        link([simple(function="go")])
    assert link([simple(function="go")], LinkOptions(need_entry=False)).executable.entry == 0


def test_an_archive_gives_what_is_missing_and_no_more() -> None:
    a = simple()
    a.section(".text").relocate(0, "R_E2K_32_ABS", undefined(a, "first"))
    first = simple("lib.a(first.o)", "first")
    first.section(".text").relocate(0, "R_E2K_32_ABS", undefined(first, "second"))
    second = simple("lib.a(second.o)", "second")
    unused = simple("lib.a(unused.o)", "unused")
    again = simple("lib2.a(second.o)", "second")
    program = link([a], archives=[[unused, second, first], [again]])
    assert {program.owners[n] for n in ("first", "second")} == {"lib.a(first.o)", "lib.a(second.o)"}
    assert "unused" not in program.addresses
    assert (
        "unused" in link([a], LinkOptions(undefined=["unused"]), archives=[[unused, second, first]]).addresses
    )
    assert link([], archives=[[unused, simple("lib.a(start.o)")]]).owners["_start"] == "lib.a(start.o)"


def test_a_weak_mention_takes_nothing_from_an_archive() -> None:
    a = simple()
    a.section(".text").relocate(0, "R_E2K_32_ABS", undefined(a, "first", weak=True))
    assert "first" not in link([a], archives=[[simple("lib.a(first.o)", "first")]]).addresses


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (LinkOptions(starts={".text": 0x1004}), r"section \.text cannot begin at 0x1004: it is aligned to 8"),
        (LinkOptions(starts={".nothing": 0x1000}), r"there is no section \.nothing to place at 0x1000"),
        (
            LinkOptions(starts={".text": (1 << 64) - 8, ".data": 0}),
            r"section \.rodata .* leaves the 64-bit address space",
        ),
        (LinkOptions(starts={".text": 1 << 64}), r"section \.text .* leaves the 64-bit address space"),
    ],
)
def test_impossible_addresses_are_refused(options: LinkOptions, text: str) -> None:
    obj = simple()
    obj.section(".rodata").append(b"x")
    obj.section(".data").append(b"x")
    with pytest.raises(ImageError, match=text):
        link([obj], options)


def test_overlapping_sections_are_refused() -> None:
    obj = simple()
    obj.section(".data").append(b"x")
    with pytest.raises(ImageError, match=r"section \.data at 0x10000 overlaps \.text"):
        link([obj], LinkOptions(starts={".text": 0x10000, ".data": 0x10000})).executable.to_bytes()


def test_objects_of_two_classes_do_not_link() -> None:
    with pytest.raises(ImageError, match=r"b\.o: ELFCLASS32 does not link with a\.o, which is ELFCLASS64"):
        link([simple(), simple("b.o", "f", bits=32)])
    with pytest.raises(ImageError, match="no objects to link"):
        link([])


def test_a_program_of_32_bit_pointers_links() -> None:
    obj = simple(bits=32)
    obj.section(".data", align=4).append(bytes(8))
    obj.section(".data").relocate(4, "R_E2K_32_ABS", obj.symbols[0])
    obj.section(".data").relocate(0, "R_E2K_GOT", obj.symbols[0])
    program = link([read_object(obj.to_bytes(), "a.o")])
    file = elf(program.executable.to_bytes())
    assert file.elfclass == 32
    assert (
        struct.unpack("<II", section(program, ".data"))[1]
        == program.addresses["_start"]
        == file.header["e_entry"]
    )
    assert section(program, ".got") == words(program.addresses["_start"])


def test_local_symbols_stay_apart_and_stay_in_the_table() -> None:
    objects = []
    for number in range(2):
        obj = simple(f"{number}.o", f"f{number}")
        data = obj.section(".data", align=8)
        data.append(struct.pack("<QQ", number, 0))
        data.relocate(8, "R_E2K_64_ABS", obj.symbol("local", data, 0, type=SymbolType.OBJECT))
        objects.append(obj)
    program = link(objects, LinkOptions(entry=0))
    table = elf(program.executable.to_bytes()).get_section_by_name(".symtab")
    pointers = struct.unpack("<4Q", section(program, ".data"))[1::2]
    assert sorted(s["st_value"] for s in table.get_symbol_by_name("local")) == sorted(pointers)
    assert pointers[1] - pointers[0] == 16
    assert [s.name for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FILE"] == ["0.o", "1.o"]


def test_an_indirect_function_needs_a_dynamic_loader() -> None:
    obj = simple()
    obj.section(".text").relocate(
        0,
        "R_E2K_32_ABS",
        obj.symbol("pick", obj.sections[0], binding=Binding.GLOBAL, type=SymbolType.GNU_IFUNC),
    )
    with pytest.raises(LinkError, match="an indirect function needs a dynamic loader, which runs resolvers"):
        link([obj])


def test_the_map_names_every_section_file_and_symbol() -> None:
    text = link(two_objects()).map_text()
    for piece in (
        ".text a.o",
        ".text b.o",
        ".data b.o",
        "far (b.o)",
        "_end (the linker)",
        "Entry 0x00000000000100b0",
    ):
        assert piece in text


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40)), min_size=1, max_size=12), st.data())
def test_every_pointer_points_to_its_target_whatever_the_layout(
    shapes: list[tuple[int, int]], data: st.DataObject
) -> None:
    objects = []
    for number, (align, size) in enumerate(shapes):
        obj = ObjectFile(name=f"{number}.o")
        name = data.draw(st.sampled_from([".text", ".rodata", ".data", ".data.a", ".text.b"]))
        part = obj.section(name, align=8 << align)
        part.append(bytes([number]) * 8 * size)
        obj.symbol(f"s{number}", part, 8 * (size - 1), binding=Binding.GLOBAL)
        target = data.draw(st.integers(0, len(shapes) - 1))
        symbol = obj.symbols[0] if target == number else undefined(obj, f"s{target}")
        part.relocate(0, "R_E2K_64_ABS", symbol)
        objects.append((obj, target))
    program = link([obj for obj, _ in objects], LinkOptions(entry=0, contiguous=data.draw(st.booleans())))
    base, image = program.executable.flat()
    placed = {p.owner: p for p in program.pieces}
    for number, (obj, target) in enumerate(objects):
        piece = placed[obj.name]
        assert piece.address % piece.source.align == 0
        pointer = int.from_bytes(image[piece.address - base :][:8], "little")
        assert pointer == program.addresses[f"s{target}"]
        assert program.addresses[f"s{number}"] == piece.address + piece.source.size - 8
