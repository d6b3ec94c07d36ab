"""What ``e2kemu-dis`` shows of an ELF file: its header, sections, segments, symbols and relocations.

pyelftools reads the file; every complaint of its is turned into one ImageError that names the file.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE

from e2kemu.elf.constants import EM_E2K, EM_E2K_OLD, RELOC_KINDS, Machine, SectionFlag, machine_of_flags
from e2kemu.errors import ImageError


@dataclass(frozen=True)
class Symbol:
    """A symbol as ``-t`` shows it; ``where`` is a section, ``*UND*``, ``*ABS*`` or ``*COM*``."""

    name: str
    value: int
    size: int
    binding: str
    type: str
    where: str


@dataclass(frozen=True)
class Reloc:
    """A relocation of a section at ``offset`` of it (relocatable files) or at an address."""

    offset: int
    kind: str
    target: str


@dataclass(frozen=True)
class Section:
    """A section: ``data`` is b"" for those without contents."""

    name: str
    type: str
    address: int
    offset: int
    size: int
    flags: int
    data: bytes
    relocs: tuple[Reloc, ...] = ()

    @property
    def is_code(self) -> bool:
        """It holds instructions."""
        return bool(self.flags & SectionFlag.EXEC) and bool(self.data)


@dataclass
class ElfView:
    """One ELF file."""

    name: str
    bits: int
    kind: str
    machine: Machine | None
    entry: int
    flags: int
    sections: list[Section] = field(default_factory=list)
    segments: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)
    symbols: list[Symbol] = field(default_factory=list)

    def labels(self, section: Section) -> dict[int, list[str]]:
        """Address -> names of the symbols there."""
        found: dict[int, list[str]] = {}
        for symbol in self.symbols:
            if symbol.where == section.name and symbol.type in ("NOTYPE", "FUNC", "OBJECT") and symbol.name:
                found.setdefault(symbol.value + (section.address if self.kind == "REL" else 0), []).append(
                    symbol.name
                )
        return found


class Nearest:
    """Address -> ``name+0x..`` of the symbol before it."""

    def __init__(self, labels: dict[int, list[str]]) -> None:
        self._addresses = sorted(labels)
        self._labels = labels

    def text(self, address: int) -> str:
        """``<name+0x..>``, "" when no symbol is before the address."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0:
            return ""
        start = self._addresses[at]
        distance = f"+{address - start:#x}" if address != start else ""
        return f"<{self._labels[start][0]}{distance}>"


def is_elf(data: bytes) -> bool:
    """Whether the file starts as ELF files do."""
    return data[:4] == b"\x7fELF"


