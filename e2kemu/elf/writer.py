"""ELF files in memory, and their bytes: relocatable objects, what an assembler makes (``executable``: what a linker
makes).

    obj = ObjectFile("e8c", name="a.o")
    text = obj.section(".text", SectionFlag.ALLOC | SectionFlag.EXEC, align=8)
    start = obj.symbol("_start", text, 0, binding=Binding.GLOBAL, type=SymbolType.FUNC)
    text.data += code
    text.relocate(4, "R_E2K_DISP", start, 4)
    Path("a.o").write_bytes(obj.to_bytes())

Everything is checked once, in ``to_bytes``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from e2kemu.elf.constants import (
    ET_REL,
    SHN_LORESERVE,
    Binding,
    SectionFlag,
    SectionType,
    Special,
    SymbolType,
    Visibility,
    machine_named,
)
from e2kemu.elf.format import LAYOUTS, SectionHeader, Segment, StringTable, SymbolRecord, align_up
from e2kemu.elf.model import DATA, KNOWN_FLAGS, KNOWN_TYPES, Section, Symbol
from e2kemu.errors import ImageError, one_line


class ElfFile:
    """What objects and executables share: machine, class, sections, symbols.

    ``cpu`` is an instruction set (4, "v4") or a CPU model ("e8c"), 0 for any; ``bits`` is the width of a
    pointer (64 or 32).
    """

    def __init__(self, cpu: str | int = 0, *, bits: int = 64, name: str = "") -> None:
        self.name = name
        self.bits = bits
        self.e_flags = machine_named(cpu).flags
        self.sections: list[Section] = []
        self.symbols: list[Symbol] = []

    @property
    def layout_name(self) -> str:
        """ELFCLASS as the standard names it."""
        return f"ELFCLASS{self.bits}"

    def section(
        self,
        name: str,
        flags: SectionFlag | int | None = None,
        align: int = 1,
        *,
        type: int | None = None,
        entsize: int = 0,
    ) -> Section:
        """The section called ``name``, made if it is not there.

        Flags and type of a new one default to what the name is known for (``.text`` is code, ``.bss`` is
        NOBITS); an existing one keeps its own, and its alignment only grows. Raises ImageError if other flags
        are asked for than it has.
        """
        for section in self.sections:
            if section.name == name and section.group is None:
                if flags is not None and SectionFlag(flags) != section.flags:
                    raise ImageError(
                        f"{self.name or 'object'}: section {name} has flags {section.flags:#x}, "
                        f"not {int(flags):#x}"
                    )
                section.align = max(section.align, align)
                return section
        stem = "." + name.split(".")[1] if name.startswith(".") else name
        if flags is None:
            flags = KNOWN_FLAGS.get(stem, DATA if stem in KNOWN_TYPES else SectionFlag(0))
        if type is None:
            type = KNOWN_TYPES.get(stem, SectionType.PROGBITS)
        section = Section(name, SectionFlag(flags), align, type, entsize)
        self.sections.append(section)
        return section

    def symbol(
        self,
        name: str,
        section: Section | Special = Special.UNDEFINED,
        value: int = 0,
        *,
        size: int = 0,
        binding: Binding = Binding.LOCAL,
        type: SymbolType = SymbolType.NOTYPE,
        visibility: Visibility = Visibility.DEFAULT,
    ) -> Symbol:
        """Add a symbol. It may be completed later: its fields are plain."""
        symbol = Symbol(name, section, value, size, binding, type, visibility)
        self.symbols.append(symbol)
        return symbol

    def _fail(self, message: str) -> ImageError:
        return ImageError(one_line(f"{self.name}: {message}" if self.name else message))

    def _check_sections(self) -> None:
        for section in self.sections:
            if section.align < 0 or section.align & (section.align - 1):
                raise self._fail(f"section {section.name}: alignment {section.align} is not a power of two")

    def _symbol_table(
        self, index: dict[int, int], strings: StringTable, *, executable: bool
    ) -> tuple[bytes, int, dict[int, int]]:
        """The bytes of .symtab, the index of its first global, and index by id of each symbol."""
        layout = LAYOUTS[self.bits]
        section_symbols = [s.symbol for s in self.sections] if not executable else []
        first_address = min((s.address for s in self.sections if s.flags & SectionFlag.TLS), default=0)
        ordered = (
            [s for s in self.symbols if s.binding == Binding.LOCAL and s.type == SymbolType.FILE]
            + section_symbols
            + [s for s in self.symbols if s.binding == Binding.LOCAL and s.type != SymbolType.FILE]
        )
        first_global = len(ordered) + 1
        ordered += [s for s in self.symbols if s.binding != Binding.LOCAL]
        numbers: dict[int, int] = {}
        seen: set[str] = set()
        out = bytearray(layout.symbol.size)
        for number, symbol in enumerate(ordered, 1):
            value = symbol.value
            if isinstance(symbol.section, Special):
                shndx = int(symbol.section)
            elif id(symbol.section) in index:
                shndx = index[id(symbol.section)]
                if executable:
                    base = first_address if symbol.type == SymbolType.TLS else 0
                    value += symbol.section.address - base
            else:
                raise self._fail(
                    f"symbol '{symbol.name}' is in section {symbol.section.name} of another file"
                )
            if symbol.binding != Binding.LOCAL:
                if symbol.name in seen:
                    raise self._fail(f"symbol '{symbol.name}' is there twice")
                seen.add(symbol.name)
            numbers[id(symbol)] = number
            try:
                out += layout.pack_symbol(
                    SymbolRecord(
                        strings.add(symbol.name),
                        value % layout.address_limit,
                        symbol.size,
                        symbol.binding << 4 | symbol.type,
                        symbol.visibility,
                        shndx,
                    )
                )
            except struct.error:
                raise self._fail(
                    f"symbol '{symbol.name}': size {symbol.size} does not fit {self.layout_name}"
                ) from None
        return bytes(out), first_global, numbers


class ObjectFile(ElfFile):
    """A relocatable object (ET_REL)."""

    def to_bytes(self) -> bytes:
        """The file. Raises ImageError for a relocation outside its section, a symbol of another file, a name
        defined twice.
        """
        layout = LAYOUTS[self.bits]
        self._check_sections()
        names, strings = StringTable(), StringTable()
        out = bytearray(layout.ehdr_size)
        headers = [SectionHeader()]
        index: dict[int, int] = {}
        # Section groups (COMDAT) are sections of their own and stand before their members.
        groups: dict[str, list[int]] = {s.group: [] for s in self.sections if s.group is not None}
        for number, section in enumerate(self.sections, 1 + len(groups)):
            index[id(section)] = number
            if section.group is not None:
                groups[section.group].append(number)
        table, first_global, numbers = self._symbol_table(index, strings, executable=False)
        with_relocations = [s for s in self.sections if s.relocations]
        symtab = 1 + len(groups) + len(self.sections) + len(with_relocations)
        if symtab + 3 >= SHN_LORESERVE:
            raise self._fail(f"{len(self.sections)} sections are too many for one object")
        by_name = {s.name: numbers[id(s)] for s in self.symbols if s.binding != Binding.LOCAL}
        for signature, members in groups.items():
            if signature not in by_name:
                raise self._fail(f"section group '{signature}' has no symbol of its name")
            offset = place(out, struct.pack(f"<{len(members) + 1}I", 1, *members), 4)
            headers.append(
                SectionHeader(
                    names.add(".group"),
                    SectionType.GROUP,
                    0,
                    0,
                    offset,
                    4 * (len(members) + 1),
                    symtab,
                    by_name[signature],
                    4,
                    4,
                )
            )
        for section in self.sections:
            offset = place(out, b"" if section.type == SectionType.NOBITS else section.data, section.align)
            flags = section.flags | (SectionFlag.GROUP if section.group is not None else 0)
            headers.append(
                SectionHeader(
                    names.add(section.name),
                    section.type,
                    flags,
                    0,
                    offset,
                    section.size,
                    0,
                    0,
                    section.align,
                    section.entsize,
                )
            )
        for section in with_relocations:
            data = b"".join(self._pack_relocations(section, numbers))
            offset = place(out, data, layout.word)
            headers.append(
                SectionHeader(
                    names.add(f".rela{section.name}"),
                    SectionType.RELA,
                    SectionFlag.INFO_LINK,
                    0,
                    offset,
                    len(data),
                    symtab,
                    index[id(section)],
                    layout.word,
                    layout.rela.size,
                )
            )
        offset = place(out, table, layout.word)
        headers.append(
            SectionHeader(
                names.add(".symtab"),
                SectionType.SYMTAB,
                0,
                0,
                offset,
                len(table),
                symtab + 1,
                first_global,
                layout.word,
                layout.symbol.size,
            )
        )
        return finish(self, out, headers, names, strings, type=ET_REL)

    def _pack_relocations(self, section: Section, numbers: dict[int, int]) -> Iterator[bytes]:
        layout = LAYOUTS[self.bits]
        for r in section.relocations:
            where = f"{section.name}+{r.offset:#x}: {r.kind.name}"
            if section.type == SectionType.NOBITS or not 0 <= r.offset <= section.size - r.kind.field.size:
                raise self._fail(f"{where} lies outside of the section")
            if id(r.symbol) not in numbers:
                raise self._fail(f"{where} refers to the symbol '{r.symbol.name}' of another file")
            if r.kind.number >> layout.type_bits:
                raise self._fail(f"{where}: {self.layout_name} has no room for kind {r.kind.number}")
            try:
                yield layout.pack_rela(r.offset, numbers[id(r.symbol)], r.kind.number, r.addend)
            except struct.error:
                raise self._fail(f"{where}: addend {r.addend:#x} does not fit {self.layout_name}") from None


def place(out: bytearray, data: bytes | bytearray, align: int) -> int:
    """Append ``data`` at the next multiple of ``align`` in the file; its offset.

    Alignment beyond a page is a matter of addresses, not of the file: it would only fill the file with zeros.
    """
    out += bytes(align_up(len(out), min(align, 0x1000)) - len(out))
    offset = len(out)
    out += data
    return offset


def finish(
    file: ElfFile,
    out: bytearray,
    headers: list[SectionHeader],
    names: StringTable,
    strings: StringTable,
    *,
    type: int,
    entry: int = 0,
    segments: list[Segment] | None = None,
) -> bytes:
    """Add the string tables and the section headers, and fill in the ELF header and the program headers."""
    layout = LAYOUTS[file.bits]
    if headers[-1].type == SectionType.SYMTAB:
        offset = place(out, strings.data, 1)
        headers.append(
            SectionHeader(names.add(".strtab"), SectionType.STRTAB, 0, 0, offset, len(strings.data), align=1)
        )
    own = names.add(".shstrtab")
    offset = place(out, names.data, 1)
    headers.append(SectionHeader(own, SectionType.STRTAB, 0, 0, offset, len(names.data), align=1))
    shoff = place(out, b"", layout.word)
    out += b"".join(layout.pack_section(header) for header in headers)
    segments = segments or []
    head = layout.pack_header(
        type=type,
        flags=file.e_flags,
        entry=entry,
        phoff=layout.ehdr_size if segments else 0,
        phnum=len(segments),
        shoff=shoff,
        shnum=len(headers),
        shstrndx=len(headers) - 1,
    )
    head += b"".join(layout.pack_segment(segment) for segment in segments)
    out[: len(head)] = head
    return bytes(out)
