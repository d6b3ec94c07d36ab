"""Where things lie: input sections are gathered into output sections, and those get their addresses.

The order in memory is code, other read-only sections, the thread image (``.tdata``, ``.tbss``), arrays of
constructors, ``.got``, data, zeros; sections of one rank keep the order in which they came. Without a word
from the user the first section follows the headers of the file at 0x10000, and the first writable section
goes to the same place of the next page, so that code and data share neither a page in memory nor waste one in
the file (the foreign linkers for e2k lay programs out in this way).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from e2kemu.elf.constants import SectionFlag, SectionType
from e2kemu.elf.format import LAYOUTS, align_up
from e2kemu.elf.model import MAX_CONTENTS, Section
from e2kemu.errors import ImageError

BASE = 0x10000
"""Address of the headers of a program when the user names none."""

_STEMS = (
    ".text",
    ".rodata",
    ".data",
    ".bss",
    ".tdata",
    ".tbss",
    ".init_array",
    ".fini_array",
    ".preinit_array",
    ".ctors",
    ".dtors",
    ".gcc_except_table",
)
_SORTED_STEMS = (".init_array", ".fini_array")
_ARRAYS = (".preinit_array", ".init_array", ".fini_array", ".ctors", ".dtors")
_KEPT_FLAGS = SectionFlag.WRITE | SectionFlag.ALLOC | SectionFlag.EXEC | SectionFlag.TLS


@dataclass(eq=False, slots=True)
class Piece:
    """An input section in its output section. ``owner`` is the name of the file it came from."""

    owner: str
    source: Section
    output: Section
    offset: int = 0

    @property
    def address(self) -> int:
        """Where the input section begins."""
        return self.output.address + self.offset


def output_name(name: str) -> str:
    """The output section for an input section: ``.text.f`` goes to ``.text``."""
    for stem in _STEMS:
        if name.startswith(stem + "."):
            return stem
    return name


def _rank(section: Section) -> int:
    if not section.flags & SectionFlag.ALLOC:
        return 99
    if not section.flags & SectionFlag.WRITE:
        return 0 if section.flags & SectionFlag.EXEC else 1
    if section.flags & SectionFlag.TLS:
        return 3 if section.type == SectionType.NOBITS else 2
    if section.name in _ARRAYS:
        return 4 + _ARRAYS.index(section.name)
    if section.name.startswith(".got"):
        return 20
    return 22 if section.type == SectionType.NOBITS else 21


def _priority(piece: Piece) -> int:
    """Constructors of priority N (``.init_array.N``) run before those without one."""
    suffix = piece.source.name.rpartition(".")[2]
    return int(suffix) if suffix.isdigit() else 1 << 16


def gather(inputs: Iterable[tuple[str, Section]]) -> tuple[list[Section], list[Piece]]:
    """Put the input sections (owner, section) into output sections with contents, without addresses."""
    members: dict[tuple[str, bool], list[Piece]] = {}
    outputs: dict[tuple[str, bool], Section] = {}
    for owner, source in inputs:
        if source.flags & SectionFlag.EXCLUDE or source.name == ".note.GNU-stack":
            continue
        key = output_name(source.name), bool(source.flags & SectionFlag.ALLOC)
        output = outputs.setdefault(key, Section(key[0], SectionFlag(0), type=source.type))
        output.flags |= source.flags & _KEPT_FLAGS
        output.align = max(output.align, source.align)
        if output.type != source.type:
            # Zeros beside contents are contents; of two kinds of contents nobody needs to know.
            output.type = SectionType.PROGBITS
        members.setdefault(key, []).append(Piece(owner, source, output))
    pieces: list[Piece] = []
    for key, output in outputs.items():
        chosen = members[key]
        if output.name in _SORTED_STEMS:
            chosen.sort(key=_priority)
        for piece in chosen:
            size = align_up(output.size, piece.source.align) + piece.source.size
            if output.type != SectionType.NOBITS and size > MAX_CONTENTS:
                raise ImageError(
                    f"{piece.owner}: section {piece.source.name} makes {output.name} {size} bytes long"
                )
            output.reserve(align_up(output.size, piece.source.align) - output.size)
            if output.type == SectionType.NOBITS or piece.source.type == SectionType.NOBITS:
                piece.offset = output.reserve(piece.source.size)
            else:
                piece.offset = output.append(bytes(piece.source.data))
        pieces += chosen
    return sorted(outputs.values(), key=_rank), pieces


def assign(
    outputs: list[Section], starts: Mapping[str, int], *, bits: int, page: int, contiguous: bool
) -> bool:
    """Give every allocated section its address; ``starts`` are those the user chose.

    ``contiguous`` lets data follow code directly. Returns whether the headers of the file have been left room
    in front of the first section. Raises ImageError for an address that does not suit the section.
    """
    layout = LAYOUTS[bits]
    allocated = [s for s in outputs if s.flags & SectionFlag.ALLOC]
    for name in starts:
        # A typo is caught; but who always gives all three of -Ttext, -Tdata and -Tbss may have no data.
        if name not in (".text", ".data", ".bss") and all(s.name != name for s in allocated):
            raise ImageError(f"there is no section {name} to place at {starts[name]:#x}")
    thread = [s for s in allocated if s.flags & SectionFlag.TLS]
    if thread:
        thread[0].align = max(
            s.align for s in thread
        )  # the image as a whole is aligned to its strictest part
    headers = bool(allocated) and allocated[0].name not in starts
    writable = any(s.flags & SectionFlag.WRITE for s in allocated)
    fixed = any(not s.flags & SectionFlag.WRITE for s in allocated)
    segments = (1 if contiguous else writable + fixed) + bool(thread)
    position = BASE + layout.ehdr_size + segments * layout.phdr_size if headers else 0
    last: Section | None = None
    for section in allocated:
        if section.name in starts:
            position = starts[section.name]
            if position % section.align:
                raise ImageError(
                    f"section {section.name} cannot begin at {position:#x}: it is aligned to {section.align}"
                )
        elif (
            last is not None
            and not contiguous
            and section.flags & SectionFlag.WRITE
            and not last.flags & SectionFlag.WRITE
        ):
            position = align_up(position, page) + position % page
        section.address = align_up(position, section.align)
        if max(section.end, section.address + 1) > layout.address_limit:
            raise ImageError(
                f"section {section.name} at {section.address:#x} of {section.size:#x} bytes leaves the "
                f"{bits}-bit address space"
            )
        if not (section.flags & SectionFlag.TLS and section.type == SectionType.NOBITS):
            position = section.end
        last = section
    return headers