def read_elf(data: bytes, name: str) -> ElfView:
    """Read an ELF file for e2k. Raises ImageError when it is broken or for another machine."""
    try:
        return _read(data, name)
    except ImageError:
        raise
    except (
        ELFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        OverflowError,
        OSError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: broken ELF file: {reason}") from None
    except Exception as error:  # construct, inside pyelftools, has exceptions of its own
        raise ImageError(f"{name}: broken ELF file: {type(error).__name__}") from None


def _read(data: bytes, name: str) -> ElfView:
    elf: Any = ELFFile(io.BytesIO(data))
    number = ENUM_E_MACHINE.get(elf["e_machine"], elf["e_machine"])
    if number not in (EM_E2K, EM_E2K_OLD):
        raise ImageError(f"{name} is for machine {number}, not for e2k ({EM_E2K})")
    flags = elf["e_flags"]
    view = ElfView(
        name,
        elf.elfclass,
        str(elf["e_type"]).removeprefix("ET_"),
        machine_of_flags(flags, number),
        elf["e_entry"],
        flags,
    )
    names = [section.name for section in elf.iter_sections()]
    tables = [
        section for section in elf.iter_sections() if section["sh_type"] in ("SHT_SYMTAB", "SHT_DYNSYM")
    ]
    symbols: dict[str, list[Symbol]] = {}
    for table in tables:
        symbols[table.name] = [_symbol(entry, names) for entry in table.iter_symbols()]
    for table in tables:
        if table["sh_type"] == "SHT_SYMTAB" or len(tables) == 1:
            view.symbols += symbols[table.name][1:]
    relocs = _relocations(elf, names, symbols)
    for index, section in enumerate(elf.iter_sections()):
        if section["sh_type"] == "SHT_NULL":
            continue
        contents = b"" if section["sh_type"] == "SHT_NOBITS" else section.data()
        kind = str(section["sh_type"]).removeprefix("SHT_")
        view.sections.append(
            Section(
                section.name,
                kind,
                section["sh_addr"],
                section["sh_offset"],
                section["sh_size"],
                section["sh_flags"],
                contents,
                tuple(relocs.get(index, ())),
            )
        )
    for segment in elf.iter_segments():
        kind = str(segment["p_type"]).removeprefix("PT_")
        view.segments.append(
            (
                kind,
                segment["p_offset"],
                segment["p_vaddr"],
                segment["p_filesz"],
                segment["p_memsz"],
                segment["p_flags"],
            )
        )
    return view


def _symbol(entry: Any, names: list[str]) -> Symbol:
    index = entry["st_shndx"]
    where = {"SHN_UNDEF": "*UND*", "SHN_ABS": "*ABS*", "SHN_COMMON": "*COM*"}.get(index)
    if where is None:
        where = names[index] if isinstance(index, int) and index < len(names) else str(index)
    kind = str(entry["st_info"]["type"]).removeprefix("STT_")
    label = where if kind == "SECTION" and not entry.name else entry.name
    return Symbol(
        label,
        entry["st_value"],
        entry["st_size"],
        str(entry["st_info"]["bind"]).removeprefix("STB_"),
        kind,
        where,
    )


def _relocations(elf: Any, names: list[str], symbols: dict[str, list[Symbol]]) -> dict[int, list[Reloc]]:
    """Index of the patched section -> its relocations; 0 collects those of the whole file."""
    found: dict[int, list[Reloc]] = {}
    for section in elf.iter_sections():
        if section["sh_type"] != "SHT_RELA":
            continue
        table = symbols.get(names[section["sh_link"]], [])
        for entry in section.iter_relocations():
            kind = RELOC_KINDS.get(entry["r_info_type"])
            number = entry["r_info_sym"]
            target = table[number].name if number < len(table) else f"symbol {number}"
            addend = entry["r_addend"]
            if addend:
                target += f"{'-' if addend < 0 else '+'}{abs(addend):#x}"
            found.setdefault(section["sh_info"], []).append(
                Reloc(entry["r_offset"], kind.name if kind else f"relocation {entry['r_info_type']}", target)
            )
    for entries in found.values():
        entries.sort(key=lambda reloc: reloc.offset)
    return found


# --- views ----------------------------------------------------------------------------------------


def header_lines(view: ElfView) -> Iterator[str]:
    """The file as a whole."""
    machine = f"{view.machine.name} (v{view.machine.version})" if view.machine else "unknown machine"
    yield f"{view.name}: file format elf{view.bits}-e2k, {machine}, type {view.kind}"
    yield f"flags {view.flags:#010x}, start address {view.entry:#018x}"


def section_lines(view: ElfView) -> Iterator[str]:
    """``-h``: the section table."""
    yield "Sections:"
    yield "  Idx Name                 Type         Address          Offset   Size     Flags"
    for number, section in enumerate(view.sections, 1):
        flags = "".join(
            letter
            for bit, letter in ((2, "A"), (1, "W"), (4, "X"), (0x10, "M"), (0x20, "S"), (0x400, "T"))
            if section.flags & bit
        )
        yield (
            f"  {number:3d} {section.name:20s} {section.type:12s} {section.address:016x} "
            f"{section.offset:08x} {section.size:08x} {flags}"
        ).rstrip()


def segment_lines(view: ElfView) -> Iterator[str]:
    """The program headers."""
    yield "Program headers:"
    for kind, offset, address, in_file, in_memory, flags in view.segments:
        letters = "".join(letter if flags & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x")))
        yield (
            f"  {kind:12s} offset {offset:#010x} address {address:#018x} "
            f"file {in_file:#x} memory {in_memory:#x} {letters}"
        )


def symbol_lines(view: ElfView) -> Iterator[str]:
    """``-t``: the symbol table."""
    yield "Symbols:"
    for symbol in view.symbols:
        yield (
            f"  {symbol.value:016x} {symbol.binding.lower():6s} {symbol.type.lower():8s} {symbol.where:16s} "
            f"{symbol.size:08x} {symbol.name}"
        ).rstrip()


def relocation_lines(view: ElfView) -> Iterator[str]:
    """``-r``: relocations by section."""
    for section in view.sections:
        if section.relocs:
            yield f"Relocations of {section.name}:"
            for reloc in section.relocs:
                yield f"  {reloc.offset:016x} {reloc.kind:24s} {reloc.target}"
