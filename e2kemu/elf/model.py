"""The parts of an ELF file in memory: symbols, relocations, sections.

They are compared by identity: two local symbols of one name are two symbols. Section data is a ``bytearray``
that the owner writes as it likes; only a NOBITS section has no data, its size is reserved.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from e2kemu.elf.constants import (
    RELOC_BY_NAME,
    RELOC_KINDS,
    Binding,
    RelocKind,
    SectionFlag,
    SectionType,
    Special,
    SymbolType,
    Visibility,
)
from e2kemu.elf.format import align_up
from e2kemu.errors import ImageError

MAX_CONTENTS = 1 << 30
"""Bytes of contents of one section or segment: more of them are a mistake, not a program."""

DATA = SectionFlag.ALLOC | SectionFlag.WRITE
CODE = SectionFlag.ALLOC | SectionFlag.EXEC

KNOWN_FLAGS = {
    ".text": CODE,
    ".init": CODE,
    ".fini": CODE,
    ".rodata": SectionFlag.ALLOC,
    ".data": DATA,
    ".bss": DATA,
    ".tdata": DATA | SectionFlag.TLS,
    ".tbss": DATA | SectionFlag.TLS,
}
"""Flags of a section by the first part of its name, for who does not say."""

KNOWN_TYPES = {
    ".bss": SectionType.NOBITS,
    ".tbss": SectionType.NOBITS,
    ".init_array": SectionType.INIT_ARRAY,
    ".fini_array": SectionType.FINI_ARRAY,
    ".preinit_array": SectionType.PREINIT_ARRAY,
}
"""sh_type likewise."""


@dataclass(eq=False, slots=True)
class Symbol:
    """A symbol. ``section`` is where it is defined, or why it is in no section.

    ``value`` is the offset in the section, the value of an absolute symbol, or the alignment of a common one;
    ``size`` is in bytes.
    """

    name: str
    section: Section | Special = Special.UNDEFINED
    value: int = 0
    size: int = 0
    binding: Binding = Binding.LOCAL
    type: SymbolType = SymbolType.NOTYPE
    visibility: Visibility = Visibility.DEFAULT

    @property
    def defined(self) -> bool:
        """It has a value in this file (a common symbol has not)."""
        return self.section not in (Special.UNDEFINED, Special.COMMON)


@dataclass(eq=False, slots=True)
class Relocation:
    """Patch the section at ``offset`` (bytes) with what ``kind`` makes of ``symbol`` and ``addend``."""

    offset: int
    kind: RelocKind
    symbol: Symbol
    addend: int = 0


@dataclass(eq=False, slots=True)
class Section:
    """A section; ``address`` is used in executables only."""

    name: str
    flags: SectionFlag
    align: int = 1
    type: int = SectionType.PROGBITS
    entsize: int = 0
    address: int = 0
    data: bytearray = field(default_factory=bytearray)
    relocations: list[Relocation] = field(default_factory=list)
    group: str | None = None
    reserved: int = 0
    own_symbol: Symbol | None = None

    @property
    def size(self) -> int:
        """Size in memory, bytes."""
        return self.reserved if self.type == SectionType.NOBITS else len(self.data)

    @property
    def end(self) -> int:
        """First address after the section."""
        return self.address + self.size

    @property
    def symbol(self) -> Symbol:
        """The section symbol: what relocations against a place without a name of its own refer to."""
        if self.own_symbol is None:
            self.own_symbol = Symbol("", self, type=SymbolType.SECTION)
        return self.own_symbol

    def reserve(self, size: int) -> int:
        """Add ``size`` zero bytes; the offset of the first. The only way to fill a NOBITS section."""
        offset = self.size
        if self.type == SectionType.NOBITS:
            self.reserved += size
        else:
            self.data += bytes(size)
        return offset

    def append(self, data: bytes, align: int = 1) -> int:
        """Add ``data`` at the next multiple of ``align``; its offset. Raises the alignment of the section if
        needed.
        """
        if self.type == SectionType.NOBITS:
            raise ImageError(f"section {self.name} has no contents: only zeros can be reserved in it")
        self.align = max(self.align, align)
        self.reserve(align_up(self.size, align) - self.size)
        offset = len(self.data)
        self.data += data
        return offset

    def relocate(
        self, offset: int, kind: RelocKind | int | str, symbol: Symbol, addend: int = 0
    ) -> Relocation:
        """Add a relocation; ``kind`` may be a number or a name. Raises KeyError for an unknown kind."""
        if isinstance(kind, str):
            kind = RELOC_BY_NAME[kind]
        elif isinstance(kind, int):
            kind = RELOC_KINDS[kind]
        relocation = Relocation(offset, kind, symbol, addend)
        self.relocations.append(relocation)
        return relocation
