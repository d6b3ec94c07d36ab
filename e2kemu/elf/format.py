"""The records of an ELF file, little endian, in both classes: 64 (pointers of 8 bytes) and 32 (pointers of
4).

The two classes hold the same fields; the 32-bit records are narrower and order two of them differently.
Everything else in the package speaks of fields by name and leaves the order to :class:`Layout`.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from e2kemu.elf.constants import EM_E2K


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """A section header, by the names of the standard without ``sh_``."""

    name: int = 0
    type: int = 0
    flags: int = 0
    address: int = 0
    offset: int = 0
    size: int = 0
    link: int = 0
    info: int = 0
    align: int = 0
    entsize: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header. ``address`` is both p_vaddr and p_paddr."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    align: int


@dataclass(frozen=True, slots=True)
class SymbolRecord:
    """An entry of the symbol table."""

    name: int
    value: int
    size: int
    info: int
    other: int
    shndx: int


class Layout:
    """Sizes and packing of the records of one class."""

    def __init__(self, bits: int) -> None:
        wide = bits == 64
        self.bits = bits
        self.word = bits // 8
        self.address_limit = 1 << bits
        a = "Q" if wide else "I"
        self._ident = bytes((0x7F, 0x45, 0x4C, 0x46, 2 if wide else 1, 1, 1, 0)) + bytes(8)
        self._ehdr = Struct(f"<16sHHI{a}{a}{a}IHHHHHH")
        self._shdr = Struct(f"<II{a}{a}{a}{a}II{a}{a}")
        self._phdr = Struct("<IIQQQQQQ" if wide else "<IIIIIIII")
        self.symbol = Struct("<IBBHQQ" if wide else "<IIIBBH")
        self.rela = Struct("<QQq" if wide else "<IIi")
        self.type_bits = 32 if wide else 8
        self.ehdr_size, self.shdr_size, self.phdr_size = self._ehdr.size, self._shdr.size, self._phdr.size

    def pack_header(
        self,
        *,
        type: int,
        flags: int,
        entry: int,
        phoff: int,
        phnum: int,
        shoff: int,
        shnum: int,
        shstrndx: int,
    ) -> bytes:
        """The ELF header."""
        return self._ehdr.pack(
            self._ident,
            type,
            EM_E2K,
            1,
            entry,
            phoff,
            shoff,
            flags,
            self.ehdr_size,
            self.phdr_size if phnum else 0,
            phnum,
            self.shdr_size,
            shnum,
            shstrndx,
        )

    def pack_section(self, h: SectionHeader) -> bytes:
        """One section header."""
        return self._shdr.pack(
            h.name, h.type, h.flags, h.address, h.offset, h.size, h.link, h.info, h.align, h.entsize
        )

    def pack_segment(self, s: Segment) -> bytes:
        """One program header."""
        if self.bits == 64:
            return self._phdr.pack(
                s.type, s.flags, s.offset, s.address, s.address, s.file_size, s.memory_size, s.align
            )
        return self._phdr.pack(
            s.type, s.offset, s.address, s.address, s.file_size, s.memory_size, s.flags, s.align
        )

    def pack_symbol(self, s: SymbolRecord) -> bytes:
        """One symbol."""
        if self.bits == 64:
            return self.symbol.pack(s.name, s.info, s.other, s.shndx, s.value, s.size)
        return self.symbol.pack(s.name, s.value, s.size, s.info, s.other, s.shndx)

    def unpack_symbols(self, data: bytes) -> list[SymbolRecord]:
        """All symbols of a symbol table."""
        if self.bits == 64:
            return [
                SymbolRecord(name, value, size, info, other, shndx)
                for name, info, other, shndx, value, size in self.symbol.iter_unpack(data)
            ]
        return [SymbolRecord(*fields) for fields in self.symbol.iter_unpack(data)]

    def pack_rela(self, offset: int, symbol: int, kind: int, addend: int) -> bytes:
        """One relocation with addend."""
        return self.rela.pack(offset, symbol << self.type_bits | kind, addend)

    def unpack_relas(self, data: bytes) -> list[tuple[int, int, int, int]]:
        """All relocations of a section as (offset, symbol index, kind, addend)."""
        mask = (1 << self.type_bits) - 1
        return [
            (offset, info >> self.type_bits, info & mask, addend)
            for offset, info, addend in self.rela.iter_unpack(data)
        ]


LAYOUTS = {32: Layout(32), 64: Layout(64)}
"""The two classes by pointer width in bits."""


class StringTable:
    """A string table under construction: equal strings are stored once."""

    def __init__(self) -> None:
        self.data = bytearray(1)
        self._offsets = {"": 0}

    def add(self, text: str) -> int:
        """The offset of ``text``."""
        if text not in self._offsets:
            self._offsets[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._offsets[text]


def align_up(value: int, align: int) -> int:
    """``value`` rounded up to a multiple of ``align`` (0 and 1: unchanged)."""
    return -(-value // align) * align if align > 1 else value
