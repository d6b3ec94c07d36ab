"""Relocatable objects and archives, read from their bytes into the classes of :mod:`e2kemu.elf.writer`.

pyelftools reads the header and the section headers; the tables of fixed records (symbols, relocations) are
unpacked here at once, because an object has thousands of them. Whatever is wrong with a file becomes one
ImageError that names the file.
"""

from __future__ import annotations

import io
from struct import unpack_from
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE, ENUM_SH_TYPE_BASE

from e2kemu.elf.constants import (
    EM_E2K,
    EM_E2K_OLD,
    RELOC_KINDS,
    Binding,
    SectionFlag,
    SectionType,
    Special,
    SymbolType,
    Visibility,
    machine_of_flags,
)
from e2kemu.elf.format import LAYOUTS
from e2kemu.elf.model import Relocation, Section, Symbol
from e2kemu.elf.writer import ObjectFile
from e2kemu.errors import ImageError, one_line

ARCHIVE_MAGIC = b"!<arch>\n"
THIN_MAGIC = b"!<thin>\n"
_TABLES = (
    SectionType.SYMTAB,
    SectionType.STRTAB,
    SectionType.RELA,
    SectionType.REL,
    SectionType.GROUP,
    SectionType.SYMTAB_SHNDX,
    SectionType.NULL,
)
_OWN_FLAGS = ~(SectionFlag.GROUP | SectionFlag.INFO_LINK | SectionFlag.LINK_ORDER)


def read_object(data: bytes, name: str) -> ObjectFile:
    """The relocatable object in ``data``; ``name`` is how messages call it. Raises ImageError."""
    try:
        return _Reader(data, name).read()
    except ImageError as error:
        raise ImageError(one_line(f"{name}: {error}")) from None


