"""Static executables: what a linker makes of sections that have their addresses.

Everything is checked once, in ``to_bytes``.
"""

from __future__ import annotations

from e2kemu.elf.constants import (
    ET_EXEC,
    PT_LOAD,
    PT_TLS,
    SectionFlag,
    SectionType,
    SegmentFlag,
)
from e2kemu.elf.format import LAYOUTS, SectionHeader, Segment, StringTable
from e2kemu.elf.model import MAX_CONTENTS, Section
from e2kemu.elf.writer import ElfFile, finish, place


class Executable(ElfFile):
    """A static executable (ET_EXEC): every section has its address, ``entry`` is where it starts.

    Allocated sections become loadable segments: a new one where writability changes or a page or more lies
    between, unless both share a page. ``map_headers`` lets the first segment begin with the headers if there
    is room for them in front of it.
    """

    def __init__(
        self,
        cpu: str | int = 0,
        *,
        bits: int = 64,
        name: str = "",
        entry: int = 0,
        page: int = 0x1000,
        map_headers: bool = False,
    ) -> None:
        super().__init__(cpu, bits=bits, name=name)
        self.entry = entry
        self.page = page
        self.map_headers = map_headers

    def loaded(self) -> list[Section]:
        """Sections that occupy memory, by address. The zero part of a thread image (.tbss) does not."""
        return sorted(
            (s for s in self.sections if s.flags & SectionFlag.ALLOC and s.size and not _thread_zero(s)),
            key=lambda s: s.address,
        )

    def groups(self) -> list[list[Section]]:
        """The sections of each loadable segment."""
        groups: list[list[Section]] = []
        for section in self.loaded():
            last = groups[-1][-1] if groups else None
            if last is not None:
                same_page = section.address // self.page == (last.end - 1) // self.page
                alike = not (last.flags ^ section.flags) & SectionFlag.WRITE
                # Zeros in front of data are cheaper as a gap between segments than in the file.
                zeros_first = last.type == SectionType.NOBITS and section.type != SectionType.NOBITS
                if same_page or (alike and section.address - last.end < self.page and not zeros_first):
                    groups[-1].append(section)
                    continue
            groups.append([section])
        return groups

    def flat(self) -> tuple[int, bytes]:
        """The bytes as they lie in memory, and the address of the first; trailing zero sections are left out.

        Raises ImageError if there is nothing, or more than 1 GiB from the first to the last byte.
        """
        self._check_addresses()
        sections = [s for s in self.loaded() if s.type != SectionType.NOBITS]
        if not sections:
            raise self._fail("no section has contents: nothing to write")
        base, end = sections[0].address, max(s.end for s in sections)
        if end - base > MAX_CONTENTS:
            raise self._fail(
                f"a flat image from {base:#x} to {end:#x} has {end - base} bytes, more than 1 GiB"
            )
        image = bytearray(end - base)
        for section in sections:
            image[section.address - base : section.end - base] = section.data
        return base, bytes(image)

    def to_bytes(self) -> bytes:
        """The file. Raises ImageError for sections that overlap or leave the address space."""
        layout = LAYOUTS[self.bits]
        self._check_sections()
        self._check_addresses()
        groups = self.groups()
        thread = [s for s in self.sections if s.flags & SectionFlag.TLS]
        phnum = len(groups) + bool(thread)
        head = layout.ehdr_size + phnum * layout.phdr_size
        out = bytearray(head)
        offsets: dict[int, int] = {}
        segments: list[Segment] = []
        for group in groups:
            start = group[0].address
            with_headers = self.map_headers and not segments and start % self.page >= head
            offset = start % self.page if with_headers else len(out) + (start - len(out)) % self.page
            file_end = max((s.end for s in group if s.type != SectionType.NOBITS), default=start)
            if file_end - start > MAX_CONTENTS:
                raise self._fail(
                    f"the segment from {start:#x} to {file_end:#x} has more than 1 GiB of contents"
                )
            out += bytes(offset - len(out))
            image = bytearray(file_end - start)
            flags = SegmentFlag.READ
            for section in group:
                offsets[id(section)] = offset + min(section.address, file_end) - start
                if section.type != SectionType.NOBITS:
                    image[section.address - start : section.end - start] = section.data
                flags |= SegmentFlag.WRITE if section.flags & SectionFlag.WRITE else 0
                flags |= SegmentFlag.EXEC if section.flags & SectionFlag.EXEC else 0
            out += image
            lead = offset if with_headers else 0
            segments.append(
                Segment(
                    PT_LOAD,
                    flags,
                    offset - lead,
                    start - lead,
                    file_end - start + lead,
                    max(s.end for s in group) - start + lead,
                    self.page,
                )
            )
        if thread:
            first = min(thread, key=lambda s: s.address)
            filled = [s for s in thread if s.type != SectionType.NOBITS]
            segments.append(
                Segment(
                    PT_TLS,
                    SegmentFlag.READ,
                    offsets.get(id(first), len(out)),
                    first.address,
                    max((s.end for s in filled), default=first.address) - first.address,
                    max(s.end for s in thread) - first.address,
                    max(s.align for s in thread),
                )
            )
        names, strings = StringTable(), StringTable()
        headers = [SectionHeader()]
        index = {id(section): number for number, section in enumerate(self.sections, 1)}
        for section in self.sections:
            offset = offsets.get(id(section), len(out))
            if not section.flags & SectionFlag.ALLOC and section.type != SectionType.NOBITS:
                offset = place(out, section.data, section.align)
            headers.append(
                SectionHeader(
                    names.add(section.name),
                    section.type,
                    section.flags,
                    section.address,
                    offset,
                    section.size,
                    0,
                    0,
                    section.align,
                    section.entsize,
                )
            )
        if self.symbols:
            table, first_global, _ = self._symbol_table(index, strings, executable=True)
            offset = place(out, table, layout.word)
            headers.append(
                SectionHeader(
                    names.add(".symtab"),
                    SectionType.SYMTAB,
                    0,
                    0,
                    offset,
                    len(table),
                    len(headers) + 1,
                    first_global,
                    layout.word,
                    layout.symbol.size,
                )
            )
        return finish(self, out, headers, names, strings, type=ET_EXEC, entry=self.entry, segments=segments)

    def _check_addresses(self) -> None:
        limit = LAYOUTS[self.bits].address_limit
        last: Section | None = None
        if not 0 <= self.entry < limit:
            raise self._fail(f"the entry {self.entry:#x} is outside of the {self.bits}-bit address space")
        for section in self.loaded():
            if max(section.end, section.address + 1) > limit:
                raise self._fail(
                    f"section {section.name} at {section.address:#x} of {section.size:#x} bytes leaves the "
                    f"{self.bits}-bit address space"
                )
            if last is not None and section.address < last.end:
                raise self._fail(
                    f"section {section.name} at {section.address:#x} overlaps {last.name} "
                    f"({last.address:#x}..{last.end - 1:#x})"
                )
            last = section


def _thread_zero(section: Section) -> bool:
    return bool(section.flags & SectionFlag.TLS) and section.type == SectionType.NOBITS