class _Reader:
    """One object being read."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.object = ObjectFile(name=name)
        self.sections: dict[int, Section] = {}
        self.symbols: list[Symbol] = []

    def read(self) -> ObjectFile:
        headers = self._headers()
        self.layout = LAYOUTS[self.object.bits]
        for number, (name, h) in enumerate(headers):
            if h["sh_type"] not in _TABLES:
                self._section(number, name, h)
        tables = [number for number, (_, h) in enumerate(headers) if h["sh_type"] == SectionType.SYMTAB]
        if len(tables) > 1:
            raise ImageError("two symbol tables")
        if tables:
            self._symbols(headers, tables[0])
        for name, h in headers:
            if h["sh_type"] == SectionType.REL and h["sh_info"] in self.sections:
                raise ImageError(f"section {name}: relocations without addends are not used on e2k")
            if h["sh_type"] == SectionType.RELA:
                self._relocations(name, h, tables)
            elif h["sh_type"] == SectionType.GROUP:
                self._group(name, h)
        return self.object

    def _headers(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and fields of every section header, types as numbers; fills in class and flags."""
        if len(self.data) < 16 or self.data[:4] != b"\x7fELF":
            raise ImageError("not an ELF file")
        try:
            elf = ELFFile(io.BytesIO(self.data))
            header = elf.header
            machine = header["e_machine"]
            machine = ENUM_E_MACHINE.get(machine, machine)
            if machine not in (EM_E2K, EM_E2K_OLD):
                raise ImageError(f"e_machine {header['e_machine']} is not e2k ({EM_E2K})")
            if not elf.little_endian:
                raise ImageError("big-endian: e2k is little-endian")
            if header["e_type"] != "ET_REL":
                raise ImageError(f"not a relocatable object: e_type is {header['e_type']}")
            self.object.bits = elf.elfclass
            # The machine may stand where old toolchains put it; from here on it is where new ones do.
            rest = header["e_flags"] & 0xFFFFFF
            self.object.e_flags = machine_of_flags(header["e_flags"], machine).flags | rest
            size = LAYOUTS[elf.elfclass].shdr_size
            # Before pyelftools walks the table: a broken count would make it walk for ever.
            if header["e_shentsize"] != size and header["e_shoff"]:
                raise ImageError(f"section headers of {header['e_shentsize']} bytes, not {size}")
            count = header["e_shnum"] or 1
            if header["e_shoff"] + count * size > len(self.data):
                raise ImageError("the section headers lie outside of the file")
            if header["e_shoff"] and not header["e_shnum"]:
                raise ImageError("no section headers, or more than 65279 of them")
            found = []
            for section in elf.iter_sections():
                fields = dict(section.header)
                fields["sh_type"] = ENUM_SH_TYPE_BASE.get(fields["sh_type"], fields["sh_type"])
                found.append((section.name, fields))
            return found
        except ImageError:
            raise
        except Exception as error:
            # pyelftools fails in many ways on broken files: its own errors, those of its parser, of decoding,
            # of arithmetic.
            raise ImageError(f"broken ELF file ({_reason(error)})") from error

    def _bytes(self, name: str, h: dict[str, Any]) -> bytes:
        start, size = h["sh_offset"], h["sh_size"]
        if start + size > len(self.data):
            raise ImageError(f"section {name} lies outside of the file")
        return self.data[start : start + size]

    def _section(self, number: int, name: str, h: dict[str, Any]) -> None:
        if not isinstance(h["sh_type"], int):
            raise ImageError(f"section {name}: unknown type {h['sh_type']}")
        align = h["sh_addralign"] or 1
        if align & (align - 1):
            raise ImageError(f"section {name}: alignment {align} is not a power of two")
        if h["sh_flags"] & SectionFlag.COMPRESSED:
            raise ImageError(f"section {name} is compressed")
        section = Section(name, SectionFlag(h["sh_flags"]) & _OWN_FLAGS, align, h["sh_type"], h["sh_entsize"])
        if section.type == SectionType.NOBITS:
            section.reserve(h["sh_size"])
        else:
            section.data += self._bytes(name, h)
        self.sections[number] = section
        self.object.sections.append(section)

    def _symbols(self, headers: list[tuple[str, dict[str, Any]]], table: int) -> None:
        name, h = headers[table]
        if h["sh_link"] >= len(headers) or headers[h["sh_link"]][1]["sh_type"] != SectionType.STRTAB:
            raise ImageError(f"section {name} has no string table")
        strings = self._bytes(*headers[h["sh_link"]])
        data = self._bytes(name, h)
        if len(data) % self.layout.symbol.size:
            raise ImageError(f"section {name}: {len(data)} bytes are no whole number of symbols")
        for number, record in enumerate(self.layout.unpack_symbols(data)):
            end = strings.find(b"\0", record.name)
            if end < 0:
                raise ImageError(f"symbol {number}: its name lies outside of the string table")
            text = strings[record.name : end].decode("utf-8", "surrogateescape")
            try:
                bits = record.info >> 4
                # STB_GNU_UNIQUE is a promise about dlopen(): in a static program it is a global symbol.
                binding = Binding.GLOBAL if bits == 10 else Binding(bits)
                type = SymbolType(record.info & 15)
            except ValueError:
                raise ImageError(
                    f"symbol {number} '{text}': unknown binding or type {record.info:#x}"
                ) from None
            where: Section | Special
            if record.shndx in self.sections:
                where = self.sections[record.shndx]
            elif record.shndx in (Special.UNDEFINED, Special.ABSOLUTE, Special.COMMON):
                where = Special(record.shndx)
            elif record.shndx < len(headers):
                where = Special.ABSOLUTE  # of a table (a section symbol of .symtab, say): it has no address
            else:
                raise ImageError(
                    f"symbol {number} '{text}' is in section {record.shndx}, which does not exist"
                )
            symbol = Symbol(
                text, where, record.value, record.size, binding, type, Visibility(record.other & 3)
            )
            if where is Special.COMMON and record.value & (record.value - 1):
                raise ImageError(f"common symbol '{text}': alignment {record.value} is not a power of two")
            self.symbols.append(symbol)
            own = type == SymbolType.SECTION and not symbol.value and isinstance(where, Section)
            if own and isinstance(where, Section) and where.own_symbol is None:
                where.own_symbol = symbol
            elif number:
                self.object.symbols.append(symbol)

    def _relocations(self, name: str, h: dict[str, Any], tables: list[int]) -> None:
        section = self.sections.get(h["sh_info"])
        if section is None:
            raise ImageError(f"section {name} relocates section {h['sh_info']}, which has no contents")
        if h["sh_link"] not in tables:
            raise ImageError(f"section {name} has no symbol table")
        data = self._bytes(name, h)
        if len(data) % self.layout.rela.size:
            raise ImageError(f"section {name}: {len(data)} bytes are no whole number of relocations")
        for offset, number, kind_number, addend in self.layout.unpack_relas(data):
            where = f"{section.name}+{offset:#x}"
            kind = RELOC_KINDS.get(kind_number)
            if kind is None:
                raise ImageError(f"{where}: unknown relocation kind {kind_number}")
            if number >= len(self.symbols):
                raise ImageError(f"{where}: {kind.name} against symbol {number}, which does not exist")
            if section.type == SectionType.NOBITS or offset + kind.field.size > section.size:
                raise ImageError(f"{where}: {kind.name} lies outside of the section")
            section.relocations.append(Relocation(offset, kind, self.symbols[number], addend))

    def _group(self, name: str, h: dict[str, Any]) -> None:
        data = self._bytes(name, h)
        if len(data) % 4 or not data:
            raise ImageError(f"section {name}: {len(data)} bytes are no section group")
        flags, *members = unpack_from(f"<{len(data) // 4}I", data)
        if h["sh_info"] >= len(self.symbols):
            raise ImageError(f"section {name}: its signature is symbol {h['sh_info']}, which does not exist")
        signature = self.symbols[h["sh_info"]]
        text = signature.name
        if not text and isinstance(signature.section, Section):
            text = signature.section.name
        if flags & 1:  # GRP_COMDAT: one copy for the whole program
            for member in members:
                if member in self.sections:
                    self.sections[member].group = text


def is_archive(data: bytes) -> bool:
    """``data`` is an ``ar`` archive."""
    return data.startswith((ARCHIVE_MAGIC, THIN_MAGIC))


def read_archive(data: bytes, name: str) -> list[ObjectFile]:
    """The objects in an ``ar`` archive (GNU or BSD names), called ``lib.a(member.o)``. Raises ImageError."""
    if data.startswith(THIN_MAGIC):
        raise ImageError(f"{name}: a thin archive has no members in it; give the objects themselves")
    objects: list[ObjectFile] = []
    long_names = b""
    position = len(ARCHIVE_MAGIC)
    while position < len(data):
        head = data[position : position + 60]
        size_text = head[48:58].strip()
        if len(head) < 60 or head[58:60] != b"`\n" or not size_text.isdigit():
            raise ImageError(f"{name}: broken archive member header at offset {position:#x}")
        size = int(size_text)
        body = data[position + 60 : position + 60 + size]
        if len(body) != size:
            raise ImageError(f"{name}: the archive ends in the member at offset {position:#x}")
        label = head[:16].rstrip()
        position += 60 + size + size % 2
        if label == b"//":
            long_names = body
            continue
        if label in (b"/", b"/SYM64/") or label.startswith(b"__.SYMDEF"):
            continue
        if label.startswith(b"#1/") and label[3:].isdigit():
            length = int(label[3:])
            label, body = body[:length].rstrip(b"\0"), body[length:]
        elif label.startswith(b"/") and label[1:].isdigit():
            label = long_names[int(label[1:]) :].split(b"\n", 1)[0].rstrip(b"/")
        else:
            label = label.rstrip(b"/")
        objects.append(read_object(body, one_line(f"{name}({label.decode('utf-8', 'replace')})")))
    return objects


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
